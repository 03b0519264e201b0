package event_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
)

func TestClassifyReadsEveryField(t *testing.T) {
	t.Parallel()
	lat, lng := 48.8566, 2.3522
	when := at(t, "2026-03-14T09:26:53.589793Z")
	want := event.Verdict{
		Status: event.Counted,
		Event: accesslog.Record{
			IP: "198.51.100.23", UserID: "-6120394857710293846", UserAgent: "Mozilla/5.0 (KHTML", Lat: &lat, Lng: &lng,
			Timestamp: when, HTTPRequest: `"GET fungi.html HTTP/1.0"`, HTTPResponse: 200, NumBytes: 287,
		}.Event(),
		EventID: "1", EventTime: when, Window: at(t, "2026-03-14T09:26:00Z"), HasTime: true,
	}
	if diff := cmp.Diff(want, defaults(t).Classify(message(t, valid))); diff != "" {
		t.Error(diff)
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	for name, test := range map[string]struct {
		data string
		want event.Reason // empty if the text is an event
	}{
		// The body as a whole:
		"plain":                          {valid, ""},
		"white space around":             {"\r\n\t " + valid + " \n\t\r", ""},
		"no data":                        {"", event.Empty},
		"white space only":               {" \n", event.BadJSON},
		"NUL":                            {"\x00", event.BadJSON},
		"byte order mark":                {"\ufeff" + valid, event.BadJSON},
		"no-break space":                 {"\u00a0" + valid, event.BadJSON},
		"UTF-16":                         {"{\x00}\x00", event.BadJSON},
		"trailing object":                {valid + "{}", event.BadJSON},
		"trailing object on a line":      {valid + "\n" + valid, event.BadJSON},
		"trailing comma":                 {valid + ",", event.BadJSON},
		"trailing NUL":                   {valid + "\x00", event.BadJSON},
		"trailing bad UTF-8":             {valid + "\xff", event.BadUTF8},
		"comma before the brace":         {strings.TrimSuffix(valid, "}") + ",}", event.BadJSON},
		"cut":                            {valid[:100], event.BadJSON},
		"cut inside a character":         {`{"ip": "` + "\xc3", event.BadUTF8},
		"single quotes":                  {strings.ReplaceAll(valid, `"`, `'`), event.BadJSON},
		"not JSON":                       {"ip=198.51.100.23", event.BadJSON},
		"null":                           {"null", event.NotAnObject},
		"array":                          {"[" + valid + "]", event.NotAnObject},
		"string":                         {`"` + "hello" + `"`, event.NotAnObject},
		"number":                         {"42", event.NotAnObject},
		"boolean":                        {"true", event.NotAnObject},
		"array cut":                      {"[" + valid, event.BadJSON},
		"null twice":                     {"null null", event.BadJSON},
		"empty object":                   {"{}", event.MissingField},
		"too deep for the decoder":       {deep, event.BadJSON},
		"too deep in an unknown key":     {`{"extra": ` + deep + `, ` + valid[1:], event.BadJSON},
		"deep in an unknown key":         {`{"extra": ` + deep[15_000:25_000] + `, ` + valid[1:], ""},
		"an unknown number past float64": {`{"extra": 1e999, ` + valid[1:], ""},

		// UTF-8:
		"stray continuation byte":       {with(t, "ip", "\"\x80\""), event.BadUTF8},
		"overlong slash":                {with(t, "ip", "\"\xc0\xaf\""), event.BadUTF8},
		"surrogate in UTF-8":            {with(t, "ip", "\"\xed\xa0\x80\""), event.BadUTF8},
		"past the last code point":      {with(t, "ip", "\"\xf4\x90\x80\x80\""), event.BadUTF8},
		"Latin-1":                       {with(t, "ip", "\"caf\xe9\""), event.BadUTF8},
		"bad UTF-8 in an unknown key":   {"{\"\xff\": 1, " + valid[1:], event.BadUTF8},
		"the replacement character":     {with(t, "ip", "\"\ufffd\""), ""},
		"four-byte characters":          {with(t, "ip", `"😀"`), ""},
		"half an escaped surrogate":     {with(t, "ip", `"\ud800"`), ""}, // valid UTF-8 and valid JSON
		"escaped NUL":                   {with(t, "ip", `"\u0000"`), ""},
		"raw control character":         {with(t, "ip", "\"\x01\""), event.BadJSON},
		"raw line feed":                 {with(t, "ip", "\"a\nb\""), event.BadJSON},
		"unknown escape":                {with(t, "ip", `"\x41"`), event.BadJSON},
		"broken escape in unknown keys": {`{"\u12": 1, ` + valid[1:], event.BadJSON},

		// Keys:
		"unknown keys":                     {`{"extra": {"ip": 1}, "": null, ` + valid[1:], ""},
		"another case beside the key":      {`{"User_ID": 9, "IP": null, "TIMESTAMP": 1, ` + valid[1:], ""},
		"another case after the key":       {strings.TrimSuffix(valid, "}") + `, "NUM_BYTES": "x", "Lat": "x"}`, ""},
		"another case instead of the key":  {strings.Replace(valid, `"user_id"`, `"User_Id"`, 1), event.MissingField},
		"folded letter instead of the key": {strings.Replace(valid, `"user_id"`, `"uſer_id"`, 1), event.MissingField},
		"space in the key":                 {strings.Replace(valid, `"ip"`, `"ip "`, 1), event.MissingField},
		"key escaped":                      {strings.Replace(valid, `"ip"`, `"\u0069p"`, 1), ""},
		"key only inside another":          {`{"event": ` + valid + `}`, event.MissingField},
		"good after bad":                   {`{"num_bytes": "x", "ip": null, ` + valid[1:], ""},
		"bad after good":                   {strings.TrimSuffix(valid, "}") + `, "num_bytes": "287"}`, event.WrongType},
		"null after good":                  {strings.TrimSuffix(valid, "}") + `, "ip": null}`, event.WrongType},
		"escaped duplicate":                {strings.TrimSuffix(valid, "}") + `, "\u0069p": 1}`, event.WrongType},

		// Latitude and longitude:
		"lat missing":           {with(t, "lat", ""), ""},
		"lng missing":           {with(t, "lng", ""), ""},
		"lat null":              {with(t, "lat", "null"), ""},
		"lng null":              {with(t, "lng", "null"), ""},
		"lat with exponent":     {with(t, "lat", "-4.8E+1"), ""},
		"lat off the globe":     {with(t, "lat", "1e300"), ""},
		"lat integer":           {with(t, "lat", "48"), ""},
		"lat of many digits":    {with(t, "lat", "0."+strings.Repeat("1", 1000)), ""},
		"lat underflows":        {with(t, "lat", "1e-999"), ""},
		"lat overflows":         {with(t, "lat", "1e999"), event.WrongType},
		"lng overflows":         {with(t, "lng", "-1e309"), event.WrongType},
		"lat string":            {with(t, "lat", `"48.8566"`), event.WrongType},
		"lng empty string":      {with(t, "lng", `""`), event.WrongType},
		"lng string null":       {with(t, "lng", `"null"`), event.WrongType},
		"lat boolean":           {with(t, "lat", "false"), event.WrongType},
		"lat array":             {with(t, "lat", "[48]"), event.WrongType},
		"lng object":            {with(t, "lng", "{}"), event.WrongType},
		"lat NaN":               {with(t, "lat", "NaN"), event.BadJSON},
		"lat Infinity":          {with(t, "lat", "-Infinity"), event.BadJSON},
		"lat with plus":         {with(t, "lat", "+48.0"), event.BadJSON},
		"lat without digit":     {with(t, "lat", ".5"), event.BadJSON},
		"lat with bare point":   {with(t, "lat", "5."), event.BadJSON},
		"lat in another script": {with(t, "lat", "٤٨"), event.BadJSON},

		// The timestamp. TestParseTimeAccepts and others test its grammar.
		"time without zone":        {with(t, "timestamp", `"2026-03-14 09:26:53"`), ""},
		"time escaped":             {with(t, "timestamp", `"2026-03-14\u005409:26:53"`), ""},
		"time empty":               {with(t, "timestamp", `""`), event.BadTime},
		"time with space":          {with(t, "timestamp", `" 2026-03-14T09:26:53Z"`), event.BadTime},
		"time of no day":           {with(t, "timestamp", `"2026-02-30T09:26:53Z"`), event.BadTime},
		"second 60":                {with(t, "timestamp", `"2026-03-14T09:26:60Z"`), event.BadTime},
		"year 0":                   {with(t, "timestamp", `"0000-03-14T09:26:53Z"`), event.BadTime},
		"millis as a string":       {with(t, "timestamp", `"1773480413589"`), event.BadTime}, // only an attribute may have milliseconds
		"millis as a number":       {with(t, "timestamp", `1773480413589`), event.WrongType},
		"time of another calendar": {with(t, "timestamp", `"03/14/2026 09:26:53"`), event.BadTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := defaults(t).Classify(message(t, test.data))
			if test.want == "" {
				if v.Status != event.Counted || v.Reason != "" || v.Err != nil {
					t.Errorf("%s, %s: %v, want an event", v.Status, v.Reason, v.Err)
				}
				return
			}
			checkDeadLetter(t, v, test.want)
		})
	}
}

// checkDeadLetter reports everything that is wrong with a dead letter.
func checkDeadLetter(t *testing.T, v event.Verdict, want event.Reason) {
	t.Helper()
	if v.Status != event.DeadLetter || v.Reason != want {
		t.Errorf("%s, reason %q, want a dead letter, reason %q", v.Status, v.Reason, want)
	}
	if v.Err == nil || v.Err.Error() == "" || len(v.Err.Error()) > 1000 {
		t.Errorf("detail %.80q, want a few words", fmt.Sprint(v.Err))
	}
	if v.Event.Values != nil {
		t.Errorf("a dead letter with the event %+v", v.Event)
	}
	if v.HasTime != (want == event.TooFarAhead) || v.HasTime == v.EventTime.IsZero() || !v.Window.IsZero() {
		t.Errorf("a dead letter must have no time: has time %v, event time %v, window %v", v.HasTime, v.EventTime, v.Window)
	}
}

var (
	stringKeys   = []string{"ip", "user_id", "http_request", "user_agent"}
	integerKeys  = []string{"http_response", "num_bytes"}
	requiredKeys = []string{"ip", "user_id", "timestamp", "http_request", "http_response", "num_bytes", "user_agent"}
)

func TestSevenKeysAreRequiredAndNotNull(t *testing.T) {
	t.Parallel()
	for _, key := range requiredKeys {
		missing := defaults(t).Classify(message(t, with(t, key, "")))
		checkDeadLetter(t, missing, event.MissingField)
		null := defaults(t).Classify(message(t, with(t, key, "null")))
		checkDeadLetter(t, null, event.WrongType)
		for _, v := range []event.Verdict{missing, null} {
			if !strings.Contains(fmt.Sprint(v.Err), key) {
				t.Errorf("detail %q does not name %s", v.Err, key)
			}
		}
		for _, wrong := range []string{"true", "[]", "{}", `["x"]`, `{"a": "x"}`, "1.5"} {
			checkDeadLetter(t, defaults(t).Classify(message(t, with(t, key, wrong))), event.WrongType)
		}
	}
}

func TestStringsMayHoldAnything(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1<<20)
	for _, key := range stringKeys {
		for text, want := range map[string]string{
			`""`: "", `" "`: " ", `"null"`: "null", `"42"`: "42", `"\"\\\/\b\f\n\r\t\u00e9"`: "\"\\/\b\f\n\r\té", `"` + long + `"`: long,
		} {
			v := defaults(t).Classify(message(t, with(t, key, text)))
			if v.Status != event.Counted {
				t.Errorf("%s = %.40s: %s, %v", key, text, v.Reason, v.Err)
				continue
			}
			r := accesslog.Of(v.Event)
			got := map[string]string{"ip": r.IP, "user_id": r.UserID, "http_request": r.HTTPRequest, "user_agent": r.UserAgent}[key]
			if got != want {
				t.Errorf("%s = %.40q, want %.40q", key, got, want)
			}
		}
		for _, wrong := range []string{"42", "-6120394857710293846", "0"} {
			checkDeadLetter(t, defaults(t).Classify(message(t, with(t, key, wrong))), event.WrongType)
		}
	}
}

func TestIntegersHave64BitsAndNoPointOrExponent(t *testing.T) {
	t.Parallel()
	for _, key := range integerKeys {
		for text, want := range map[string]int64{
			"0": 0, "-0": 0, "1": 1, "-1": -1, "200": 200, "9007199254740993": 9007199254740993, // a float64 could not tell this number from the next
			"9223372036854775807": math.MaxInt64, "-9223372036854775808": math.MinInt64,
		} {
			v := defaults(t).Classify(message(t, with(t, key, text)))
			if v.Status != event.Counted {
				t.Errorf("%s = %s: %s, %v", key, text, v.Status, v.Err)
				continue
			}
			r := accesslog.Of(v.Event)
			if got := map[string]int64{"http_response": r.HTTPResponse, "num_bytes": r.NumBytes}[key]; got != want {
				t.Errorf("%s = %s: %d", key, text, got)
			}
		}
		for _, wrong := range []string{
			"9223372036854775808", "-9223372036854775809", "18446744073709551615", strings.Repeat("9", 100_000), "1.0", "200.0", "-0.0", "1e2", "1E2", "1e0", "0e0", "1e-2", "1e999",
			`"200"`, `"+1"`, `""`, `"0x10"`,
		} {
			checkDeadLetter(t, defaults(t).Classify(message(t, with(t, key, wrong))), event.WrongType)
		}
		for _, noJSON := range []string{"+1", "01", "-01", "00", "--1", "-", "0x10", "1_000", "1n", "١"} {
			checkDeadLetter(t, defaults(t).Classify(message(t, with(t, key, noJSON))), event.BadJSON)
		}
	}
}

func TestNullAndMissingPlacesAreAbsent(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "null"} {
		if v := defaults(t).Classify(message(t, with(t, "lat", text))); accesslog.Of(v.Event).Lat != nil || accesslog.Of(v.Event).Lng == nil {
			t.Errorf("lat %q: %v %v", text, accesslog.Of(v.Event).Lat, accesslog.Of(v.Event).Lng)
		}
		if v := defaults(t).Classify(message(t, with(t, "lng", text))); accesslog.Of(v.Event).Lat == nil || accesslog.Of(v.Event).Lng != nil {
			t.Errorf("lng %q: %v %v", text, accesslog.Of(v.Event).Lat, accesslog.Of(v.Event).Lng)
		}
	}
	// Latitude and longitude 0 are a place, off the coast of Ghana, and not a missing
	// value.
	if v := defaults(t).Classify(message(t, with(t, "lat", "0.0"))); accesslog.Of(v.Event).Lat == nil || *accesslog.Of(v.Event).Lat != 0 {
		t.Errorf("lat 0.0 is %v", accesslog.Of(v.Event).Lat)
	}
}

func TestOfADuplicateKeyTheLastCounts(t *testing.T) {
	t.Parallel()
	data := strings.TrimSuffix(valid, "}") + `, "ip": "last", "num_bytes": 1, "num_bytes": 2, "lat": null, "timestamp": "2026-03-14T09:27:00Z"}`
	m := message(t, data)
	m.PublishTime = at(t, "2026-03-14T09:27:01Z")
	v := defaults(t).Classify(m)
	if accesslog.Of(v.Event).IP != "last" || accesslog.Of(v.Event).NumBytes != 2 || accesslog.Of(v.Event).Lat != nil || !v.Window.Equal(at(t, "2026-03-14T09:27:00Z")) {
		t.Errorf("%+v", v)
	}
}

// A message whose id or publish time is ambiguous is no event, whatever its data is.
func TestAnAmbiguousMessageIsADeadLetter(t *testing.T) {
	t.Parallel()
	for _, data := range []string{valid, "", "{"} {
		m := message(t, data)
		m.Ambiguous = "header x has two values"
		v := classifier(t, "payload", "message").Classify(m)
		checkDeadLetter(t, v, event.AmbiguousMetadata)
		if v.EventID != m.ID || v.HasTime || v.Err.Error() != m.Ambiguous {
			t.Errorf("%q: verdict %+v, want the message's id, no time and what is ambiguous", data, v)
		}
	}
}

// If several things are wrong with a message, every delivery must get the same reason:
// the one that comes first in this list.
func TestPrecedenceOfReasons(t *testing.T) {
	t.Parallel()
	ahead := `"2026-03-14T09:40:00Z"`
	for _, test := range []struct {
		name, data string
		attributes map[string]string
		want       event.Reason
	}{
		{"empty before attribute", "", nil, event.Empty},
		{"UTF-8 before JSON", "{\xff", nil, event.BadUTF8},
		{"JSON before object", "[", nil, event.BadJSON},
		{"object before attribute", "[]", nil, event.NotAnObject},
		{"missing before type", `{"ip": 1, "timestamp": "x"}`, nil, event.MissingField},
		{"type before time", strings.Replace(with(t, "timestamp", `"x"`), `287`, `"287"`, 1), nil, event.WrongType},
		{"time before attribute", with(t, "timestamp", `"x"`), nil, event.BadTime},
		{"id before time attribute", valid, map[string]string{"ts": "x"}, event.MissingAttribute},
		{"time attribute missing", valid, map[string]string{"id": "7"}, event.MissingAttribute},
		{"time attribute bad", valid, map[string]string{"id": "7", "ts": "x"}, event.BadTime},
		{"attribute before too far ahead", with(t, "timestamp", ahead), nil, event.MissingAttribute},
		{"too far ahead", valid, map[string]string{"id": "7", "ts": strings.Trim(ahead, `"`)}, event.TooFarAhead},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := message(t, test.data)
			m.Attributes = test.attributes
			v := classifier(t, "attribute:ts", "attribute:id").Classify(m)
			checkDeadLetter(t, v, test.want)
			if test.want == event.TooFarAhead && !strings.Contains(v.Err.Error(), "more than 5m past publish time") {
				t.Errorf("the error is %q, want it to say how far ahead is too far", v.Err)
			}
			if v.EventID != test.attributes["id"] {
				t.Errorf("event id %q, want %q", v.EventID, test.attributes["id"])
			}
		})
	}
}

// A window duration of 0 makes the classifier panic, since it divides by the duration.
// This stands for any bug that one message could cause.
func TestAPanicIsADeadLetter(t *testing.T) {
	t.Parallel()
	v := event.NewClassifier(event.Rules{Schema: accesslog.Schema()}).Classify(message(t, valid))
	if v.Status != event.DeadLetter || v.Reason != event.Panic || v.HasTime || v.Event.Values != nil {
		t.Errorf("%+v, want a dead letter for a panic", v)
	}
	if text := fmt.Sprint(v.Err); !strings.Contains(text, "divide by zero") || !strings.Contains(text, "window.go") {
		t.Errorf("detail %q, want the cause and the stack", text)
	}
}

// A verdict is used after the buffers of its request have been reused.
func TestAVerdictKeepsNoReferenceToItsMessage(t *testing.T) {
	t.Parallel()
	for _, data := range []string{valid, with(t, "num_bytes", `"wrong"`), with(t, "timestamp", `"wrong"`)} {
		m := message(t, data)
		v := defaults(t).Classify(m)
		clear(m.Data)
		if diff := cmp.Diff(defaults(t).Classify(message(t, data)), v, byText); diff != "" {
			t.Error(diff)
		}
	}
}

// The values of an event are in one piece of memory, and their texts in another.
func TestAnEventIsTwoPiecesOfMemory(t *testing.T) {
	c, m := defaults(t), message(t, valid)
	allocations := testing.AllocsPerRun(100, func() {
		if v := c.Classify(m); v.Status != event.Counted {
			t.Fatalf("%+v", v)
		}
	})
	if allocations > 5 { // the race detector drops some of what the decoder reuses
		t.Errorf("%v allocations", allocations)
	}
}

func BenchmarkClassify(b *testing.B) {
	c := defaults(b)
	manyKeys := `{"extra": {` + strings.Repeat(`"a": 1, `, 1000) + `"a": 1}, ` + valid[1:]
	for _, bench := range []struct{ name, data string }{
		{"event", valid},
		{"missing_field", with(b, "user_agent", "")},
		{"bad_json", valid[:len(valid)-1]},
		{"unknown_keys", manyKeys},
	} {
		m := message(b, bench.data)
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(m.Data)))
			for b.Loop() {
				c.Classify(m)
			}
		})
	}
}
