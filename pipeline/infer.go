package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemark-dev/tidemark/event"
)

// An Inference guesses a pipeline file from sample events.
type Inference struct{ samples samples }

// Add adds the data of one sample event.
func (i *Inference) Add(data []byte) { i.samples.add(data) }

// File returns the text of a pipeline file with that name. Under the file, each sample
// that is a JSON object is an event. Comments in the file say what each guess is based
// on. File returns an error if there is no sample to guess from.
func (i *Inference) File(name string) (string, error) {
	s := &i.samples
	switch {
	case s.events == 0 && s.unusable == 0:
		return "", errors.New("there are no samples, so nothing can be guessed")
	case s.events == 0:
		return "", errors.New("no line is a JSON object, so nothing can be guessed; jq -c . FILE writes each object on one line, and jq -c '.[]' FILE each object of a list")
	}
	g := guess{samples: s, names: map[string]bool{}}
	g.chooseFields()
	if len(g.fields) == 0 {
		return "", fmt.Errorf("%s: there is nothing in them that a field could hold", plural(s.events, "sample"))
	}
	g.chooseTime()
	text := g.text(fileName(name))
	if _, err := Parse([]byte(text)); err != nil {
		return "", errors.Join(errors.New("the guess is no pipeline file, which is a fault of tidemark; please report it with the samples"), err)
	}
	return text, nil
}

// A guess is a pipeline file that is being built.
type guess struct {
	samples *samples
	fields  []guessed
	rest    []string // values that no field takes, with the reason
	names   map[string]bool
	time    string   // name of the field with the event time; empty for none
	times   []string // names of the other fields that could be the event time
}

// guessed is a field, with what the samples had there.
type guessed struct {
	event.Field
	seen *seen
}

func (g *guess) chooseFields() {
	leaves := slices.DeleteFunc(slices.Clone(g.samples.paths), func(at *seen) bool {
		return at.objects > 0 && at.objects == at.present // its members become fields instead
	})
	// If there are too many, keep the most frequent fields. Else keep the order of the
	// events.
	if len(leaves) > maxFields {
		frequent := slices.Clone(leaves)
		slices.SortStableFunc(frequent, func(a, b *seen) int { return cmp.Compare(b.present, a.present) })
		least := frequent[maxFields-1].present
		leaves = slices.DeleteFunc(leaves, func(at *seen) bool { return at.present <= least && !slices.Contains(frequent[:maxFields], at) })
	}
	short := shortNames(leaves)
	for _, at := range leaves {
		typ, format, reason := g.typeOf(at)
		if reason != "" {
			g.rest = append(g.rest, fmt.Sprintf("%s: %s", quotePath(at.path), reason))
			continue
		}
		g.fields = append(g.fields, guessed{event.Field{
			Name: g.name(at.path, short), Type: typ, Path: at.path, Format: format,
			Required: at.present == g.samples.events,
		}, at})
	}
}

// typeOf returns the type for the values at a path, or the reason why the values cannot
// be a field.
func (g *guess) typeOf(at *seen) (typ event.Type, format event.Format, reason string) {
	key := at.path[len(at.path)-1]
	switch {
	case slices.ContainsFunc(at.path, func(key string) bool { return key == "" || strings.Contains(key, ".") }):
		return "", "", "a key that is empty or has a dot cannot be named"
	case !g.samples.inObjects(at.path):
		return "", "", "a key above it is not always an object"
	case g.samples.events >= 100 && at.present*100 < g.samples.events:
		return "", "", "in less than one event of a hundred"
	case at.booleans > 0 && at.booleans == at.present:
		return event.Boolean, "", ""
	case at.texts > 0 && at.texts == at.present && at.times == at.texts:
		return event.Timestamp, event.RFC3339, ""
	case at.texts > 0 && at.texts == at.present:
		return event.String, "", ""
	case at.integers > 0 && at.integers == at.present && at.millis == at.integers && timeKey.MatchString(key):
		return event.Timestamp, event.UnixMilli, ""
	case at.integers > 0 && at.integers == at.present && at.seconds == at.integers && timeKey.MatchString(key):
		return event.Timestamp, event.UnixSecond, ""
	case at.integers > 0 && at.integers == at.present:
		return event.Integer, "", ""
	case at.numbers > 0 && at.integers+at.numbers == at.present:
		return event.Float, "", ""
	}
	return "", "", at.kinds()
}

// timeKey matches keys whose integer values may be times.
var timeKey = regexp.MustCompile(`(?i)(time|date|epoch|millis|created|updated|occurred|published|received|[_a-z]at$|^at$|^ts$|_ts$)`)

// shortNames returns how many of the paths end with each key, in lower case.
func shortNames(leaves []*seen) map[string]int {
	counts := map[string]int{}
	for _, at := range leaves {
		counts[strings.ToLower(at.path[len(at.path)-1])]++
	}
	return counts
}

// name returns the column's name for a path: the last key if no other path ends with that
// key, else all keys.
func (g *guess) name(path []string, short map[string]int) string {
	last := path[len(path)-1]
	name := last
	if short[strings.ToLower(last)] > 1 {
		name = strings.Join(path, "_")
	}
	name = tableName(name)
	lower := strings.ToLower(name)
	if slices.Contains(ourRawColumns, lower) {
		name = "payload_" + lower
	}
	if _, reserved := reservedPrefix(name); reserved {
		name = "field" + name
	}
	name = name[:min(len(name), 120)]
	for unique, n := name, 2; ; n++ {
		if !g.names[strings.ToLower(unique)] {
			g.names[strings.ToLower(unique)] = true
			return unique
		}
		unique = fmt.Sprintf("%s_%d", name, n)
	}
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_]+`)

// tableName returns text in which every character that a name cannot have is replaced.
func tableName(text string) string {
	name := notInNames.ReplaceAllString(text, "_")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

// fileName returns a name for the pipeline that is similar to text.
func fileName(text string) string {
	name := strings.TrimLeft(tableName(text), "_0123456789")
	if name == "" {
		return "events"
	}
	return name[:min(len(name), 100)]
}

// timeNames are names that the event time often has, the most likely first, in lower case
// and without underscores.
var timeNames = []string{"eventtime", "eventtimestamp", "timestamp", "time", "ts", "occurredat", "occurred", "createdat", "created", "date"}

// chooseTime chooses the event time among the times that every event has.
func (g *guess) chooseTime() {
	var candidates []guessed
	for _, f := range g.fields {
		if f.Type == event.Timestamp && f.Required {
			candidates = append(candidates, f)
		}
	}
	slices.SortStableFunc(candidates, func(a, b guessed) int {
		return cmp.Or(cmp.Compare(timeRank(a), timeRank(b)), cmp.Compare(len(a.Path), len(b.Path)))
	})
	for i, f := range candidates {
		if i == 0 {
			g.time = f.Name
		} else {
			g.times = append(g.times, f.Name)
		}
	}
}

func timeRank(f guessed) int {
	key := strings.ReplaceAll(strings.ToLower(f.Path[len(f.Path)-1]), "_", "")
	if rank := slices.Index(timeNames, key); rank >= 0 {
		return rank
	}
	return len(timeNames)
}

// text returns the file with a comment beside each guess.
func (g *guess) text(name string) string {
	var lines []commented
	line := func(text, format string, args ...any) {
		lines = append(lines, commented{text, fmt.Sprintf(format, args...)})
	}
	line("# Guessed from "+plural(g.samples.events, "event")+". Look at each guess. Then see what becomes of an event:", "")
	line("#   tidemark serve --pipeline-file FILE, and curl 'localhost:8080/push/raw?dry_run=1' -d EVENT", "")
	if g.samples.unusable > 0 {
		line("# "+plural(g.samples.unusable, "sample")+" that would be dead letters were left out: each line must be one JSON object in UTF-8.", "")
	}
	line("name: "+quoteYAML(name), "the tables are %[1]s_raw, %[1]s and %[1]s_dead_letter", name)
	line("window: 60s", "")
	line("lateness: 2m", "how long after its window's end an event may be published and still be counted")
	line("event:", "")
	switch {
	case g.time == "":
		line("  # time: there is no field that is a time in every event: set EVENT_TIME=publish, or attribute:NAME", "")
	case len(g.times) > 0:
		line("  time: "+quoteYAML(g.time), "a time in every event, as %s", strings.Join(g.times, ", "))
	default:
		line("  time: "+quoteYAML(g.time), "the only field that is a time in every event")
	}
	line("  id: message", "or attribute:NAME, field:NAME: what makes two messages the same event")
	line("  fields:", "")
	for _, f := range g.fields {
		line("    - "+f.flow(), "%s", g.basis(f))
	}
	for _, text := range g.rest {
		line("    # no field for "+text, "")
	}
	if len(g.rest) > 0 {
		line("  rest: "+g.restName(), "the JSON of what no field takes")
	} else {
		line("  # rest: "+g.restName(), "would keep the JSON of what no field takes; no event has any")
	}
	line("aggregate:", "")
	line("  columns:", "")
	line("    - {name: events, count: true}", "")
	return aligned(lines)
}

// restName returns a name for the column with the rest.
func (g *guess) restName() string {
	if g.names["payload"] {
		return "payload_rest"
	}
	return "payload"
}

// flow returns the field as it is written in the file.
func (f guessed) flow() string {
	text := "{name: " + quoteYAML(f.Name) + ", type: " + string(f.Type)
	mode := "NULLABLE"
	if f.Required {
		mode = "REQUIRED"
	}
	text += ", mode: " + mode
	if from := strings.Join(f.Path, "."); from != f.Name {
		text += ", from: " + quoteYAML(from)
	}
	if f.Type == event.Timestamp && f.Format != event.RFC3339 {
		text += ", format: " + string(f.Format)
	}
	return text + "}"
}

// basis returns what the guess of a field is based on, in words.
func (g *guess) basis(f guessed) string {
	text := "in every event"
	if !f.Required {
		text = fmt.Sprintf("in %d of %s", f.seen.present, plural(g.samples.events, "event"))
		if f.seen.nulls > 0 {
			text += fmt.Sprintf(", null in %d", f.seen.nulls)
		}
	}
	if f.Type == event.Float && f.seen.integers > 0 {
		text += fmt.Sprintf("; written as an integer in %d", f.seen.integers)
	}
	return text
}

// plainYAML matches text that every version of YAML reads as the same text without
// quotes.
var plainYAML = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// quoteYAML returns text as a YAML scalar.
func quoteYAML(text string) string {
	if plainYAML.MatchString(text) && !notText.MatchString(text) {
		return text
	}
	return strconv.QuoteToASCII(text)
}

func quotePath(path []string) string {
	text := strconv.Quote(strings.Join(path, "."))
	if len(text) > 80 {
		text = text[:80] + `..."`
	}
	return text
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// commented is a line of a file with its comment.
type commented struct{ text, comment string }

// aligned returns the lines with their comments aligned in one column.
func aligned(lines []commented) string {
	const most = 100 // a comment of a longer line stands behind it
	width := 0
	for _, l := range lines {
		if l.comment != "" && len(l.text) <= most {
			width = max(width, len(l.text))
		}
	}
	var b strings.Builder
	for _, l := range lines {
		if l.comment == "" {
			fmt.Fprintln(&b, l.text)
		} else {
			fmt.Fprintf(&b, "%-*s  # %s\n", width, l.text, l.comment)
		}
	}
	return b.String()
}
