// Package pipeline reads and writes pipeline files. A pipeline file says what an event
// is and what is counted; docs/pipeline-file.md describes the file for users. The file
// of the streaming lab is built in.
package pipeline

import (
	"cmp"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// A File is the content of a pipeline file.
type File struct {
	// Name is the name of the pipeline. The names of the pipeline's tables are derived
	// from it. Only the built-in file has an empty name.
	Name string
	// Window and Lateness are the window duration and the allowed lateness, as the file
	// spells them. They are empty if the file leaves them to the settings.
	Window, Lateness string
	// ID is the source of the event id, as the setting EVENT_ID spells it. Two messages
	// with equal ids are the same event.
	ID     string
	Schema event.Schema
	// ProcessingAt is the number of fields before the column processing_timestamp in the
	// raw table.
	ProcessingAt int
	// Count is the name of the column with a window's number of events.
	Count string
}

// String returns what the file says, on one line.
func (f File) String() string {
	var fields []string
	for _, field := range f.Schema.Fields {
		mode := ""
		if field.Required {
			mode = " REQUIRED"
		}
		text := field.Name + " " + string(field.Type) + mode
		if key := field.Key(); key != field.Name {
			text += " from " + key
		}
		fields = append(fields, text)
	}
	text := fmt.Sprintf("event time %s, event id %s, count %s, fields: %s", cmp.Or(f.Schema.Time, "not in the payload"), f.ID, f.Count, strings.Join(fields, ", "))
	if f.Schema.Rest != "" {
		text += "; the rest in " + f.Schema.Rest
	}
	return text
}

// Lab is the built-in pipeline file: the access log of the streaming lab, counted
// per minute.
//
//go:embed lab.yaml
var Lab string

// LabFile returns the content of the built-in file.
func LabFile() File { return labFile() }

var labFile = sync.OnceValue(func() File {
	f, _, err := parse([]byte(Lab))
	if err != nil {
		panic(fmt.Sprintf("the built-in pipeline file: %v", err)) // a test reads it
	}
	return f
})

// Limits of a pipeline file.
const (
	maxFile   = 64 << 10 // bytes
	maxFields = 200
)

// Parse reads a pipeline file. The error names every problem, each with its
// line and what to write instead.
func Parse(text []byte) (File, error) {
	f, lines, err := parse(text)
	if err != nil {
		return f, err
	}
	if f.Name == "" {
		return f, fmt.Errorf("line %d: the pipeline has no name; write name: and a name for it, as in name: orders", lines.root)
	}
	return f, nil
}

// fileLines has the lines of the parts that are checked after the whole file was read.
type fileLines struct{ root, id, time int }

// parse reads a file that may have no name.
func parse(text []byte) (File, fileLines, error) {
	p := fileReader{file: File{ID: "message", ProcessingAt: -1}, fieldLines: map[string]int{}}
	if len(text) > maxFile {
		p.problem(1, "the file has %d bytes, want at most %d", len(text), maxFile)
		return p.file, p.lines, p.err()
	}
	if root := p.document(text); root != nil {
		p.read(root)
	}
	return p.file, p.lines, p.err()
}

// A fileReader reads one pipeline file.
type fileReader struct {
	reader
	file       File
	lines      fileLines
	fieldLines map[string]int // lines of the columns of the raw table, by name in lower case
	unread     bool           // whether the name of a field could not be read
}

func (p *fileReader) read(root *yaml.Node) {
	p.lines.root = root.Line
	has := p.mapping(root, "the file", []mappingKey{
		{"name", p.readName},
		{"window", p.readDuration("window", &p.file.Window)},
		{"lateness", p.readDuration("lateness", &p.file.Lateness)},
		{"event", p.readEvent},
		{"aggregate", p.readAggregate},
	})
	if !has("event") {
		p.problem(root.Line, "the file has no event; write event:, below it fields:, and "+aFieldEach)
	}
	if !has("aggregate") {
		p.problem(root.Line, "the file has no aggregate; write aggregate:, below it columns:, and the count, as in - {name: orders, count: true}")
	}
	p.checkTime()
	p.checkID()
	p.checkPaths()
}

var pipelineName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,99}$`)

func (p *fileReader) readName(n *yaml.Node) {
	p.text(n, "name", &p.file.Name)
	if name := p.file.Name; name != "" && !pipelineName.MatchString(name) {
		p.problem(n.Line, "name %q is part of the names of tables; write letters, digits and _, a letter first, at most 100, as in name: orders", name)
	} else if strings.HasPrefix(strings.ToLower(name)+"_", "sqlite_") {
		p.problem(n.Line, "name %q would begin the names of tables, and SQLite keeps names that begin with sqlite_ for itself; choose another name", name)
	}
}

func (p *fileReader) readDuration(key string, into *string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		var text string
		if p.scalarText(n, key, &text); text == "" {
			return
		}
		if _, err := durations.Parse(text); err != nil {
			p.problem(n.Line, "%s is %q: %v", key, text, err)
			return
		}
		*into = text
	}
}

// aFieldEach says how the list of fields is written.
const aFieldEach = "a line for each field, as in - {name: order_id, type: STRING, mode: REQUIRED}"

func (p *fileReader) readEvent(n *yaml.Node) {
	has := p.mapping(n, "event", []mappingKey{
		{"time", func(n *yaml.Node) { p.lines.time = n.Line; p.text(n, "time", &p.file.Schema.Time) }},
		{"id", func(n *yaml.Node) { p.lines.id = n.Line; p.text(n, "id", &p.file.ID) }},
		{"fields", p.readFields},
		{"rest", p.readRest},
	})
	if !has("fields") {
		p.problem(n.Line, "event has no fields; write fields:, and "+aFieldEach)
	}
}

func (p *fileReader) readRest(n *yaml.Node) {
	p.text(n, "rest", &p.file.Schema.Rest)
	if p.file.Schema.Rest != "" {
		p.checkColumn(n.Line, p.file.Schema.Rest, "")
	}
}

func (p *fileReader) readFields(n *yaml.Node) {
	p.items(n, "fields", func(item *yaml.Node) {
		if item.Kind == yaml.ScalarNode && item.Value == warehouse.ProcessingTimestamp && p.plain(item) {
			if p.file.ProcessingAt >= 0 {
				p.problem(item.Line, "%s is in the list twice; keep one", warehouse.ProcessingTimestamp)
			}
			p.file.ProcessingAt = len(p.file.Schema.Fields)
			return
		}
		p.readField(item)
	})
	switch count := len(p.file.Schema.Fields); {
	case count == 0 && n.Kind == yaml.SequenceNode:
		p.problem(n.Line, "fields is empty; write "+aFieldEach)
	case count > maxFields:
		p.problem(n.Line, "there are %d fields, want at most %d; event: rest: payload keeps the others as JSON", count, maxFields)
	}
	if p.file.ProcessingAt < 0 {
		p.file.ProcessingAt = len(p.file.Schema.Fields)
	}
}

func (p *fileReader) readField(n *yaml.Node) {
	var f event.Field
	var from, mode, typ string
	var typeLine, formatLine int
	has := p.mapping(n, "a field", []mappingKey{
		{"name", func(n *yaml.Node) { p.text(n, "name", &f.Name) }},
		{"type", func(n *yaml.Node) { typeLine = n.Line; p.text(n, "type", &typ) }},
		{"mode", func(n *yaml.Node) { p.readMode(n, &mode) }},
		{"from", func(n *yaml.Node) { p.text(n, "from", &from) }},
		{"format", func(n *yaml.Node) { formatLine = n.Line; p.readFormat(n, &f.Format) }},
		{"description", func(n *yaml.Node) { p.readDescription(n, &f.Description) }},
	})
	if f.Name == "" {
		p.unread = true
		if !has("name") {
			p.problem(n.Line, "the field has no name; write name: and the name of its column")
		}
		return
	}
	p.checkColumn(n.Line, f.Name, from)
	if typeLine > 0 || !has("type") {
		f.Type = p.typeOf(n.Line, typeLine, typ, f.Name)
	}
	f.Required = mode == "REQUIRED"
	f.Path = strings.Split(from, ".")
	if from == "" {
		f.Path = []string{f.Name}
	}
	if slices.Contains(f.Path, "") {
		p.problem(n.Line, "from %q has an empty key; write the keys from the outermost object with a dot between two, as in order.created", from)
	}
	switch {
	case f.Type == "": // a problem already
	case f.Type != event.Timestamp && f.Format != "":
		p.problem(formatLine, "format goes with TIMESTAMP, and %s is %s; leave format out", f.Name, f.Type)
	case f.Type == event.Timestamp && f.Format == "":
		f.Format = event.RFC3339
	}
	p.file.Schema.Fields = append(p.file.Schema.Fields, f)
}

// typeNames are the types that a file may name.
var typeNames = map[string]event.Type{
	"STRING": event.String, "INTEGER": event.Integer, "INT64": event.Integer,
	"FLOAT": event.Float, "FLOAT64": event.Float, "BOOLEAN": event.Boolean, "BOOL": event.Boolean,
	"TIMESTAMP": event.Timestamp,
}

// otherTypes are the types of BigQuery that a field cannot have, with what to use
// instead.
var otherTypes = map[string]string{
	"RECORD":     "write a field for each value in it that you need, with from: outer.inner, or keep it with event: rest: payload",
	"STRUCT":     "write a field for each value in it that you need, with from: outer.inner, or keep it with event: rest: payload",
	"REPEATED":   "keep it with event: rest: payload",
	"ARRAY":      "keep it with event: rest: payload",
	"JSON":       "keep it with event: rest: payload",
	"NUMERIC":    "write INTEGER and count in the smallest unit, as cents, or STRING",
	"BIGNUMERIC": "write INTEGER and count in the smallest unit, as cents, or STRING",
	"DECIMAL":    "write INTEGER and count in the smallest unit, as cents, or STRING",
	"DATE":       "write STRING, or TIMESTAMP for an instant",
	"DATETIME":   "write STRING, or TIMESTAMP for an instant",
	"TIME":       "write STRING",
	"BYTES":      "write STRING: JSON has no bytes",
}

func (p *fileReader) typeOf(fieldLine, line int, text, name string) event.Type {
	typ, ok := typeNames[text]
	switch upper := strings.ToUpper(text); {
	case ok:
		return typ
	case line == 0:
		p.problem(fieldLine, "field %s has no type; write type: and one of STRING, INTEGER, FLOAT, BOOLEAN, TIMESTAMP", name)
	case text == "": // reported as no text
	case typeNames[upper] != "":
		p.problem(line, "type is %q; write %s", text, upper)
	case otherTypes[upper] != "":
		p.problem(line, "type %s is not for fields of events; %s", upper, otherTypes[upper])
	default:
		p.problem(line, "type is %q, want STRING, INTEGER, FLOAT, BOOLEAN or TIMESTAMP", text)
	}
	return ""
}

func (p *fileReader) readMode(n *yaml.Node, into *string) {
	p.text(n, "mode", into)
	switch *into {
	case "", "REQUIRED", "NULLABLE":
		return
	case "REPEATED":
		p.problem(n.Line, "mode REPEATED is not for fields of events; keep a list with event: rest: payload")
	default:
		p.problem(n.Line, "mode is %q, want REQUIRED (an event must have the value) or NULLABLE", *into)
	}
	*into = "REQUIRED" // what the event time and the event id need
}

func (p *fileReader) readFormat(n *yaml.Node, into *event.Format) {
	var text string
	p.text(n, "format", &text)
	switch format := event.Format(text); format {
	case "":
	case event.RFC3339, event.UnixSecond, event.UnixMilli:
		*into = format
	default:
		p.problem(n.Line, "format is %q, want rfc3339 (text, as 2026-03-14T09:26:53Z), unix_s or unix_ms (integers)", text)
	}
}

func (p *fileReader) readDescription(n *yaml.Node, into *string) {
	p.text(n, "description", into)
	if strings.ContainsAny(*into, "\r\n") {
		p.problem(n.Line, "the description has several lines; write one")
	}
	if len(*into) > maxDescription {
		p.problem(n.Line, "the description has %d bytes, want at most %d", len(*into), maxDescription)
	}
}

// maxDescription is the longest description that BigQuery accepts: 1,024 characters.
// https://docs.cloud.google.com/bigquery/quotas
const maxDescription = 1024

var columnName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// reservedPrefixes begin names that BigQuery keeps for itself, in any case.
// https://cloud.google.com/bigquery/docs/schemas#column_names
var reservedPrefixes = []string{"_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER", "_CHANGE_SEQUENCE_NUMBER", "_CHANGE_TYPE"}

// checkColumn checks the name of a column of the raw table. The parameter from is the
// field's key in the event, if the file gives a key.
func (p *fileReader) checkColumn(line int, name, from string) {
	key := from
	if key == "" {
		key = name
	}
	lower := strings.ToLower(name)
	p.checkName(line, name)
	if slices.Contains(ourRawColumns, lower) {
		p.problem(line, "column %s is Tidemark's own; write {name: payload_%s, from: %s}", name, lower, key)
	}
	if first, taken := p.fieldLines[lower]; taken {
		p.problem(line, "column %s is on line %d already (names do not differ by case alone); choose another name, with from: %s", name, first, key)
		return
	}
	p.fieldLines[lower] = line
}

// Columns that every pipeline has. The last of the aggregate's are columns of its view,
// and names that are kept for later columns.
var (
	ourRawColumns = columnNames(warehouse.RawTable(warehouse.Layout{}).Table)
	ourAggColumns = append(columnNames(warehouse.AggLogTable(warehouse.Layout{}).Table),
		"finalized_at", "updated_at", "window_events", "version", "publication", "part", "group_count")
)

// columnNames returns the names of the columns that do not depend on the pipeline.
func columnNames(t warehouse.Table) []string {
	var names []string
	for _, c := range t.Columns {
		if c.Name != "" {
			names = append(names, c.Name)
		}
	}
	return names
}

// checkName checks the form of a column's name.
func (p *fileReader) checkName(line int, name string) {
	if !columnName.MatchString(name) {
		p.problem(line, "name %q cannot be a column; write letters, digits and _, not a digit first, at most 128, and say with from: which key of the event is meant", name)
		return
	}
	if prefix, reserved := reservedPrefix(name); reserved {
		p.problem(line, "name %q begins with %s, which BigQuery keeps for itself; choose another name", name, prefix)
	}
}

// reservedPrefix returns the prefix of a name that BigQuery keeps for itself.
func reservedPrefix(name string) (prefix string, reserved bool) {
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(strings.ToUpper(name), prefix) {
			return prefix, true
		}
	}
	return "", false
}

// checkTime checks that event: time: names a field that can be the event time.
func (p *fileReader) checkTime() {
	name := p.file.Schema.Time
	if name == "" || p.fieldMayBeUnread(name) {
		return
	}
	i := p.file.Schema.Index(name)
	switch {
	case i < 0:
		p.problem(p.lines.time, "time: %s %s", name, p.file.noField(name))
	case p.file.Schema.Fields[i].Type != event.Timestamp && p.file.Schema.Fields[i].Type != "":
		p.problem(p.lines.time, "time: %s is a field of type %s; the event time must be a TIMESTAMP (for an integer, with format: unix_s or unix_ms)", name, p.file.Schema.Fields[i].Type)
	case !p.file.Schema.Fields[i].Required:
		p.problem(p.lines.time, "time: %s may be missing from an event; write mode: REQUIRED at the field, or leave time: out and set EVENT_TIME", name)
	}
}

// checkID checks that event: id: names something that every event has.
func (p *fileReader) checkID() {
	id, err := event.ParseIDSource(p.file.ID)
	if err != nil {
		p.problem(p.lines.id, "id is %q, want message (the id of the message), attribute:NAME or field:NAME", p.file.ID)
	} else if name := id.Field(); name != "" && !p.fieldMayBeUnread(name) {
		if problem := p.file.CheckIDField(name); problem != "" {
			p.problem(p.lines.id, "id: field:%s %s", name, problem)
		}
	}
}

// CheckIDField returns why a field cannot be the event id, or an empty string if it can.
func (f File) CheckIDField(name string) (problem string) {
	i := f.Schema.Index(name)
	if i < 0 {
		return f.noField(name)
	}
	field := f.Schema.Fields[i]
	if field.Type != "" && field.Type != event.String && field.Type != event.Integer || !field.Required {
		return "must be a field of type STRING or INTEGER with mode: REQUIRED"
	}
	return ""
}

// noField says that no field has the name.
func (f File) noField(name string) string {
	names := make([]string, len(f.Schema.Fields))
	for i, field := range f.Schema.Fields {
		names[i] = field.Name
	}
	text, _ := advice(name, "the fields are", names)
	return "is not the name of a field; " + text
}

// fieldMayBeUnread reports whether the name may be the name of a field that could not be
// read. The problem of that field is reported already.
func (p *fileReader) fieldMayBeUnread(name string) bool {
	return p.file.Schema.Index(name) < 0 && (p.unread || len(p.file.Schema.Fields) == 0)
}

// checkPaths checks that no value is in two fields. Two fields must not have the same
// key, and no field may have an object of which another field has a part.
func (p *fileReader) checkPaths() {
	fields := p.file.Schema.Fields
	for i, f := range fields {
		for _, earlier := range fields[:i] {
			line := p.fieldLines[strings.ToLower(f.Name)]
			switch {
			case slices.Equal(f.Path, earlier.Path):
				p.problem(line, "fields %s and %s are both from %s; keep one of them", earlier.Name, f.Name, strings.Join(f.Path, "."))
			case hasPrefix(f.Path, earlier.Path), hasPrefix(earlier.Path, f.Path):
				p.problem(line, "field %s is from %s and field %s is from %s: one of the two is inside the other, so it cannot be a value; keep one of them",
					earlier.Name, strings.Join(earlier.Path, "."), f.Name, strings.Join(f.Path, "."))
			}
		}
	}
}

func hasPrefix(path, prefix []string) bool {
	return len(path) > len(prefix) && slices.Equal(path[:len(prefix)], prefix)
}

func (p *fileReader) readAggregate(n *yaml.Node) {
	has := p.mapping(n, "aggregate", []mappingKey{
		{"by", func(n *yaml.Node) {
			p.problem(n.Line, "groups are not in this version; leave by: out")
		}},
		{"columns", p.readColumns},
	})
	if !has("columns") {
		p.problem(n.Line, "aggregate has no columns; write columns:, and the count, as in - {name: orders, count: true}")
	}
}

func (p *fileReader) readColumns(n *yaml.Node) {
	p.items(n, "columns", func(item *yaml.Node) {
		var name string
		var count, measure bool
		before := len(p.problems)
		other := func(n *yaml.Node) {
			measure = true
			p.problem(n.Line, "of the aggregates this version has count only; write {name: orders, count: true}, and take the others from the raw table by SQL")
		}
		has := p.mapping(item, "a column", []mappingKey{
			{"name", func(n *yaml.Node) { p.text(n, "name", &name) }},
			{"count", func(n *yaml.Node) { p.boolean(n, "count", &count) }},
			{"sum", other}, {"min", other}, {"max", other}, {"distinct", other}, {"quantile", other},
			{"at", func(*yaml.Node) {}},
		})
		switch {
		case measure: // a problem already
		case !has("name"):
			p.problem(item.Line, "the column has no name; write name: and a name for it")
		case name == "" || !count && len(p.problems) > before: // a problem already
		case !count:
			p.problem(item.Line, "column %s does not say what it is; write count: true", name)
		case p.file.Count != "":
			p.problem(item.Line, "there are two counts, %s and %s; keep one", p.file.Count, name)
		default:
			p.checkName(item.Line, name)
			if slices.Contains(ourAggColumns, strings.ToLower(name)) {
				p.problem(item.Line, "column %s is Tidemark's own in the aggregate; choose another name", name)
			}
			p.file.Count = name
		}
	})
	if p.file.Count == "" && n.Kind == yaml.SequenceNode && len(p.problems) == 0 {
		p.problem(n.Line, "columns has no count; write - {name: orders, count: true}")
	}
}
