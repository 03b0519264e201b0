package event

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/window"
)

// Status is the result for a message.
type Status string

// The statuses.
const (
	Counted    Status = "counted"     // an event on time: a raw row, and counted in its window
	Late       Status = "late"        // an event past its window's allowed lateness: a raw row, not counted
	DeadLetter Status = "dead_letter" // no event, and it never will be: kept whole, with its reason
)

// A Verdict is what a message is, with everything that is known about the reason.
type Verdict struct {
	Status Status
	Event  Event // unless Status is DeadLetter

	// EventID is equal for two messages that are the same event. It is empty if the
	// attribute that carries the id is missing.
	EventID string
	// EventTime is the event time by the configured source, in UTC. It is set if HasTime
	// is true: for every event, and for a dead letter whose event time could be read.
	EventTime time.Time
	HasTime   bool
	// Window is the start of the event's window, in UTC.
	Window time.Time // unless Status is DeadLetter

	Reason Reason // if Status is DeadLetter
	Err    error  // if Status is DeadLetter: the detail behind Reason
}

// Reject returns the verdict for an event whose row the warehouse refuses because of the
// row's own value.
func (v Verdict) Reject(err error) Verdict {
	v.Status, v.Event, v.Window = DeadLetter, Event{}, time.Time{}
	v.Reason, v.Err = Rejected, err
	return v
}

// TimeSource is where event time is taken from. The zero value is the payload.
type TimeSource struct {
	publish   bool
	attribute string
}

// ParseTimeSource reads the EVENT_TIME setting: "payload", "publish" or
// "attribute:NAME".
func ParseTimeSource(s string) (TimeSource, error) {
	switch name, isAttribute := strings.CutPrefix(s, "attribute:"); {
	case s == "payload":
		return TimeSource{}, nil
	case s == "publish":
		return TimeSource{publish: true}, nil
	case isAttribute && name != "":
		return TimeSource{attribute: name}, nil
	}
	return TimeSource{}, fmt.Errorf("%q is not payload, publish or attribute:NAME", s)
}

// Attribute returns the name of the attribute that carries event time, or "".
func (s TimeSource) Attribute() string { return s.attribute }

func (s TimeSource) String() string {
	switch {
	case s.publish:
		return "publish"
	case s.attribute != "":
		return "attribute:" + s.attribute
	}
	return "payload"
}

// IDSource is where the event id is taken from. The zero value is the message
// id.
type IDSource struct{ attribute, field string }

// ParseIDSource reads the EVENT_ID setting: "message", "attribute:NAME" or
// "field:NAME".
func ParseIDSource(s string) (IDSource, error) {
	kind, name, _ := strings.Cut(s, ":")
	switch {
	case s == "message":
		return IDSource{}, nil
	case kind == "attribute" && name != "":
		return IDSource{attribute: name}, nil
	case kind == "field" && name != "":
		return IDSource{field: name}, nil
	}
	return IDSource{}, fmt.Errorf("%q is not message, attribute:NAME or field:NAME", s)
}

// Attribute returns the name of the attribute that carries the event id, or "".
func (s IDSource) Attribute() string { return s.attribute }

// Field returns the name of the field that carries the event id, or "".
func (s IDSource) Field() string { return s.field }

// String returns the setting's text. The text is also the kind of the ids: ids of two
// kinds are never the same event.
func (s IDSource) String() string {
	switch {
	case s.attribute != "":
		return "attribute:" + s.attribute
	case s.field != "":
		return "field:" + s.field
	}
	return "message"
}

// Rules are the settings that decide what a message is.
type Rules struct {
	Schema  Schema
	Windows window.Fixed
	// MaxClockSkew is how far past its publish time an event time may be.
	MaxClockSkew time.Duration
	// EventTime is where the event time is. The payload has an event time only if
	// Schema.Time names a field. That field is a required TIMESTAMP.
	EventTime TimeSource
	// EventID is where the event id is. If EventID names a field, the field is a required
	// STRING or INTEGER.
	EventID IDSource
}

// A Classifier decides what messages are. It may be used concurrently.
type Classifier struct {
	rules              Rules
	decoder            *Decoder
	timeField, idField int // indexes in the schema's fields; -1 for none
}

// NewClassifier returns a classifier by the rules.
func NewClassifier(r Rules) *Classifier {
	return &Classifier{rules: r, decoder: NewDecoder(r.Schema), timeField: r.Schema.Index(r.Schema.Time), idField: r.Schema.Index(r.EventID.field)}
}

// Attributes returns the names of the attributes that the rules read.
func (c *Classifier) Attributes() []string {
	return slices.DeleteFunc([]string{c.rules.EventTime.attribute, c.rules.EventID.attribute}, func(name string) bool { return name == "" })
}

// Classify decides what m is. It is a pure function of m and the settings, and it never
// fails and never panics. A message that cannot be read as an event is a dead letter,
// because a message that crashed the process once would crash it on every redelivery.
func (c *Classifier) Classify(m Message) Verdict { return contain(m, c.classify) }

// contain turns a panic of classify into a dead letter.
func contain(m Message, classify func(Message) Verdict) (v Verdict) {
	defer func() {
		if p := recover(); p != nil {
			v = Verdict{Status: DeadLetter, Reason: Panic, Err: fmt.Errorf("classification panicked: %v\n%s", p, debug.Stack())}
		}
	}()
	return classify(m)
}

func (c *Classifier) classify(m Message) Verdict {
	var v Verdict
	id, idErr := c.messageID(m)
	v.EventID = id
	if m.Ambiguous != "" {
		return v.invalid(invalidf(AmbiguousMetadata, "%s", m.Ambiguous))
	}
	event, err := c.decoder.Decode(m.Data)
	if err == nil {
		err = idErr
	}
	if err == nil && c.idField >= 0 {
		v.EventID, err = c.fieldID(event)
	}
	if err == nil {
		v.EventTime, err = c.eventTime(m, event)
	}
	if err != nil {
		return v.invalid(err)
	}
	v.HasTime = true
	if v.EventTime.After(m.PublishTime.Add(c.rules.MaxClockSkew)) {
		return v.invalid(invalidf(TooFarAhead, "event time %s is more than %s past publish time %s",
			FormatTime(v.EventTime), durations.Text(c.rules.MaxClockSkew), FormatTime(m.PublishTime)))
	}
	v.Event = event
	v.Window = c.rules.Windows.Start(v.EventTime)
	v.Status = Counted
	if c.rules.Windows.Late(v.Window, m.PublishTime) {
		v.Status = Late
	}
	return v
}

func (v Verdict) invalid(err error) Verdict {
	v.Status, v.Reason, v.Err = DeadLetter, ReasonOf(err), err
	return v
}

// messageID returns the event id that the message carries outside of its data. It is
// empty if the id is in the data.
func (c *Classifier) messageID(m Message) (string, error) {
	name := c.rules.EventID.attribute
	switch {
	case c.rules.EventID.field != "":
		return "", nil
	case name == "":
		return m.ID, nil
	}
	// With an empty id, all messages that carry it would be the same event.
	if id := m.Attributes[name]; id != "" {
		return id, nil
	}
	return "", invalidf(MissingAttribute, "attribute %q, which EVENT_ID names, is missing or empty", name)
}

// fieldID returns the event id that is in a field.
func (c *Classifier) fieldID(e Event) (string, error) {
	switch id := e.Values[c.idField].Any().(type) {
	case int64:
		return strconv.FormatInt(id, 10), nil
	case string:
		if id != "" {
			return id, nil
		}
	}
	return "", invalidf(MissingID, "field %s, which EVENT_ID names, is empty", c.rules.EventID.field)
}

func (c *Classifier) eventTime(m Message, e Event) (time.Time, error) {
	switch name := c.rules.EventTime.attribute; {
	case c.rules.EventTime.publish:
		return m.PublishTime, nil
	case name == "":
		return e.Values[c.timeField].time(), nil
	default:
		text, ok := m.Attributes[name]
		if !ok {
			return time.Time{}, invalidf(MissingAttribute, "attribute %q, which EVENT_TIME names, is missing", name)
		}
		t, err := parseAttributeTime(text)
		if err != nil {
			return time.Time{}, invalidf(BadTime, "attribute %q: %w", name, err)
		}
		return t, nil
	}
}
