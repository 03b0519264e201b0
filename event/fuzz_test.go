package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"regexp"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
)

// readValue reads one JSON value from its tokens. It returns a map, a slice, or the token
// of a scalar. If a key occurs twice, it keeps the last value.
func readValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := map[string]any{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			if object[key.(string)], err = readValue(d); err != nil {
				return nil, err
			}
		}
		_, err = d.Token()
		return object, err
	case json.Delim('['):
		array := []any{}
		for d.More() {
			value, err := readValue(d)
			if err != nil {
				return nil, err
			}
			array = append(array, value)
		}
		_, err = d.Token()
		return array, err
	}
	return token, nil
}

var integerShape = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// oracle decides a second time whether data is a valid event. It uses JSON tokens and
// nothing of the program's own code.
func oracle(data []byte) (accesslog.Record, event.Reason) {
	var none accesslog.Record
	switch {
	case len(data) == 0:
		return none, event.Empty
	case !utf8.Valid(data):
		return none, event.BadUTF8
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	value, err := readValue(d)
	if err != nil {
		return none, event.BadJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return none, event.BadJSON
	}
	object, ok := value.(map[string]any)
	if !ok {
		return none, event.NotAnObject
	}
	for _, key := range requiredKeys {
		if _, ok := object[key]; !ok {
			return none, event.MissingField
		}
	}
	text := map[string]string{}
	for _, key := range append([]string{"timestamp"}, stringKeys...) {
		if text[key], ok = object[key].(string); !ok {
			return none, event.WrongType
		}
	}
	integer := map[string]int64{}
	for _, key := range integerKeys {
		number, ok := object[key].(json.Number)
		if !ok || !integerShape.MatchString(number.String()) {
			return none, event.WrongType
		}
		n, _ := new(big.Int).SetString(number.String(), 10)
		if !n.IsInt64() {
			return none, event.WrongType
		}
		integer[key] = n.Int64()
	}
	degrees := map[string]*float64{}
	for _, key := range []string{"lat", "lng"} {
		if object[key] == nil { // the value is null, or the key is missing
			continue
		}
		number, ok := object[key].(json.Number)
		if !ok {
			return none, event.WrongType
		}
		x, err := strconv.ParseFloat(number.String(), 64)
		if err != nil {
			return none, event.WrongType
		}
		degrees[key] = &x
	}
	when, ok := oracleTime(text["timestamp"])
	if !ok {
		return none, event.BadTime
	}
	return accesslog.Record{
		IP: text["ip"], UserID: text["user_id"], UserAgent: text["user_agent"], Lat: degrees["lat"], Lng: degrees["lng"],
		Timestamp: when, HTTPRequest: text["http_request"], HTTPResponse: integer["http_response"], NumBytes: integer["num_bytes"],
	}, ""
}

// tooDeep reports whether data may be nested deeper than the decoder allows. The JSON
// tokens that the oracle reads have no such limit.
func tooDeep(data []byte) bool {
	return bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > 5000
}

func TestTheOracleAgreesOnTheTestData(t *testing.T) {
	t.Parallel()
	for _, m := range append(edges(t), traffic(t)...) {
		checkAgainstOracle(t, m, defaults(t).Classify(m))
	}
}

// checkAgainstOracle compares a verdict with the oracle. Event time is the time in the
// payload.
func checkAgainstOracle(t *testing.T, m event.Message, v event.Verdict) {
	t.Helper()
	want, reason := oracle(m.Data)
	if reason != "" {
		if v.Status != event.DeadLetter || v.Reason != reason {
			t.Errorf("%q: %s, reason %q, want reason %q: %v", m.Data, v.Status, v.Reason, reason, v.Err)
		}
		return
	}
	ahead := want.Timestamp.Sub(m.PublishTime) > 5*time.Minute // Sub does not overflow: it returns the longest duration
	if ahead {
		if v.Reason != event.TooFarAhead {
			t.Errorf("%q published %v: %s, reason %q, want too far ahead", m.Data, m.PublishTime, v.Status, v.Reason)
		}
		return
	}
	start := want.Timestamp.Truncate(time.Minute) // Truncate counts from year 1, which is a whole number of minutes before the epoch
	status := event.Counted
	if !m.PublishTime.Before(start.Add(3 * time.Minute)) {
		status = event.Late
	}
	diff := cmp.Diff(event.Verdict{
		Status: status, Event: want.Event(), EventID: m.ID, EventTime: want.Timestamp, Window: start, HasTime: true,
	}, v, byText)
	if diff != "" {
		t.Errorf("%q published %v: %s", m.Data, m.PublishTime, diff)
	}
}

func FuzzClassify(f *testing.F) {
	for _, m := range edges(f) {
		f.Add(m.Data, m.ID, m.PublishTime.UnixMicro(), m.Attributes["timestamp"])
	}
	for _, key := range append([]string{"lat", "lng"}, requiredKeys...) {
		for _, value := range []string{"", "null", "-0", "1e2", `"\ud800"`, "9223372036854775808", "[{}]"} {
			f.Add([]byte(with(f, key, value)), "", int64(1773480413589793), "1773480413589")
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, id string, published int64, attribute string) {
		const year10000 = 253402300800e6 // as microseconds since the epoch
		if len(data) > 1<<16 || len(attribute) > 1<<10 || tooDeep(data) || published < -62135596800e6 || published >= year10000 {
			t.Skip()
		}
		m := event.Message{
			ID: id, PublishTime: time.UnixMicro(published).UTC(), PublishTimeSource: event.FromMessage,
			Attributes: map[string]string{"timestamp": attribute}, Data: data,
		}
		checkAgainstOracle(t, m, defaults(t).Classify(m))
		for _, eventTime := range []string{"payload", "publish", "attribute:timestamp"} {
			for _, eventID := range []string{"message", "attribute:timestamp"} {
				checkVerdict(t, rules(t, eventTime, eventID), m)
			}
		}
	})
}

// checkVerdict checks what must hold for every message under every setting.
func checkVerdict(t *testing.T, r event.Rules, m event.Message) {
	t.Helper()
	c := event.NewClassifier(r)
	before := bytes.Clone(m.Data)
	v := c.Classify(m)
	if !bytes.Equal(before, m.Data) {
		t.Fatalf("Classify changed the message's data")
	}
	if diff := cmp.Diff(v, c.Classify(m), byText); diff != "" {
		t.Errorf("two verdicts on one message: %s", diff)
	}
	if v.HasTime {
		if year := v.EventTime.Year(); year < 1 || year > 9999 {
			t.Errorf("event time %v", v.EventTime)
		}
	}
	switch v.Status {
	case event.Counted, event.Late:
		if v.Reason != "" || v.Err != nil || !v.HasTime || r.EventID.Attribute() != "" && v.EventID == "" {
			t.Errorf("an event has the verdict %+v", v)
		}
		if v.Window.After(v.EventTime) || !v.EventTime.Before(v.Window.Add(time.Minute)) {
			t.Errorf("event time %v is not in the window %v", v.EventTime, v.Window)
		}
		if late := !m.PublishTime.Before(v.Window.Add(3 * time.Minute)); late != (v.Status == event.Late) {
			t.Errorf("%s: window %v published %v", v.Status, v.Window, m.PublishTime)
		}
	case event.DeadLetter:
		if v.Reason == "" || v.Reason == event.Panic || v.Reason == event.Rejected || v.Err == nil || v.Event.Values != nil {
			t.Errorf("a dead letter has the verdict %+v", v)
		}
		if v.Err != nil && !utf8.ValidString(v.Err.Error()) {
			t.Errorf("the detail %q is not UTF-8", v.Err)
		}
	default:
		t.Errorf("status %q", v.Status)
	}
}
