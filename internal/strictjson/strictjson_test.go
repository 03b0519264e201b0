package strictjson_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

func TestObjectReturnsValuesUndecoded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		data string
		want map[string]string
	}{
		"empty":                   {`{}`, map[string]string{}},
		"white space around":      {" \t\r\n{ } \t\r\n", map[string]string{}},
		"every kind of value":     {`{"s":"x","n":-1.50e+3,"t":true,"f":false,"z":null,"a":[1, 2],"o":{"s":1}}`, map[string]string{"s": `"x"`, "n": `-1.50e+3`, "t": `true`, "f": `false`, "z": `null`, "a": `[1, 2]`, "o": `{"s":1}`}},
		"no white space in value": {"{ \"a\" :\n null , \"b\" : 7\t}", map[string]string{"a": `null`, "b": `7`}},
		"keys in their own case":  {`{"id":1,"ID":2,"Id":3}`, map[string]string{"id": `1`, "ID": `2`, "Id": `3`}},
		"last duplicate":          {`{"a":1,"b":0,"a":"two"}`, map[string]string{"a": `"two"`, "b": `0`}},
		"last duplicate is null":  {`{"a":1,"a":null}`, map[string]string{"a": `null`}},
		"escaped key is the key":  {`{"\u0061":1}`, map[string]string{"a": `1`}},
		"empty key":               {`{"":1}`, map[string]string{"": `1`}},
		"numbers past any type":   {`{"n":1e999999,"m":123456789012345678901234567890}`, map[string]string{"n": `1e999999`, "m": `123456789012345678901234567890`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object, err := strictjson.Object([]byte(test.data))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for key, raw := range object {
				got[key] = string(raw)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestObjectTellsOtherJSONFromBrokenJSON(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`null`, ` null `, `true`, `false`, `0`, `-1.5e3`, `1e999`, `""`, `"{}"`, `[]`, `[{}]`, "\n[1]\n"} {
		if object, err := strictjson.Object([]byte(data)); !errors.Is(err, strictjson.ErrNotObject) || object != nil {
			t.Errorf("Object(%q) = %v, %v, want ErrNotObject", data, object, err)
		}
	}
	for _, data := range []string{
		``, ` `, "\x00", `{`, `}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{a:1}`, `{'a':1}`, `{"a":1 "b":2}`, `{"a":+1}`, `{"a":01}`, `{"a":-}`, `{"a":.5}`,
		`{"a":5.}`, `{"a":1e}`, `{"a":NaN}`, `{"a":Infinity}`, `{"a":undefined}`, `{"a":True}`, `{"a":nul}`, `{"a":"\x"}`, "{\"a\":\"\n\"}", `{"a":"`,
		`{}{}`, `{} {}`, `{}x`, `{},`, `{}]`, "{}\x00", `[] []`, `null null`, `[`, `"`, "\ufeff{}", "\u00a0{}", "{} // comment", "/**/{}",
		strings.Repeat(`{"a":`, 20000) + `1` + strings.Repeat(`}`, 20000),
		`{"a":` + strings.Repeat(`[`, 1_000_000),
	} {
		object, err := strictjson.Object([]byte(data))
		if err == nil || errors.Is(err, strictjson.ErrNotObject) || object != nil {
			t.Errorf("Object(%.40q) = %v, %v, want a syntax error", data, object, err)
		}
	}
}

func TestStringTakesStringsOnly(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`""`:                       "",
		`"x"`:                      "x",
		`"null"`:                   "null",
		`"\"GET / HTTP/1.0\""`:     `"GET / HTTP/1.0"`,
		`"\u00e9\n\/\\\u0000"`:     "é\n/\\\x00",
		`"\ud83d\ude00"`:           "😀",
		`"é😀"`:                     "é😀",
		`"\ud800"`:                 "\ufffd", // half a surrogate pair is valid JSON, but not a character
		`"\ud800\u0041"`:           "\ufffdA",
		"\"\u007f\u2028\"":         "\u007f\u2028",
		`"` + `a\tb` + `"`:         "a\tb",
		`"-6120394857710293846"`:   "-6120394857710293846",
		`"` + longText + `"`:       longText,
		`"` + longText + `\u0021"`: longText + "!",
	} {
		if got, err := strictjson.String(json.RawMessage(raw)); err != nil || got != want {
			t.Errorf("String(%.40s) = %.40q, %v, want %.40q", raw, got, err, want)
		}
	}
	for _, raw := range []string{``, `null`, `true`, `0`, `1.5`, `[]`, `["x"]`, `{}`, `"`, `"x`, `"\x"`, `"a"b`, `x"a"`} {
		if got, err := strictjson.String(json.RawMessage(raw)); err == nil {
			t.Errorf("String(%s) = %q, want an error", raw, got)
		}
	}
	if _, err := strictjson.String(nil); err == nil {
		t.Error("String(nil) is not an error: an absent key would be an empty string")
	}
}

const longText = "Mozilla/5.0 (Windows; U; Windows NT 6.1) AppleWebKit/534.18.4 (KHTML"
