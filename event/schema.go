package event

import (
	"slices"
	"strings"
)

// A Schema says what an event of a pipeline is: which keys of a message's data are read
// into which fields. The Schema comes from the pipeline file.
type Schema struct {
	Fields []Field
	// Time is the name of the TIMESTAMP field that EVENT_TIME=payload means. It is
	// empty if the payload has none.
	Time string
	// Rest is the name of the column for the JSON of everything that no field took. It is
	// empty if the pipeline does not keep the rest.
	Rest string
}

// A Field is one value of an event, and a column of the raw table.
type Field struct {
	Name        string
	Type        Type
	Required    bool     // an event without the value is a dead letter; else null and absent are NULL
	Path        []string // the keys that lead to the value, from the outermost object
	Format      Format   // of a Timestamp
	Description string   // one line, for the table
}

// Type is the type of a value, in BigQuery's words.
type Type string

// The types of a field.
const (
	String    Type = "STRING"
	Integer   Type = "INTEGER" // signed, 64 bits
	Float     Type = "FLOAT"   // 64 bits, finite
	Boolean   Type = "BOOLEAN"
	Timestamp Type = "TIMESTAMP" // UTC, microseconds, years 1 to 9999
)

// Format is how a TIMESTAMP is written in the data.
type Format string

// The formats.
const (
	RFC3339    Format = "rfc3339" // a string, as ParseTime reads it
	UnixSecond Format = "unix_s"  // an integer: seconds since the Unix epoch
	UnixMilli  Format = "unix_ms" // an integer: milliseconds since the Unix epoch
)

// Key returns the keys that lead to the field's value, joined by points.
func (f Field) Key() string { return strings.Join(f.Path, ".") }

// Index returns the index of the field of that name, or -1.
func (s Schema) Index(name string) int {
	return slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == name })
}
