package warehouse

import (
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// A Layout has the names of the tables of one pipeline, and determines their columns.
type Layout struct {
	Names
	// Schema has the fields of an event. Each field is a column of the raw table.
	Schema event.Schema
	// ProcessingAt is the number of fields before the column processing_timestamp.
	ProcessingAt int
	// Count is the name of the column that holds the number of events of a window.
	Count string
}

// A TableOf is a table of which each row holds one T. Its list of columns is the only
// such list. For each column the list has the name, and how to get the column's value
// from a T and set it in a T.
type TableOf[T any] struct {
	Table
	accessors []accessor[T] // by column
}

// A columnOf is a column of a TableOf.
type columnOf[T any] struct {
	Column
	accessor[T]
}

// An accessor gets a column's value from a T, and sets the value in a T. set returns
// false if the value has another type.
type accessor[T any] struct {
	get func(*T) any
	set func(*T, any) bool
}

func tableOf[T any](t Table, columns []columnOf[T]) TableOf[T] {
	all := TableOf[T]{Table: t}
	for _, c := range columns {
		all.Columns = append(all.Columns, c.Column)
		all.accessors = append(all.accessors, c.accessor)
	}
	return all
}

// Row returns the row that holds the item.
func (t TableOf[T]) Row(item *T) Row {
	row := make(Row, len(t.accessors))
	for i, a := range t.accessors {
		row[i] = a.get(item)
	}
	return row
}

// Item returns the T that the row holds. If a value has another type than
// [TableOf.Row] writes, the error names the column.
func (t TableOf[T]) Item(row Row) (item T, err error) {
	for i, a := range t.accessors {
		if !a.set(&item, row[i]) {
			return item, fmt.Errorf("column %s has a value that Tidemark does not write: %s", t.Columns[i].Name, strictjson.Quote(fmt.Sprint(row[i])))
		}
	}
	return item, nil
}

// at accesses a field of T whose value is the column's value.
func at[T, V any](field func(*T) *V) accessor[T] {
	return accessor[T]{
		get: func(item *T) any { return *field(item) },
		set: func(item *T, value any) bool {
			v, ok := value.(V)
			if ok {
				*field(item) = v
			}
			return ok
		},
	}
}

// text accesses a field of T whose type is a string type.
func text[T any, V ~string](field func(*T) *V) accessor[T] {
	return accessor[T]{
		get: func(item *T) any { return string(*field(item)) },
		set: func(item *T, value any) bool {
			text, ok := value.(string)
			*field(item) = V(text)
			return ok
		},
	}
}

// orNull accesses a text. An empty text is NULL in the column.
func orNull[T any, V ~string](field func(*T) *V) accessor[T] {
	return accessor[T]{
		get: func(item *T) any {
			if text := *field(item); text != "" {
				return string(text)
			}
			return nil
		},
		set: func(item *T, value any) bool {
			text, ok := value.(string)
			*field(item) = V(text)
			return ok || value == nil
		},
	}
}

// fieldAt accesses the value of field i of the event.
func fieldAt(i, fields int) accessor[RawRow] {
	return accessor[RawRow]{
		get: func(r *RawRow) any {
			if i < len(r.Values) {
				return r.Values[i].Any()
			}
			return nil
		},
		set: func(r *RawRow, value any) bool {
			if r.Values == nil {
				r.Values = make([]event.Value, fields)
			}
			v, ok := event.ValueOf(value)
			r.Values[i] = v
			return ok
		},
	}
}

// RawTable defines the raw rows: first the columns of the pipeline file, then
// Tidemark's own.
func RawTable(l Layout) TableOf[RawRow] {
	var columns []columnOf[RawRow]
	add := func(name string, typ Type, description string, a accessor[RawRow]) {
		columns = append(columns, columnOf[RawRow]{Column{Name: name, Type: typ, Description: description}, a})
	}
	processing := func() {
		add(ProcessingTimestamp, Timestamp, "When Tidemark took the message up.", at(func(r *RawRow) *time.Time { return &r.ProcessingTime }))
	}
	for i, f := range l.Schema.Fields {
		if i == l.ProcessingAt {
			processing()
		}
		columns = append(columns, columnOf[RawRow]{
			Column{Name: f.Name, Type: f.Type, Nullable: !f.Required, OfEvent: true, Description: f.Description},
			fieldAt(i, len(l.Schema.Fields)),
		})
	}
	if l.ProcessingAt >= len(l.Schema.Fields) {
		processing()
	}
	if l.Schema.Rest != "" {
		columns = append(columns, columnOf[RawRow]{
			Column{Name: l.Schema.Rest, Type: String, Nullable: true, OfEvent: true, Description: "What no other column has of the event, as JSON."},
			orNull(func(r *RawRow) *string { return &r.Rest }),
		})
	}
	add("event_id", String, "What makes two deliveries the same event.", at(func(r *RawRow) *string { return &r.EventID }))
	add("message_id", String, "Pub/Sub's message id, unique in the topic.", at(func(r *RawRow) *string { return &r.MessageID }))
	add("publish_time", Timestamp, "When Pub/Sub accepted the message.", at(func(r *RawRow) *time.Time { return &r.PublishTime }))
	add("window_start", Timestamp, "Start of the window the event is in, by the configured event time.", at(func(r *RawRow) *time.Time { return &r.WindowStart }))
	add("is_late", Boolean, "Published too late to be counted: at or after the window's end plus the allowed lateness.", at(func(r *RawRow) *bool { return &r.Late }))
	return tableOf(Table{
		Name:        l.Raw,
		Description: "Every stored delivery of every event, late ones too. A redelivered event may be here more than once: the view " + l.Events() + " has each once.",
		PartitionBy: ProcessingTimestamp,
		ClusterBy:   "window_start",
	}, columns)
}

// ProcessingTimestamp is the column of the raw table that a pipeline file may place
// between its fields.
const ProcessingTimestamp = "processing_timestamp"

// AggLogTable defines the log of window counts.
func AggLogTable(l Layout) TableOf[WindowCount] {
	return tableOf(Table{
		Name:        l.AggLog(),
		Description: "Every count ever published for a window. The greatest is the window's value: the view " + l.Agg + " has one row per window.",
		ClusterBy:   "timestamp",
	}, []columnOf[WindowCount]{
		{Column{Name: "timestamp", Type: Timestamp, Description: "Start of the window."}, at(func(c *WindowCount) *time.Time { return &c.Start })},
		{Column{Name: "window_end", Type: Timestamp, Description: "End of the window, which is not in it."}, accessor[WindowCount]{
			get: func(c *WindowCount) any { return StorableTime(c.End) },
			set: at(func(c *WindowCount) *time.Time { return &c.End }).set,
		}},
		{Column{Name: l.Count, Type: Integer, Description: "Distinct event ids counted in the window so far."}, at(func(c *WindowCount) *int64 { return &c.PageViews })},
		{Column{Name: "is_final", Type: Boolean, Description: "Whether the window was past its allowed lateness when this was written."}, at(func(c *WindowCount) *bool { return &c.Final })},
		{Column{Name: "written_at", Type: Timestamp, Description: "When this was written."}, at(func(c *WindowCount) *time.Time { return &c.WrittenAt })},
	})
}

// A LetterPart is a row of the dead letter table: a dead letter with one part of its
// data.
type LetterPart struct {
	DeadLetter        // Message.Data is the part
	Part, Parts int64 // number of the part, from 1, and number of all parts
}

// DeadLetterTable defines the dead letters.
func DeadLetterTable(l Layout) TableOf[LetterPart] {
	return tableOf(Table{
		Name:        l.DeadLetter,
		Description: "Messages that can never become events, with their bytes and why. A redelivered one may be here more than once: the view " + l.DeadLetters() + " has each once.",
		PartitionBy: "received_at",
	}, []columnOf[LetterPart]{
		{Column{Name: "received_at", Type: Timestamp, Description: "When Tidemark received the message."}, at(func(p *LetterPart) *time.Time { return &p.ReceivedAt })},
		{Column{Name: "message_id", Type: String, Description: "Pub/Sub's message id, or a digest where a message came without."}, at(func(p *LetterPart) *string { return &p.Message.ID })},
		{Column{Name: "publish_time", Type: Timestamp, Description: "When Pub/Sub accepted the message."}, at(func(p *LetterPart) *time.Time { return &p.Message.PublishTime })},
		{Column{Name: "subscription", Type: String, Nullable: true, Description: "Subscription that delivered it."}, orNull(func(p *LetterPart) *string { return &p.Message.Subscription })},
		{Column{Name: "attributes", Type: String, Nullable: true, Description: "Attributes as a JSON object; for an unwrapped push, its HTTP headers."}, accessor[LetterPart]{
			get: func(p *LetterPart) any { return attributesText(p.Message.Attributes) },
			set: func(p *LetterPart, value any) (ok bool) {
				p.Message.Attributes, ok = parseAttributes(value)
				return ok
			},
		}},
		{Column{Name: "data", Type: Bytes, Nullable: true, Description: "Data, or a part of it; null for none."}, accessor[LetterPart]{
			get: func(p *LetterPart) any {
				if len(p.Message.Data) == 0 {
					return nil
				}
				return p.Message.Data
			},
			set: func(p *LetterPart, value any) bool {
				data, ok := value.([]byte)
				p.Message.Data = data
				return ok || value == nil
			},
		}},
		{Column{Name: "part", Type: Integer, Description: "Number of this part, from 1."}, at(func(p *LetterPart) *int64 { return &p.Part })},
		{Column{Name: "parts", Type: Integer, Description: "Number of parts that the data is stored in."}, at(func(p *LetterPart) *int64 { return &p.Parts })},
		{Column{Name: "reason", Type: String, Description: "Why, as a short constant."}, text(func(p *LetterPart) *event.Reason { return &p.Reason })},
		{Column{Name: "error", Type: String, Nullable: true, Description: "Why, in detail."}, orNull(func(p *LetterPart) *string { return &p.Err })},
	})
}

// Tables returns the definitions of the stored tables.
func Tables(l Layout) []Table {
	return []Table{RawTable(l).Table, AggLogTable(l).Table, DeadLetterTable(l).Table}
}
