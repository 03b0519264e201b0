package event_test

import (
	"bytes"
	"math"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
)

// checkEncode checks that an event that is written and read again is the same.
func checkEncode(t *testing.T, e event.Event) {
	t.Helper()
	data, err := accesslog.Schema().Encode(e)
	if err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	if bytes.ContainsAny(data, "\r\n") {
		t.Errorf("not on one line: %q", data)
	}
	v := defaults(t).Classify(event.Message{ID: "1", PublishTime: accesslog.Of(e).Timestamp, Data: data})
	if v.Status == event.DeadLetter {
		t.Fatalf("%q is no event: %v", data, v.Err)
	}
	if diff := cmp.Diff(e, v.Event); diff != "" {
		t.Errorf("%q is another event (-want +got):\n%s", data, diff)
	}
	again, err := accesslog.Schema().Encode(v.Event)
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("encoded again: %q, %v, want %q", again, err, data)
	}
}

func TestEncodeWritesWhatDecodeReads(t *testing.T) {
	t.Parallel()
	when := at(t, "2026-03-14T09:26:53.5Z")
	schema := event.Schema{Rest: "payload", Fields: []event.Field{
		{Name: "id", Type: event.String, Required: true, Path: []string{"order", "id"}},
		{Name: "made", Type: event.Timestamp, Path: []string{"order", "times", "made"}, Format: event.UnixMilli},
		{Name: "paid", Type: event.Timestamp, Path: []string{"paid"}, Format: event.RFC3339},
		{Name: "whole", Type: event.Timestamp, Path: []string{"whole"}, Format: event.UnixSecond},
		{Name: "express", Type: event.Boolean, Path: []string{"express"}},
		{Name: "cents", Type: event.Integer, Path: []string{"cents"}},
	}}
	for _, test := range []struct {
		event event.Event
		want  string
	}{
		{event.Event{Values: event.Values("o-1", when, when, when.Truncate(time.Second), true, int64(7))},
			`{"cents":7,"express":true,"order":{"id":"o-1","times":{"made":1773480413500}},"paid":"2026-03-14T09:26:53.500000Z","whole":1773480413}`},
		{event.Event{Values: event.Values("o-1", nil, nil, nil, nil, nil)}, `{"order":{"id":"o-1"}}`},
		// One field reads a part of the object "order". The rest has the whole object.
		{event.Event{Values: event.Values("o-1", when, nil, nil, nil, int64(7)), Rest: `{"order": {"id": "o-1", "times": {"made": 1773480413500}, "x": 1}, "y": [2]}`},
			`{"cents":7,"order":{"id":"o-1","times":{"made":1773480413500},"x":1},"y":[2]}`},
	} {
		data, err := schema.Encode(test.event)
		if err != nil || string(data) != test.want {
			t.Errorf("%s, %v\nwant %s", data, err, test.want)
		}
		got, err := event.NewDecoder(schema).Decode(data)
		if diff := cmp.Diff(test.event.Values, got.Values); err != nil || diff != "" {
			t.Errorf("%s is another event: %v (-want +got)\n%s", data, err, diff)
		}
	}
	if data, err := schema.Encode(event.Event{Values: make([]event.Value, 6), Rest: "[]"}); err == nil {
		t.Errorf("a rest that is not a JSON object is written as %s, want an error", data)
	}
}

func TestEveryEventOfTheTestDataSurvivesEncoding(t *testing.T) {
	t.Parallel()
	events := 0
	for _, m := range append(edges(t), traffic(t)...) {
		if v := defaults(t).Classify(m); v.Status != event.DeadLetter {
			checkEncode(t, v.Event)
			events++
		}
	}
	if events < 8000 {
		t.Errorf("only %d events", events)
	}
}

func TestEncodeRefusesWhatJSONCannotWrite(t *testing.T) {
	t.Parallel()
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if data, err := (accesslog.Record{Lng: &x}).Data(); err == nil {
			t.Errorf("%v is written as %s", x, data)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("198.51.100.23", "-6120394857710293846", "Mozilla/5.0", `"GET / HTTP/1.0"`, int64(200), int64(287), int64(1773480413589793), true, 48.8566, true, 2.3522)
	f.Add("", "\x00", "\u2028\u2029", "<&>\\\"\t\n", int64(math.MinInt64), int64(math.MaxInt64), int64(-62135596800e6), false, 0.0, true, math.Copysign(0, -1))
	f.Add("\ufffd", "\U0010ffff", "\u007f", "é", int64(0), int64(-1), int64(253402300799999999), true, math.MaxFloat64, true, math.SmallestNonzeroFloat64)
	f.Fuzz(func(t *testing.T, ip, user, agent, request string, response, size, micros int64, hasLat bool, lat float64, hasLng bool, lng float64) {
		const year10000 = 253402300800e6
		for _, s := range []string{ip, user, agent, request} {
			if !utf8.ValidString(s) || len(s) > 1<<16 {
				t.Skip()
			}
		}
		finite := func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
		if micros < -62135596800e6 || micros >= year10000 || !finite(lat) || !finite(lng) {
			t.Skip()
		}
		e := accesslog.Record{
			IP: ip, UserID: user, UserAgent: agent, Timestamp: time.UnixMicro(micros).UTC(),
			HTTPRequest: request, HTTPResponse: response, NumBytes: size,
		}
		if hasLat {
			e.Lat = &lat
		}
		if hasLng {
			e.Lng = &lng
		}
		checkEncode(t, e.Event())
	})
}
