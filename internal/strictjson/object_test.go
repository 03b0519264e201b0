package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"weak"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// read returns the values at the paths as text. A path without a value is left out.
func read(data string, paths ...string) (map[string]string, error) {
	values := make([]json.RawMessage, len(paths))
	if err := strictjson.Select(paths...).Read([]byte(data), values, nil); err != nil {
		return nil, err
	}
	found := map[string]string{}
	for i, value := range values {
		if value != nil {
			found[paths[i]] = string(value)
		}
	}
	return found, nil
}

func TestReadFindsTheValuesAtPaths(t *testing.T) {
	t.Parallel()
	type values = map[string]string
	paths := []string{"a", "o", "o.a", "o.p", "o.p.a", "x.y.z", ""}
	for data, want := range map[string]values{
		`{}`:                                {},
		` { "b" : [ {"a":1} ] , "a" : 1 } `: {"a": `1`},
		`{"A":1,"a ":2,"o.a":3,"\u0061":4}`: {"a": `4`},
		`{"":0,"a":null}`:                   {"": `0`, "a": `null`},
		`{"o": {"a": [ 1 ], "p": { "a" : "x" }, "q": {"a":2}}}`: {"o": `{"a": [ 1 ], "p": { "a" : "x" }, "q": {"a":2}}`, "o.a": `[ 1 ]`, "o.p": `{ "a" : "x" }`, "o.p.a": `"x"`},
		`{"o":{"\u0070":{"a":{}}}}`:                             {"o": `{"\u0070":{"a":{}}}`, "o.p": `{"a":{}}`, "o.p.a": `{}`},
		`{"x":{"y":{"z":0,"y":{"z":1}}},"y":{"z":2}}`:           {"x.y.z": `0`},
		// A value that is not an object has no values inside.
		`{"o":null,"x":{"y":[{"z":1}]}}`: {"o": `null`},
		`{"o":"{\"a\":1}","x":1}`:        {"o": `"{\"a\":1}"`},
		`{"o":{"p":3}}`:                  {"o": `{"p":3}`, "o.p": `3`},
		// Only the last of equal keys counts. Values inside the earlier ones do not count.
		`{"a":1,"b":0,"a":2}`:                                 {"a": `2`},
		`{"a":1,"a":null}`:                                    {"a": `null`},
		`{"o":{"a":1,"p":{"a":2}},"o":{}}`:                    {"o": `{}`},
		`{"o":{"a":1},"o":7}`:                                 {"o": `7`},
		`{"o":7,"o":{"a":1}}`:                                 {"o": `{"a":1}`, "o.a": `1`},
		`{"o":{"p":{"a":1},"p":{"b":1},"a":1}}`:               {"o": `{"p":{"a":1},"p":{"b":1},"a":1}`, "o.a": `1`, "o.p": `{"b":1}`},
		`{"x":{"y":{"z":1}},"x":{"y":{}},"\u0078":{"y":"z"}}`: {},
	} {
		got, err := read(data, paths...)
		if err != nil {
			t.Errorf("%s: %v", data, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", data, diff)
		}
	}
}

func TestReadForgetsTheValuesOfTheObjectBefore(t *testing.T) {
	t.Parallel()
	values := make([]json.RawMessage, 3)
	selection := strictjson.Select("a", "b.c")
	for _, data := range []string{`{"a":1,"b":{"c":2}}`, `{}`} {
		values[2] = json.RawMessage("not of the selection")
		if err := selection.Read([]byte(data), values, nil); err != nil {
			t.Fatal(err)
		}
	}
	if values[0] != nil || values[1] != nil || string(values[2]) != "not of the selection" {
		t.Errorf("values %q", values)
	}
}

func TestValuesAreSlicesOfTheText(t *testing.T) {
	t.Parallel()
	data := []byte(`{"a":"one","o":{"a":"two"}}`)
	values := make([]json.RawMessage, 2)
	if err := strictjson.Select("a", "o.a").Read(data, values, nil); err != nil {
		t.Fatal(err)
	}
	if text, err := strictjson.Unquote(values[0], nil); err != nil || &text[0] != &data[6] || &values[1][0] != &data[20] {
		t.Errorf("values %q are copies: %v", values, err)
	}
}

func TestReadAllocatesNothingForUnknownKeys(t *testing.T) {
	var unknown strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&unknown, `"%d":[{"a":%d,"\u0062":"\u00e9"}],`, i, i)
	}
	data := []byte(`{` + unknown.String() + `"o":{` + unknown.String() + `"a":1}}`)
	values := make([]json.RawMessage, 2)
	selection := strictjson.Select("o.a", "missing")
	allocations := testing.AllocsPerRun(10, func() {
		if err := selection.Read(data, values, nil); err != nil || string(values[0]) != "1" {
			t.Fatal(err)
		}
	})
	if allocations > 10 { // a new decoder allocates this much if none can be reused
		t.Errorf("%v allocations for 2,000 unknown keys", allocations)
	}
}

// A decoder that is kept for later use must not keep the text of the object that it read.
func TestTheTextOfAReadObjectIsFreed(t *testing.T) {
	data := bytes.Repeat([]byte(" "), 1<<10)
	copy(data, `{"a":1}`)
	text := weak.Make(&data[0])
	if err := strictjson.Select("a").Read(data, make([]json.RawMessage, 1), nil); err != nil {
		t.Fatal(err)
	}
	runtime.GC() // unused decoders of a pool live through one collection
	if text.Value() != nil {
		t.Error("the text of an object that was read is still there")
	}
}

func TestOneSelectionReadsManyObjectsAtOnce(t *testing.T) {
	t.Parallel()
	selection := strictjson.Select("o.a", "b")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			values := make([]json.RawMessage, 2)
			for j := range 200 {
				a, b := fmt.Sprint(i), fmt.Sprint(j)
				err := selection.Read([]byte(`{"o":{"a":`+a+`},"b":`+b+`}`), values, nil)
				if err != nil || string(values[0]) != a || string(values[1]) != b {
					t.Errorf("o.a = %s, b = %s, %v, want %s, %s", values[0], values[1], err, a, b)
				}
			}
		})
	}
	all.Wait()
}

// The depth limit is the same as that of encoding/json.
func TestNestingIsFollowed10000Deep(t *testing.T) {
	t.Parallel()
	nested := func(open, end string, depth int) string {
		return strings.Repeat(open, depth) + "1" + strings.Repeat(end, depth)
	}
	for _, depth := range []int{9_998, 9_999, 10_000, 10_001, 1_000_000} {
		for _, data := range []string{
			`{"x":` + nested(`[`, `]`, depth) + `}`,
			`{"x":` + nested(`{"":`, `}`, depth) + `}`,
			`{"o":{"p":` + nested(`[`, `]`, depth-1) + `}}`,
			nested(`[`, `]`, depth),
			nested(`{"a":`, `}`, depth),
		} {
			_, err := read(data, "a", "o.p.q")
			_, want := referenceObject([]byte(data))
			if fmt.Sprint(err) != fmt.Sprint(want) {
				t.Errorf("%.20s..., nested %d deep: %v, want %v", data, depth, err, want)
			}
		}
	}
}

// referenceObject reads an object into a map with encoding/json. Its errors are those of this
// package.
func referenceObject(data []byte) (map[string]json.RawMessage, error) {
	var object map[string]json.RawMessage
	err := json.Unmarshal(data, &object)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		return nil, fmt.Errorf("it is a JSON %s: %w", wrongType.Value, strictjson.ErrNotObject)
	case err != nil:
		return nil, err
	case object == nil:
		return nil, fmt.Errorf("it is a JSON null: %w", strictjson.ErrNotObject)
	}
	return object, nil
}

// referenceRead finds the value at a path, one map after the other.
func referenceRead(data []byte, path string) json.RawMessage {
	key, rest, nested := strings.Cut(path, ".")
	object, err := referenceObject(data)
	if err != nil || !nested {
		return object[key]
	}
	return referenceRead(object[key], rest)
}

var fuzzedPaths = []string{"a", "b", "a.a", "a.b", "a.a.a", "b.a.b", ""}

// FuzzRead compares the package with encoding/json. Both refuse the same texts with the same
// errors, and read the same values and strings from the others.
func FuzzRead(f *testing.F) {
	for _, data := range []string{
		`{}`, `null`, `[{}]`, `-0`, `"{}"`, `true`, ` {"a":1,"A":null,"a":"é"} `, `{"a":1}x`, `{} {}`, "\ufeff{}", `{"a"`, `{"a":01}`, `{"a":1e999}`, "{\"a\":\"\x00\"}",
		`{"a":{"a":{"a":[1,{"a":2}]},"b":"\ud800\ud83d\ude00\u0000\/"},"\u0062":{"a":{"b":-1.5e+3}}}`,
		`{"a":{"a":1},"a":{"b":2},"b":3,"b":{"a":{"b":4},"a":null}}`, "{\"a\":\"\xff\",\"\xed\xa0\x80\":\"\\udc00\"}", `{"":{"":[]},"a.a":1}`,
	} {
		f.Add([]byte(data))
	}
	selection := strictjson.Select(fuzzedPaths...)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<12 {
			t.Skip("larger texts only make the fuzzer slow")
		}
		want, wantErr := referenceObject(data)
		values := make([]json.RawMessage, len(fuzzedPaths))
		err := selection.Read(data, values, nil)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || errors.Is(err, strictjson.ErrNotObject) != errors.Is(wantErr, strictjson.ErrNotObject) {
			t.Fatalf("Read(%q) = %v, want %v", data, err, wantErr)
		}
		got, err := strictjson.Object(data)
		if diff := cmp.Diff(want, got); diff != "" || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("Object(%q) = %v, want %v (-want +got):\n%s", data, err, wantErr, diff)
		}
		if wantErr != nil {
			return
		}
		for i, path := range fuzzedPaths {
			if diff := cmp.Diff(referenceRead(data, path), values[i]); diff != "" {
				t.Errorf("%s of %q (-want +got):\n%s", path, data, diff)
			}
		}
		for key, raw := range got {
			var want any
			if err := json.Unmarshal(raw, &want); err != nil {
				continue // a number that does not fit a float
			}
			text, isString := want.(string)
			if got, err := strictjson.String(raw); got != text || (err == nil) != isString {
				t.Errorf("String of %q, which is %s, = %q, %v", key, raw, got, err)
			}
		}
	})
}
