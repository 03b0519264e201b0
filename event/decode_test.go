package event_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
)

// orders is a schema with a field of each type and nested keys.
var orders = event.Schema{
	Time: "created", Rest: "payload",
	Fields: []event.Field{
		{Name: "id", Type: event.String, Required: true, Path: []string{"id"}},
		{Name: "created", Type: event.Timestamp, Required: true, Path: []string{"o", "created"}, Format: event.UnixMilli},
		{Name: "country", Type: event.String, Path: []string{"o", "to", "country"}},
		{Name: "amount", Type: event.Integer, Path: []string{"amount"}},
		{Name: "ms", Type: event.Float, Path: []string{"ms"}},
		{Name: "ok", Type: event.Boolean, Path: []string{"ok"}},
		{Name: "paid", Type: event.Timestamp, Path: []string{"paid"}, Format: event.RFC3339},
		{Name: "shipped", Type: event.Timestamp, Path: []string{"o", "shipped"}, Format: event.UnixSecond},
	},
}

func TestDecodeReadsFieldsAtEveryDepth(t *testing.T) {
	t.Parallel()
	when := at(t, "2026-03-14T09:26:53.5Z")
	for data, want := range map[string]event.Event{
		`{"id":"1","o":{"created":1773480413500,"to":{"country":"FR"},"shipped":1773480413},"amount":-1,"ms":2,"ok":false,"paid":"2026-03-14T09:26:53.5Z"}`: {
			Values: event.Values("1", when, "FR", int64(-1), 2.0, false, when, when.Truncate(time.Second)),
			Rest:   `{"o":{"created":1773480413500,"to":{"country":"FR"},"shipped":1773480413}}`,
		},
		`{"id":"","o":{"created":1773480413500,"to":null},"amount":null,"ms":null}`: {
			Values: event.Values("", when, nil, nil, nil, nil, nil, nil), Rest: `{"o":{"created":1773480413500,"to":null}}`,
		},
		// If a key occurs twice, the last value counts and replaces all of the first, in
		// fields and in the rest.
		`{"x":1,"o":{"created":1,"to":{"country":"FR"}},"id":"1","\u0078":2,"o":{"created":1773480413500}, "id" : "2" , "y" : [ 1 ] }`: {
			Values: event.Values("2", when, nil, nil, nil, nil, nil, nil), Rest: `{"\u0078":2,"o":{"created":1773480413500},"y" : [ 1 ]}`,
		},
		// Half of a surrogate pair becomes U+FFFD, in fields and in the rest.
		`{"id":"\ud83d","o":{"created":1773480413500},"\udc00":"\\ud800 \ud83d\ude00 \uD83D x"}`: {
			Values: event.Values("\ufffd", when, nil, nil, nil, nil, nil, nil), Rest: `{"o":{"created":1773480413500},"\ufffd":"\\ud800 \ud83d\ude00 \ufffd x"}`,
		},
		// Keys must match exactly, including upper and lower case.
		`{"ID":"3","id":"1","O":{},"o":{"created":1773480413500,"TO":{"country":"FR"}}}`: {
			Values: event.Values("1", when, nil, nil, nil, nil, nil, nil), Rest: `{"ID":"3","O":{},"o":{"created":1773480413500,"TO":{"country":"FR"}}}`,
		},
	} {
		got, err := event.NewDecoder(orders).Decode([]byte(data))
		if err != nil {
			t.Errorf("%s: %v", data, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", data, diff)
		}
	}
}

func TestDecodeSaysWhyDataIsNoEvent(t *testing.T) {
	t.Parallel()
	rules := rules(t, "payload", "message")
	rules.Schema = orders
	c := event.NewClassifier(rules)
	const rest = `,"o":{"created":1773480413500}`
	for _, test := range []struct {
		data   string
		reason event.Reason
		err    string
	}{
		{`{"o":{"created":1}}`, event.MissingField, `required key "id" is missing`},
		{`{"id":"1"}`, event.MissingField, `required key "o.created" is missing`},
		{`{"id":"1","o":null}`, event.MissingField, `required key "o.created" is missing`},
		{`{"id":"1","o":{}}`, event.MissingField, `required key "o.created" is missing`},
		{`{"id":"1","o":[]}`, event.WrongType, `o is "[]", want an object`},
		{`{"id":"1","o":{"created":1,"to":"FR"}}`, event.WrongType, `o.to is "\"FR\"", want an object`},
		{`{"id":null` + rest + `}`, event.WrongType, `id is "null", want a string`},
		{`{"id":"1","o":{"created":"1773480413500"}}`, event.WrongType, `o.created is "\"1773480413500\"", want an integer, as format: unix_ms says`},
		{`{"id":"1","o":{"created":1773480413.5}}`, event.WrongType, `o.created is "1773480413.5", want an integer`},
		{`{"id":"1","o":{"created":253402300800000}}`, event.BadTime, `o.created: "253402300800000" is not a time: years go from 1 to 9999`},
		{`{"id":"1","o":{"created":-9223372036854775808}}`, event.BadTime, `o.created: `},
		{`{"id":"1","o":{"created":1,"shipped":9223372036854775807}}`, event.BadTime, `o.shipped: `},
		{`{"id":"1","amount":"12"` + rest + `}`, event.WrongType, `amount is "\"12\"", want an integer of at most 64 bits, without point or exponent, null or nothing`},
		{`{"id":"1","amount":12.0` + rest + `}`, event.WrongType, `amount is "12.0"`},
		{`{"id":"1","ms":"1"` + rest + `}`, event.WrongType, `ms is "\"1\"", want a number, null or nothing`},
		{`{"id":"1","ms":1e999` + rest + `}`, event.WrongType, `ms is "1e999"`},
		{`{"id":"1","ok":1` + rest + `}`, event.WrongType, `ok is "1", want true or false, null or nothing`},
		{`{"id":"1","paid":1` + rest + `}`, event.WrongType, `paid is "1", want a string, null or nothing`},
		{`{"id":"1","paid":"now"` + rest + `}`, event.BadTime, `paid: "now" is not a time`},
		// A missing key is reported before a wrong type, and a wrong type before a bad
		// time.
		{`{"ms":"1"` + rest + `}`, event.MissingField, `"id"`},
		{`{"id":"1","paid":"now","ok":"x"` + rest + `}`, event.WrongType, `ok is`},
		{`{"id":"1","ok":"x","o":{"created":253402300800000}}`, event.WrongType, `ok is`},
	} {
		v := c.Classify(message(t, test.data))
		checkDeadLetter(t, v, test.reason)
		if !strings.Contains(fmt.Sprint(v.Err), test.err) {
			t.Errorf("%s\ngot  %v\nwant %s", test.data, v.Err, test.err)
		}
	}
}

func TestTheEventIDCanBeAField(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{"field:id": "x-1", "field:amount": "-12"} {
		r := rules(t, "payload", setting)
		r.Schema = orders
		r.MaxClockSkew = time.Hour
		m := message(t, `{"id":"x-1","amount":-12,"o":{"created":1773480413500}}`)
		if v := event.NewClassifier(r).Classify(m); v.Status != event.Counted || v.EventID != want {
			t.Errorf("%s: %s with id %q, want %q: %v", setting, v.Status, v.EventID, want, v.Err)
		}
		empty := message(t, `{"id":"","amount":0,"o":{"created":1773480413500}}`)
		v := event.NewClassifier(r).Classify(empty)
		if setting == "field:id" {
			checkDeadLetter(t, v, event.MissingID)
		} else if v.EventID != "0" {
			t.Errorf("%s: id %q, want 0", setting, v.EventID)
		}
	}
}

// reference reads an event by a schema in a slow and simple way. It shares no code with
// the program.
func reference(schema event.Schema, data []byte) ([]any, map[string]any, event.Reason) {
	switch {
	case len(data) == 0:
		return nil, nil, event.Empty
	case !utf8.Valid(data):
		return nil, nil, event.BadUTF8
	case !json.Valid(data):
		return nil, nil, event.BadJSON
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil || object == nil {
		return nil, nil, event.NotAnObject
	}
	raw := make([]json.RawMessage, len(schema.Fields))
	notObject := make([]bool, len(schema.Fields))
	for i, f := range schema.Fields {
		raw[i], notObject[i] = follow(object, f.Path)
	}
	for i, f := range schema.Fields {
		if f.Required && raw[i] == nil && !notObject[i] {
			return nil, nil, event.MissingField
		}
	}
	values := make([]any, len(raw))
	badTime := false
	for i, f := range schema.Fields {
		switch {
		case notObject[i]:
			return nil, nil, event.WrongType
		case raw[i] == nil, string(raw[i]) == "null" && !f.Required:
			continue
		}
		value, reason := referenceValue(f, raw[i])
		switch {
		case reason == event.BadTime: // times are checked after all types
			badTime = true
		case reason != "":
			return nil, nil, reason
		}
		values[i] = value
	}
	if badTime {
		return nil, nil, event.BadTime
	}
	rest := map[string]any{}
	for key, value := range object {
		whole := false
		for _, f := range schema.Fields {
			whole = whole || len(f.Path) == 1 && f.Path[0] == key
		}
		if !whole {
			rest[key], _ = numbersKept(value)
		}
	}
	return values, rest, ""
}

// numbersKept decodes a JSON value and keeps the text of its numbers.
func numbersKept(data []byte) (value any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	err = decoder.Decode(&value)
	return value, err
}

// follow returns the value that the path of keys leads to. notObject says that a value on
// the way is neither an object nor null.
func follow(object map[string]json.RawMessage, path []string) (value json.RawMessage, notObject bool) {
	value, ok := object[path[0]]
	if !ok || len(path) == 1 {
		return value, false
	}
	var inner map[string]json.RawMessage
	if err := json.Unmarshal(value, &inner); err != nil {
		return nil, true
	}
	return follow(inner, path[1:])
}

func referenceValue(f event.Field, raw json.RawMessage) (any, event.Reason) {
	var value any
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, event.BadJSON
	}
	number, isNumber := value.(json.Number)
	text, isText := value.(string)
	switch f.Type {
	case event.String:
		if !isText {
			return nil, event.WrongType
		}
		return text, ""
	case event.Boolean:
		if b, ok := value.(bool); ok {
			return b, ""
		}
		return nil, event.WrongType
	case event.Float:
		x, err := strconv.ParseFloat(number.String(), 64)
		if !isNumber || err != nil {
			return nil, event.WrongType
		}
		return x, ""
	}
	if f.Type == event.Timestamp && f.Format == event.RFC3339 {
		if !isText {
			return nil, event.WrongType
		}
		if t, ok := oracleTime(text); ok {
			return t, ""
		}
		return nil, event.BadTime
	}
	n, ok := new(big.Int).SetString(number.String(), 10)
	if !isNumber || !ok || !integerShape.MatchString(number.String()) || !n.IsInt64() {
		return nil, event.WrongType
	}
	if f.Type == event.Integer {
		return n.Int64(), ""
	}
	perSecond := big.NewInt(1)
	if f.Format == event.UnixMilli {
		perSecond = big.NewInt(1000)
	}
	seconds, fraction := new(big.Int).DivMod(n, perSecond, new(big.Int))
	if seconds.Cmp(big.NewInt(-62135596800)) < 0 || seconds.Cmp(big.NewInt(253402300800)) >= 0 {
		return nil, event.BadTime
	}
	return time.Unix(seconds.Int64(), fraction.Int64()*1_000_000).UTC(), ""
}

// FuzzDecode compares the decoder with the reference. Both must give the same reason, or
// the same values and the same rest.
func FuzzDecode(f *testing.F) {
	for _, data := range []string{
		`{"id":"1","o":{"created":1773480413500,"to":{"country":"FR"},"shipped":-1},"amount":1,"ms":2e3,"ok":true,"paid":"2026-03-14 09:26:53"}`,
		`{"id":"1","o":{"created":1},"o":{"created":2,"to":{}},"x":{"a":1,"a":2},"\u0078":"\ud800"}`,
		`{"id":"1","o":{"created":1,"to":[]}}`, `{"id":"1","o":null}`, `{"id":"1","o":7,"o":{"created":62135596800001}}`,
		`{"id":"1","o":{"created":-62135596800001}}`, `{"id":"1","o":{"created":1,"shipped":253402300800}}`, `[{}]`, `{"id":"1","o":{"created":1}} x`,
	} {
		f.Add([]byte(data))
	}
	decoder := event.NewDecoder(orders)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 || tooDeep(data) {
			t.Skip()
		}
		checkAgainstReference(t, orders, decoder, data)
	})
}

// checkAgainstReference compares what the decoder and the reference read.
func checkAgainstReference(t *testing.T, schema event.Schema, decoder *event.Decoder, data []byte) {
	t.Helper()
	got, err := decoder.Decode(data)
	values, rest, reason := reference(schema, data)
	if (err != nil) != (reason != "") || err != nil && event.ReasonOf(err) != reason {
		t.Fatalf("%q: %v, want reason %q", data, err, reason)
	}
	if err != nil {
		return
	}
	if diff := cmp.Diff(event.Values(values...), got.Values); diff != "" {
		t.Errorf("%q (-want +got)\n%s", data, diff)
	}
	if schema.Rest == "" {
		if got.Rest != "" {
			t.Errorf("%q: the rest is %s, and the schema has none", data, got.Rest)
		}
	} else if gotRest, err := numbersKept([]byte(got.Rest)); err != nil {
		t.Fatalf("%q: the rest %s: %v", data, got.Rest, err)
	} else if diff := cmp.Diff(any(rest), gotRest); diff != "" {
		t.Errorf("%q: rest (-want +got)\n%s", data, diff)
	}
	// An event that was read and is written again must be the same event.
	again, err := schema.Encode(got)
	if err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	back, err := decoder.Decode(again)
	if diff := cmp.Diff(got.Values, back.Values); err != nil || diff != "" {
		t.Errorf("%q written as %s: %v (-want +got)\n%s", data, again, err, diff)
	}
}
