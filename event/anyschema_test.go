package event_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/window"
)

// FuzzClassifyAnySchema compares the decoder and the classifier with references, under
// schemas and settings that the input chooses, on data that is nearly always JSON with the
// schema's keys. (FuzzDecode and FuzzClassify read bytes as they come, and few of those are
// objects with such keys.)
func FuzzClassifyAnySchema(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		choices := make([]byte, 50+random.IntN(300))
		for i := range choices {
			choices[i] = byte(random.Uint32())
		}
		f.Add(choices)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		c := chooser{rest: choices}
		r := c.rules(t)
		m := event.Message{ID: "m", PublishTime: c.instant(), PublishTimeSource: event.FromMessage, Attributes: map[string]string{}}
		if !c.oneIn(8) {
			m.Attributes["a"] = c.of(attributeTexts)
		}
		m.Data = []byte(c.white() + c.object(r.Schema, nil) + c.white())
		switch {
		case c.oneIn(50):
			m.Data = m.Data[:len(m.Data)/2]
		case c.oneIn(50):
			m.Data = append(m.Data, c.rest...)
		}
		checkAgainstReference(t, r.Schema, event.NewDecoder(r.Schema), m.Data)
		checkVerdictAgainstReference(t, r, m)
	})
}

// checkVerdictAgainstReference compares a verdict with what the rules say of the values that
// the reference reads.
func checkVerdictAgainstReference(t *testing.T, r event.Rules, m event.Message) {
	t.Helper()
	got := event.NewClassifier(r).Classify(m)
	want := referenceVerdict(r, m)
	if got.Status != want.Status || got.Reason != want.Reason || got.HasTime != want.HasTime || !got.EventTime.Equal(want.EventTime) || !got.Window.Equal(want.Window) {
		t.Errorf("%q with %v published %v under %+v:\n%+v\nwant %+v", m.Data, m.Attributes, m.PublishTime, r, got, want)
	}
	if got.Status != event.DeadLetter && got.EventID != want.EventID {
		t.Errorf("%q: event id %q, want %q", m.Data, got.EventID, want.EventID)
	}
}

// referenceVerdict is what becomes of a message: first the data, then the event id, then the
// event time.
func referenceVerdict(r event.Rules, m event.Message) event.Verdict {
	v := event.Verdict{Status: event.DeadLetter, EventID: m.ID}
	values, _, reason := reference(r.Schema, m.Data)
	if reason != "" {
		v.Reason = reason
		return v
	}
	if kind, name, _ := strings.Cut(r.EventID.String(), ":"); kind == "attribute" {
		if v.EventID = m.Attributes[name]; v.EventID == "" {
			v.Reason = event.MissingAttribute
			return v
		}
	} else if kind == "field" {
		if v.EventID = fmt.Sprint(values[r.Schema.Index(name)]); v.EventID == "" {
			v.Reason = event.MissingID
			return v
		}
	}
	switch source := r.EventTime.String(); source {
	case "payload":
		v.EventTime = values[r.Schema.Index(r.Schema.Time)].(time.Time)
	case "publish":
		v.EventTime = m.PublishTime
	default:
		text, ok := m.Attributes[strings.TrimPrefix(source, "attribute:")]
		if !ok {
			v.Reason = event.MissingAttribute
			return v
		}
		if v.EventTime, ok = attributeTimes[text]; !ok {
			v.Reason = event.BadTime
			return v
		}
	}
	v.HasTime = true
	if v.EventTime.Sub(m.PublishTime) > r.MaxClockSkew {
		v.Reason = event.TooFarAhead
		return v
	}
	const minute = 60
	seconds := v.EventTime.Unix()
	v.Window = time.Unix(seconds-(seconds%minute+minute)%minute, 0)
	v.Status = event.Counted
	if m.PublishTime.Sub(v.Window) >= 3*time.Minute { // a minute, and two of lateness
		v.Status = event.Late
	}
	return v
}

// A chooser takes its choices from bytes. When there are no more, it takes the first choice.
type chooser struct{ rest []byte }

func (c *chooser) below(n int) int {
	if len(c.rest) == 0 {
		return 0
	}
	b := c.rest[0]
	c.rest = c.rest[1:]
	return int(b) % n
}

func (c *chooser) oneIn(n int) bool         { return c.below(n) == n-1 }
func (c *chooser) of(texts []string) string { return texts[c.below(len(texts))] }
func (c *chooser) white() string            { return c.of([]string{"", "", "", " ", "\n\t", "\r"}) }

var (
	anyKeys  = []string{"a", "b", "A", "é", "a b", "", "日"}
	anyTypes = []event.Type{event.String, event.Integer, event.Float, event.Boolean, event.Timestamp}
)

// rules chooses a schema of up to six fields, up to four objects deep, and settings.
func (c *chooser) rules(t *testing.T) event.Rules {
	t.Helper()
	r := event.Rules{Windows: window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute}, MaxClockSkew: 5 * time.Minute}
	times, ids := []string{"publish", "attribute:a"}, []string{"message", "attribute:a"}
	if !c.oneIn(3) {
		r.Schema.Rest = "rest"
	}
	for i := range 1 + c.below(6) {
		f := event.Field{Name: fmt.Sprintf("f%d", i), Type: anyTypes[c.below(len(anyTypes))], Required: c.oneIn(2)}
		for range 1 + c.below(4) {
			f.Path = append(f.Path, anyKeys[c.below(5)])
		}
		if f.Type == event.Timestamp {
			f.Format = []event.Format{event.RFC3339, event.UnixSecond, event.UnixMilli}[c.below(3)]
		}
		if slices.ContainsFunc(r.Schema.Fields, func(g event.Field) bool { return within(f.Path, g.Path) || within(g.Path, f.Path) }) {
			continue // a pipeline file may not have both
		}
		r.Schema.Fields = append(r.Schema.Fields, f)
		switch {
		case f.Required && f.Type == event.Timestamp:
			r.Schema.Time = f.Name
			times = append(times, "payload")
		case f.Required && (f.Type == event.String || f.Type == event.Integer):
			ids = append(ids, "field:"+f.Name)
		}
	}
	var err error
	if r.EventTime, err = event.ParseTimeSource(times[len(times)-1-c.below(len(times))]); err != nil {
		t.Fatal(err)
	}
	if r.EventID, err = event.ParseIDSource(ids[len(ids)-1-c.below(len(ids))]); err != nil {
		t.Fatal(err)
	}
	return r
}

// within reports whether the value at the path is in the value at the other path, or is it.
func within(path, other []string) bool {
	return len(path) >= len(other) && slices.Equal(path[:len(other)], other)
}

// object chooses the members of the object that the keys lead to. A key may come twice.
func (c *chooser) object(s event.Schema, path []string) string {
	var keys []string
	for _, f := range s.Fields {
		if len(f.Path) > len(path) && within(f.Path, path) && !c.oneIn(8) {
			keys = append(keys, f.Path[len(path)])
		}
	}
	for range c.below(3) {
		keys = slices.Insert(keys, c.below(len(keys)+1), c.of(anyKeys))
	}
	var members []string
	for _, key := range keys {
		members = append(members, c.white()+c.spelled(key)+c.white()+":"+c.white()+c.value(s, append(slices.Clone(path), key))+c.white())
	}
	return "{" + strings.Join(members, ",") + "}"
}

// spelled chooses how a key is written.
func (c *chooser) spelled(key string) string {
	if !c.oneIn(4) {
		return `"` + key + `"`
	}
	escaped := ""
	for _, r := range key {
		escaped += fmt.Sprintf(`\u%04x`, r)
	}
	return `"` + escaped + `"`
}

// value chooses the value that the keys lead to: most often one that fits the schema.
func (c *chooser) value(s event.Schema, path []string) string {
	if len(path) < 6 && !c.oneIn(8) {
		for _, f := range s.Fields {
			switch {
			case slices.Equal(f.Path, path):
				values := valuesOf[f.Type][f.Format]
				if !c.oneIn(3) {
					values = values[:2]
				}
				return c.of(values)
			case within(f.Path, path):
				return c.object(s, path)
			}
		}
	}
	switch {
	case len(path) < 6 && c.oneIn(4):
		return c.object(s, path)
	case c.oneIn(4):
		return "[" + c.white() + c.of(otherValues) + "," + c.of(otherValues) + "]"
	}
	return c.of(otherValues)
}

// Values by type and format: two that are right, and others that are or nearly are.
var valuesOf = map[event.Type]map[event.Format][]string{
	event.String:  {"": {`"x"`, `""`, `"\u00e9\n\/\u0000"`, `"\ud800"`, `"\ud83d\ude00"`, `"日本"`, `"null"`, `"` + strings.Repeat(`\"y`, 200) + `"`, "null"}},
	event.Integer: {"": {"1", "-0", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "1.0", "1e2", "null"}},
	event.Float:   {"": {"1.5", "1", "-0", "1e3", "1E-400", "1e309", "9007199254740993", "0.1", "null"}},
	event.Boolean: {"": {"true", "false", "null", `"true"`}},
	event.Timestamp: {
		event.RFC3339:    {`"2026-03-14T09:26:53.589793589Z"`, `"2026-03-14 09:26:00"`, `"2026-03-14T11:26:53.5+02:00"`, `"\u0032026-03-14T09:26:53Z"`, `"2026-02-30T00:00:00Z"`, `"0001-01-01T00:00:00+00:01"`, `"2026-03-14T09:26:60Z"`, "1", "null"},
		event.UnixSecond: {"1773480413", "1773480360", "0", "-1", "-62135596800", "-62135596801", "253402300799", "253402300800", "9223372036854775807", "1.5", "null"},
		event.UnixMilli:  {"1773480413589", "1773480419999", "0", "-1", "-62135596800000", "-62135596800001", "253402300799999", "253402300800000", "-9223372036854775808", `"1773480413589"`, "null"},
	},
}

var otherValues = []string{"null", "1", `"x"`, "true", "[]", "{}", "-1.5e3", `"\udc00\ud800"`, `{"a":{"a":1,"a":2}}`, `[{"a":null}]`, "1e999", "12345678901234567890123", `"2026-03-14T09:26:53Z"`}

// attributeTimes are the texts of attributes that are times.
var attributeTimes = map[string]time.Time{
	"2026-03-14T09:26:53Z": time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC),
	"1773480413589":        time.Date(2026, 3, 14, 9, 26, 53, 589_000_000, time.UTC),
	"-1":                   time.Date(1969, 12, 31, 23, 59, 59, 999_000_000, time.UTC),
}

var attributeTexts = []string{"2026-03-14T09:26:53Z", "1773480413589", "-1", "x", ""}

// instant chooses a publish time: most often one about that of the events.
func (c *chooser) instant() time.Time {
	if c.oneIn(8) {
		return time.UnixMicro(int64(c.below(256)) * 1e12).UTC()
	}
	seconds := []int64{1773480413, 1773480413, 1773480540, 1773480539, 1773480113, 1773480112, 0, 120, 60}[c.below(9)]
	micros, _ := strconv.ParseInt(c.of([]string{"0", "1", "999999", "589793"}), 10, 64)
	return time.UnixMicro(seconds*1e6 + micros).UTC()
}
