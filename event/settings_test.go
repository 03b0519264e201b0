package event_test

import (
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
)

func TestLateAtTheMicrosecond(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		eventTime, published string
		want                 event.Status
	}{
		{"2026-03-14T09:26:00Z", "2026-03-14T09:28:59.999999Z", event.Counted},
		{"2026-03-14T09:26:00Z", "2026-03-14T09:29:00Z", event.Late},
		{"2026-03-14T09:26:00Z", "2026-03-14T09:29:00.000001Z", event.Late},
		{"2026-03-14T09:26:59.999999Z", "2026-03-14T09:28:59.999999Z", event.Counted},
		{"2026-03-14T09:26:59.999999Z", "2026-03-14T09:29:00Z", event.Late},
		{"2026-03-14T09:27:00Z", "2026-03-14T09:29:00Z", event.Counted}, // one microsecond later is the next window
		{"2026-03-14T09:27:00Z", "2026-03-14T09:29:59.999999Z", event.Counted},
		{"2026-03-14T09:27:00Z", "2026-03-14T09:30:00Z", event.Late},
		{"1969-12-31T23:59:59.999999Z", "1970-01-01T00:01:59.999999Z", event.Counted},
		{"1969-12-31T23:59:59.999999Z", "1970-01-01T00:02:00Z", event.Late},
		{"0001-01-01T00:00:00Z", "2026-03-14T09:26:53Z", event.Late},
		{"9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z", event.Counted},
	} {
		m := message(t, with(t, "timestamp", `"`+test.eventTime+`"`))
		m.PublishTime = at(t, test.published)
		v := defaults(t).Classify(m)
		window := at(t, test.eventTime[:17]+"00Z")
		if v.Status != test.want || !v.Window.Equal(window) || !v.HasTime || v.Event.Values == nil {
			t.Errorf("%s published %s: %s in window %v, want %s", test.eventTime, test.published, v.Status, v.Window, test.want)
		}
	}
}

func TestTooFarAheadIsPastTheSkew(t *testing.T) {
	t.Parallel()
	published := at(t, "2026-03-14T09:26:53.713Z")
	for _, skew := range []time.Duration{0, time.Microsecond, time.Minute, 5 * time.Minute} {
		r := rules(t, "payload", "message")
		r.MaxClockSkew = skew
		c := event.NewClassifier(r)
		for offset, ahead := range map[time.Duration]bool{-time.Microsecond: false, 0: false, time.Microsecond: true, time.Hour: true} {
			when := published.Add(skew + offset)
			m := message(t, with(t, "timestamp", `"`+event.FormatTime(when)+`"`))
			v := c.Classify(m)
			if !ahead {
				if v.Status != event.Counted {
					t.Errorf("skew %v, %v past it: %s, %v", skew, offset, v.Reason, v.Err)
				}
				continue
			}
			checkDeadLetter(t, v, event.TooFarAhead)
			if !v.EventTime.Equal(when) || v.EventID != "1" {
				t.Errorf("skew %v: event time %v, id %q", skew, v.EventTime, v.EventID)
			}
		}
	}
}

func TestEventTimeComesFromOneSource(t *testing.T) {
	t.Parallel()
	m := message(t, valid)
	m.Attributes = map[string]string{"timestamp": "2026-03-14T09:25:10Z", "Timestamp": "x"}
	m.PublishTime = at(t, "2026-03-14T09:27:02.000003Z")
	for setting, want := range map[string]string{
		"payload":             "2026-03-14T09:26:53.589793Z",
		"publish":             "2026-03-14T09:27:02.000003Z",
		"attribute:timestamp": "2026-03-14T09:25:10.000000Z",
	} {
		v := classifier(t, setting, "message").Classify(m)
		if event.FormatTime(v.EventTime) != want || v.Window != v.EventTime.Truncate(time.Minute) || v.Status != event.Counted {
			t.Errorf("%s: %s at %v in %v, want %s", setting, v.Status, v.EventTime, v.Window, want)
		}
		if got := event.FormatTime(accesslog.Of(v.Event).Timestamp); got != "2026-03-14T09:26:53.589793Z" {
			t.Errorf("%s: the record's own timestamp is %s", setting, got)
		}
		// The payload's time must be valid with every setting.
		for text, reason := range map[string]event.Reason{`"x"`: event.BadTime, "1": event.WrongType, "": event.MissingField} {
			bad := m
			bad.Data = []byte(with(t, "timestamp", text))
			checkDeadLetter(t, classifier(t, setting, "message").Classify(bad), reason)
		}
	}
	// There is no fallback, neither to another attribute nor to the payload.
	for _, name := range []string{"TIMESTAMP", "time", "timestamp "} {
		checkDeadLetter(t, classifier(t, "attribute:"+name, "message").Classify(m), event.MissingAttribute)
	}
}

// With EVENT_TIME=publish nothing is ever late or too far ahead, whatever the payload
// says.
func TestPublishTimeIsNeverLateNorAhead(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"} {
		v := classifier(t, "publish", "message").Classify(message(t, with(t, "timestamp", `"`+text+`"`)))
		if v.Status != event.Counted || !v.Window.Equal(at(t, "2026-03-14T09:26:00Z")) {
			t.Errorf("payload %s: %s in %v, %v", text, v.Status, v.Window, v.Err)
		}
	}
}

func TestEventIDComesFromOneSource(t *testing.T) {
	t.Parallel()
	m := message(t, valid)
	m.Attributes = map[string]string{"id": "order-7", "empty": "", "blank": " "}
	for setting, want := range map[string]string{"message": "1", "attribute:id": "order-7", "attribute:blank": " "} {
		if v := classifier(t, "payload", setting).Classify(m); v.Status != event.Counted || v.EventID != want {
			t.Errorf("%s: %s with id %q, want %q", setting, v.Status, v.EventID, want)
		}
	}
	for _, setting := range []string{"attribute:empty", "attribute:ID", "attribute:none"} {
		v := classifier(t, "payload", setting).Classify(m)
		checkDeadLetter(t, v, event.MissingAttribute)
		if v.EventID != "" {
			t.Errorf("%s: fell back on id %q", setting, v.EventID)
		}
		m := m
		m.Attributes = nil
		checkDeadLetter(t, classifier(t, "payload", setting).Classify(m), event.MissingAttribute)
	}
}
