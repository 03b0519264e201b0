package pipeline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
)

func infer(t *testing.T, name string, lines ...string) string {
	t.Helper()
	var i Inference
	for _, line := range lines {
		i.Add([]byte(line))
	}
	text, err := i.File(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAFileIsGuessedFromSamples(t *testing.T) {
	t.Parallel()
	got := infer(t, "orders",
		`{"order": {"id": "o-1", "created": 1773480413589}, "customer": {"id": 7, "address": {"country": "FR"}}, "amount": 1250, "ms": 12, "tags": ["a"], "updated": "2026-03-14T09:26:53Z", "event_id": "x"}`,
		`{"order": {"id": "o-2", "created": 1773480414001}, "customer": {"id": 8, "address": {"country": null}}, "amount": 990, "ms": 1.5, "tags": [], "updated": "2026-03-14T09:26:54Z", "event_id": "y"}`,
		`not an event`,
	)
	want := `# Guessed from 2 events. Look at each guess. Then see what becomes of an event:
#   tidemark serve --pipeline-file FILE, and curl 'localhost:8080/push/raw?dry_run=1' -d EVENT
# 1 sample that would be dead letters were left out: each line must be one JSON object in UTF-8.
name: orders                                                                                       # the tables are orders_raw, orders and orders_dead_letter
window: 60s
lateness: 2m                                                                                       # how long after its window's end an event may be published and still be counted
event:
  time: created                                                                                    # a time in every event, as updated
  id: message                                                                                      # or attribute:NAME, field:NAME: what makes two messages the same event
  fields:
    - {name: order_id, type: STRING, mode: REQUIRED, from: order.id}                               # in every event
    - {name: created, type: TIMESTAMP, mode: REQUIRED, from: order.created, format: unix_ms}       # in every event
    - {name: customer_id, type: INTEGER, mode: REQUIRED, from: customer.id}                        # in every event
    - {name: country, type: STRING, mode: NULLABLE, from: customer.address.country}                # in 1 of 2 events, null in 1
    - {name: amount, type: INTEGER, mode: REQUIRED}                                                # in every event
    - {name: ms, type: FLOAT, mode: REQUIRED}                                                      # in every event; written as an integer in 1
    - {name: updated, type: TIMESTAMP, mode: REQUIRED}                                             # in every event
    - {name: payload_event_id, type: STRING, mode: REQUIRED, from: event_id}                       # in every event
    # no field for "tags": lists
  rest: payload                                                                                    # the JSON of what no field takes
aggregate:
  columns:
    - {name: events, count: true}
`
	squeeze := func(text string) string {
		for strings.Contains(text, "  #") {
			text = strings.ReplaceAll(text, "  #", " #")
		}
		return text
	}
	if diff := cmp.Diff(squeeze(want), squeeze(got)); diff != "" {
		t.Errorf("-want +got\n%s\n%s", diff, got)
	}
}

// The key of each sample is ts, which sounds like a time.
func TestTypesAreGuessedFromTheValues(t *testing.T) {
	t.Parallel()
	const none = ""
	for values, want := range map[[2]string]string{
		{"true", "false"}:                            "{name: ts, type: BOOLEAN, mode: REQUIRED}",
		{"true", "null"}:                             "{name: ts, type: BOOLEAN, mode: NULLABLE}",
		{"true", "1"}:                                none,
		{`"a"`, `"2026-03-14T09:26:53Z"`}:            "{name: ts, type: STRING, mode: REQUIRED}",
		{`"a"`, "1"}:                                 none,
		{"1.5", "null"}:                              "{name: ts, type: FLOAT, mode: NULLABLE}",
		{"9223372036854775808", "1"}:                 "{name: ts, type: FLOAT, mode: REQUIRED}",
		{"1e400", "1"}:                               none,
		{"946684800", "4102444799"}:                  "{name: ts, type: TIMESTAMP, mode: REQUIRED, format: unix_s}", // 2000 and before 2100
		{"946684799", "4102444799"}:                  "{name: ts, type: INTEGER, mode: REQUIRED}",
		{"946684800", "4102444800"}:                  "{name: ts, type: INTEGER, mode: REQUIRED}",
		{"946684800000", "4102444799999"}:            "{name: ts, type: TIMESTAMP, mode: REQUIRED, format: unix_ms}",
		{"946684799999", "4102444799999"}:            "{name: ts, type: INTEGER, mode: REQUIRED}",
		{"946684800000", "4102444800000"}:            "{name: ts, type: INTEGER, mode: REQUIRED}",
		{"946684800", "1773480413589"}:               "{name: ts, type: INTEGER, mode: REQUIRED}",
		{`"2026-03-14 09:26:53"`, `"2026-03-14"`}:    "{name: ts, type: STRING, mode: REQUIRED}",
		{`"2026-03-14 09:26:53"`, "1773480413"}:      none,
		{"[1773480413]", "[1773480414]"}:             none,
		{`{"a": 1773480413}`, `{"a": 1773480413}`}:   "{name: a, type: INTEGER, mode: REQUIRED, from: ts.a}",
		{`{"at": 1773480413}`, `{"at": 1773480413}`}: "{name: at, type: TIMESTAMP, mode: REQUIRED, from: ts.at, format: unix_s}",
	} {
		text := infer(t, "x", `{"other": "", "ts": `+values[0]+`}`, `{"other": "", "ts": `+values[1]+`}`)
		if want == none {
			if !strings.Contains(text, `no field for "ts": `) || strings.Contains(text, "{name: ts") {
				t.Errorf("%s: want no field:\n%s", values, text)
			}
		} else if !strings.Contains(text, "    - "+want+" ") {
			t.Errorf("%s: want %s:\n%s", values, want, text)
		}
	}
}

func TestWhatAGuessIsBasedOnIsSaidOnceAndOnlyIfItIsSo(t *testing.T) {
	t.Parallel()
	text := infer(t, "x", `{"ms": 1.5, "note": null, "n": "", "ts": "2026-03-14T09:26:53Z"}`, `{"ms": 2.5, "note": "a", "ts": "2026-03-14T09:26:53Z"}`)
	for _, want := range []string{
		"time: ts ", "# the only field that is a time in every event\n",
		"{name: ms, type: FLOAT, mode: REQUIRED} ", " # in every event\n",
		"{name: note, type: STRING, mode: NULLABLE} ", " # in 1 of 2 events, null in 1\n",
		`{name: "n", type: STRING, mode: NULLABLE} `, " # in 1 of 2 events\n",
		"  # rest: payload ", " # would keep the JSON of what no field takes; no event has any\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "left out") || strings.Contains(text, "written as an integer") {
		t.Errorf("the file speaks of samples that there are not:\n%s", text)
	}
	// The comments are in one column.
	columns := map[int]bool{}
	for _, line := range strings.Split(text, "\n")[2:] {
		if at := strings.LastIndex(line, "  # "); at > 0 {
			columns[at] = true
		}
	}
	if len(columns) != 1 {
		t.Errorf("comments begin in columns %v:\n%s", columns, text)
	}
}

// A long line does not move the comments of the others.
func TestCommentsOfShortLinesStayNear(t *testing.T) {
	t.Parallel()
	text := infer(t, "x", `{"a": 1, "`+strings.Repeat("k", 100)+`": 1}`)
	if !strings.Contains(text, "    - {name: a, type: INTEGER, mode: REQUIRED}  # in every event\n") {
		t.Errorf("got\n%s", text)
	}
}

func TestNamesAreFitForColumns(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"plain":           "plain",
		"with-hyphen":     "with_hyphen",
		"9lives":          "_9lives",
		"clé":             "cl_",
		"Message_ID":      "payload_message_id",
		"_PARTITIONDATE":  "field_PARTITIONDATE",
		"NO":              "NO",
		" # not: comment": "_not_comment",
		"line\nbreak":     "line_break",
		"\u2028":          "_",
		"0":               "_0",
		"/":               "_",
		":":               "_",
	} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			object := `{"` + strings.ReplaceAll(key, "\n", `\n`) + `": 1}`
			f, err := Parse([]byte(infer(t, "x", object)))
			if err != nil {
				t.Fatal(err)
			}
			want := []event.Field{{Name: want, Type: event.Integer, Required: true, Path: []string{key}}}
			if diff := cmp.Diff(want, f.Schema.Fields); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestNamesThatDifferByCaseOnlyAreToldApart(t *testing.T) {
	t.Parallel()
	f, err := Parse([]byte(infer(t, "x", `{"a": 1, "A": 2, "b": {"c": 1}, "d": {"C": 2}, "event-id": 1, "event_id": 1, "event id": 1}`)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, field := range f.Schema.Fields {
		names = append(names, field.Name)
	}
	if diff := cmp.Diff([]string{"a", "A_2", "b_c", "d_C", "payload_event_id", "payload_event_id_2", "payload_event_id_3"}, names); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWhatIsNoFieldIsInTheRest(t *testing.T) {
	t.Parallel()
	text := infer(t, "x",
		`{"ok": 1, "mixed": 1, "list": [1], "dotted.key": 1, "sometimes": {"x": 1}, "null": null, "huge": 1e999}`,
		`{"ok": 2, "mixed": "1", "list": [], "dotted.key": 1, "sometimes": 3, "null": null, "huge": 1}`)
	for _, want := range []string{
		`no field for "mixed": numbers and texts`, `no field for "list": lists`, `no field for "dotted.key": a key that is empty or has a dot`,
		`no field for "sometimes.x": a key above it is not always an object`, `no field for "sometimes": numbers and objects`,
		`no field for "null": null only`, `no field for "huge": numbers and numbers too large`, "rest: payload",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s in\n%s", want, text)
		}
	}
	f, err := Parse([]byte(text))
	if err != nil || len(f.Schema.Fields) != 1 {
		t.Errorf("fields %+v, error %v; want the field ok alone", f.Schema.Fields, err)
	}
}

func TestNoSampleIsNoGuess(t *testing.T) {
	t.Parallel()
	var i Inference
	if _, err := i.File("x"); err == nil || !strings.Contains(err.Error(), "there are no samples") {
		t.Errorf("without samples: %v", err)
	}
	i.Add([]byte(`[1]`))
	if _, err := i.File("x"); err == nil || !strings.Contains(err.Error(), "no line is a JSON object") {
		t.Errorf("got %v", err)
	}
}

// FuzzInference looks for samples for which the inferred text is not a valid pipeline
// file.
func FuzzInference(f *testing.F) {
	f.Add("orders", `{"a": {"b": [1, {"c": null}]}, "A": 1e400, "time": "2026-03-14T09:26:53Z"}`, `{"a": 1}`)
	f.Add("", `{"": {"": 1}, "x.y": 1, "__root__": true}`, "{}")
	f.Add("Y", `{"no": "2026-03-14T09:26:53Z"}`, "{}")
	f.Fuzz(func(t *testing.T, name, first, second string) {
		var i Inference
		i.Add([]byte(first))
		i.Add([]byte(second))
		if text, err := i.File(name); err != nil && strings.Contains(err.Error(), "fault") {
			t.Errorf("%v\n%s", err, text)
		}
	})
}
