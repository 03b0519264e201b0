package event_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/window"
)

// valid is an event as the lab's generator writes it. Its window starts at 09:26.
const valid = `{"ip": "198.51.100.23", "user_id": "-6120394857710293846", "lat": 48.8566, "lng": 2.3522, ` +
	`"timestamp": "2026-03-14T09:26:53.589793Z", "http_request": "\"GET fungi.html HTTP/1.0\"", "http_response": 200, ` +
	`"num_bytes": 287, "user_agent": "Mozilla/5.0 (KHTML"}`

// with returns the valid event in which the value of one key is replaced by the given
// JSON text. If the text is empty, the key is removed.
func with(t testing.TB, key, value string) string {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(valid), &object); err != nil {
		t.Fatal(err)
	}
	if _, ok := object[key]; !ok {
		t.Fatalf("the valid event has no key %q", key)
	}
	var b strings.Builder
	for _, k := range []string{"ip", "user_id", "lat", "lng", "timestamp", "http_request", "http_response", "num_bytes", "user_agent"} {
		text := string(object[k])
		if k == key {
			text = value
		}
		if text == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(`"` + k + `": ` + text)
	}
	return "{" + b.String() + "}"
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	x, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return x.UTC()
}

// classifier returns a classifier with default settings, except for these two, which are
// given as texts.
func classifier(t testing.TB, eventTime, eventID string) *event.Classifier {
	t.Helper()
	return event.NewClassifier(rules(t, eventTime, eventID))
}

// rules returns the rules with default settings, except for these two, which are given as
// texts.
func rules(t testing.TB, eventTime, eventID string) event.Rules {
	t.Helper()
	windows, err := window.New(time.Minute, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	timeSource, err := event.ParseTimeSource(eventTime)
	if err != nil {
		t.Fatal(err)
	}
	idSource, err := event.ParseIDSource(eventID)
	if err != nil {
		t.Fatal(err)
	}
	return event.Rules{Schema: accesslog.Schema(), Windows: windows, MaxClockSkew: 5 * time.Minute, EventTime: timeSource, EventID: idSource}
}

func defaults(t testing.TB) *event.Classifier { return classifier(t, "payload", "message") }

// message returns a message that was published in the same minute as the valid event.
func message(t testing.TB, data string) event.Message {
	return event.Message{ID: "1", PublishTime: at(t, "2026-03-14T09:26:53.713Z"), PublishTimeSource: event.FromMessage, Data: []byte(data)}
}

// byText compares errors by their text.
var byText = cmp.Comparer(func(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Error() == b.Error()
})

// decode reads one push body of the test data. Some bodies have the field names in
// camelCase, some in snake_case and some in both. It shares no code with the program's
// decoder, so that a mistake in one does not hide the same mistake in the other.
func decode(t testing.TB, line []byte) event.Message {
	t.Helper()
	var body struct {
		Message struct {
			MessageID   string            `json:"messageId"`
			SnakeID     string            `json:"message_id"`
			PublishTime time.Time         `json:"publishTime"`
			SnakeTime   time.Time         `json:"publish_time"`
			Attributes  map[string]string `json:"attributes"`
			Data        []byte            `json:"data"`
		} `json:"message"`
		Subscription string `json:"subscription"`
	}
	if err := json.Unmarshal(line, &body); err != nil {
		t.Fatalf("test data: %v", err)
	}
	id := body.Message.MessageID
	if id == "" {
		id = body.Message.SnakeID
	}
	published := body.Message.PublishTime
	if published.IsZero() {
		published = body.Message.SnakeTime
	}
	if id == "" || published.IsZero() {
		t.Fatalf("test data: no id or no publish time in %.200s", line)
	}
	return event.Message{
		ID:                id,
		PublishTime:       published.UTC().Truncate(time.Microsecond),
		PublishTimeSource: event.FromMessage,
		Subscription:      body.Subscription,
		Attributes:        body.Message.Attributes,
		Data:              body.Message.Data,
	}
}

func TestDerivedIDIsTheSameForTheSameMessageOnly(t *testing.T) {
	t.Parallel()
	type message struct {
		data       string
		attributes map[string]string
	}
	// These would have the same id if their parts were only joined together.
	different := []message{
		{"", nil},
		{"ab", nil},
		{"a", map[string]string{"b": ""}},
		{"a", map[string]string{"": "b"}},
		{"", map[string]string{"a": "b"}},
		{"", map[string]string{"ab": ""}},
		{"", map[string]string{"": "ab"}},
		{"", map[string]string{"b": "a"}},
		{"", map[string]string{"a": "b", "c": "d"}},
		{"", map[string]string{"a": "d", "c": "b"}},
		{"", map[string]string{"a": "bcd"}},
		{"", map[string]string{"a": "", "bcd": ""}},
		{"\x00\x00\x00\x00\x00\x00\x00\x00", nil},
		{"", map[string]string{"": ""}},
	}
	seen := map[string]message{}
	for _, m := range different {
		id := event.DerivedID([]byte(m.data), m.attributes)
		if other, ok := seen[id]; ok {
			t.Errorf("%+v and %+v have the same id", m, other)
		}
		seen[id] = m
		if again := event.DerivedID([]byte(m.data), m.attributes); again != id {
			t.Errorf("%+v has ids %s and %s", m, id, again)
		}
	}
	if event.DerivedID(nil, nil) != event.DerivedID([]byte{}, map[string]string{}) {
		t.Error("no data and empty data have different ids")
	}
}

func TestDerivedIDDoesNotDependOnMapOrder(t *testing.T) {
	t.Parallel()
	keys := strings.Split("timestamp user_id trace zone a b c d e f g h", " ")
	forward, backward := map[string]string{}, map[string]string{}
	for i := range keys {
		forward[keys[i]] = keys[i]
		backward[keys[len(keys)-1-i]] = keys[len(keys)-1-i]
	}
	want := event.DerivedID([]byte(valid), forward)
	for range 100 {
		if got := event.DerivedID([]byte(valid), backward); got != want {
			t.Fatalf("ids %s and %s for the same attributes", got, want)
		}
	}
}

// The derived id is stored as an event id. If its text changed in an upgrade, a message
// that is posted again afterwards would be counted twice.
func TestDerivedIDNeverChanges(t *testing.T) {
	t.Parallel()
	got := event.DerivedID([]byte(valid), map[string]string{"timestamp": "2026-03-14T09:26:53.589793Z", "a": ""})
	if want := "sha256-74764fe54a76a473bf2b095f06a0279b"; got != want {
		t.Errorf("DerivedID = %s, want %s", got, want)
	}
}

func FuzzDerivedID(f *testing.F) {
	f.Add([]byte("a"), "b", "c", []byte("a"), "bc", "")
	f.Fuzz(func(t *testing.T, data1 []byte, name1, value1 string, data2 []byte, name2, value2 string) {
		same := string(data1) == string(data2) && name1 == name2 && value1 == value2
		id1 := event.DerivedID(data1, map[string]string{name1: value1})
		id2 := event.DerivedID(data2, map[string]string{name2: value2})
		if (id1 == id2) != same {
			t.Errorf("ids %s and %s", id1, id2)
		}
		if id1 == event.DerivedID(data1, nil) {
			t.Error("an attribute does not change the id")
		}
	})
}

func TestSourcesOfTimeAndID(t *testing.T) {
	t.Parallel()
	for text, attribute := range map[string]string{
		"payload": "", "publish": "", "attribute:timestamp": "timestamp", "attribute:a:b": "a:b", "attribute:payload": "payload",
	} {
		s, err := event.ParseTimeSource(text)
		if err != nil || s.String() != text || s.Attribute() != attribute {
			t.Errorf("ParseTimeSource(%q) = %q, attribute %q, %v", text, s, s.Attribute(), err)
		}
	}
	for text, attribute := range map[string]string{"message": "", "attribute:id": "id", "attribute:message": "message", "field:id": ""} {
		s, err := event.ParseIDSource(text)
		if err != nil || s.String() != text || s.Attribute() != attribute {
			t.Errorf("ParseIDSource(%q) = %q, attribute %q, %v", text, s, s.Attribute(), err)
		}
	}
	for _, text := range []string{"", " ", "Payload", "PUBLISH", "payload ", "attribute", "attribute:", "Attribute:x", "header:x"} {
		if s, err := event.ParseTimeSource(text); err == nil {
			t.Errorf("ParseTimeSource(%q) = %q, want an error", text, s)
		}
		if s, err := event.ParseIDSource(text); err == nil {
			t.Errorf("ParseIDSource(%q) = %q, want an error", text, s)
		}
	}
	if _, err := event.ParseTimeSource("message"); err == nil {
		t.Error("message is accepted as a source of event time, but is only a source of ids")
	}
	if _, err := event.ParseIDSource("payload"); err == nil {
		t.Error("payload is accepted as a source of ids, but is only a source of event time")
	}
	if s := (event.TimeSource{}).String() + " " + (event.IDSource{}).String(); s != "payload message" {
		t.Errorf("zero sources are %q", s)
	}
}

func TestRejectKeepsWhatIsKnownButNotTheEvent(t *testing.T) {
	t.Parallel()
	v := defaults(t).Classify(message(t, valid))
	refused := errors.New("row refused")
	got := v.Reject(refused)
	want := event.Verdict{
		Status: event.DeadLetter, EventID: "1", EventTime: v.EventTime, HasTime: true, Reason: event.Rejected, Err: refused,
	}
	if diff := cmp.Diff(want, got, byText); diff != "" {
		t.Error(diff)
	}
	if v.Status != event.Counted || v.Event.Values == nil {
		t.Error("Reject changed the verdict it was called on")
	}
}

// Some messages that Pub/Sub could not deliver can be posted by hand. They are refused:
// as dead letters they could be too large for the table.
func TestTheLimitsOfAMessage(t *testing.T) {
	t.Parallel()
	attributes := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("name-%d", i)] = ""
		}
		return m
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct {
		name string
		m    event.Message
		says string // part of the error; empty if the message is accepted
	}{
		{"nothing", event.Message{}, ""},
		{"id at its limit", event.Message{ID: x(255)}, ""},
		{"id past it", event.Message{ID: x(256)}, "message id has 256 bytes, want at most 255"},
		{"id past it in bytes", event.Message{ID: strings.Repeat("é", 128)}, "256 bytes"},
		{"subscription at its limit", event.Message{Subscription: x(1024)}, ""},
		{"subscription past it", event.Message{Subscription: x(1025)}, "subscription has 1025 bytes"},
		{"attributes at their number", event.Message{Attributes: attributes(100)}, ""},
		{"attributes past it", event.Message{Attributes: attributes(101)}, "101 attributes, want at most 100"},
		{"attribute at its limits", event.Message{Attributes: map[string]string{x(256): x(1024)}}, ""},
		{"name past its limit", event.Message{Attributes: map[string]string{x(257): ""}}, "has 257 bytes, want at most 256"},
		{"value past its limit", event.Message{Attributes: map[string]string{"order": x(1025)}}, `attribute "order" has 1025 bytes, want at most 1024`},
	} {
		err := tc.m.CheckLimits()
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.says)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%s: an error of %d bytes", tc.name, len(err.Error()))
		}
	}
}
