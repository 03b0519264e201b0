package warehouse

import (
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// Type is a column's type, with BigQuery's name.
type Type = event.Type

// The types: those of an event's fields, and bytes.
const (
	String    = event.String
	Integer   = event.Integer
	Float     = event.Float
	Boolean   = event.Boolean
	Timestamp = event.Timestamp

	Bytes Type = "BYTES"
)

// A Column is one column of a table.
type Column struct {
	Name        string
	Type        Type
	Nullable    bool
	OfEvent     bool // holds a value of the event; a later pipeline file may leave the column out
	Description string
}

// A Table is the definition of a stored table. Every backend creates its table from
// this definition.
type Table struct {
	Name        string
	Description string
	Columns     []Column
	PartitionBy string // the TIMESTAMP column by whose day the table is partitioned; empty for none
	ClusterBy   string // empty for none
}

// MaxPart is how many bytes of a dead letter's data one row holds. BigQuery refuses a
// row of more than about 10 MB, and base64 adds a third.
const MaxPart = 4 << 20

// Parts returns the rows of a dead letter: one row for each part of the data, and at
// least one row.
func (l DeadLetter) Parts() []LetterPart {
	data := l.Message.Data
	parts := make([]LetterPart, max(1, (len(data)+MaxPart-1)/MaxPart))
	for i := range parts {
		parts[i] = LetterPart{DeadLetter: l, Part: int64(i + 1), Parts: int64(len(parts))}
		parts[i].Message.Data = data[min(i*MaxPart, len(data)):min((i+1)*MaxPart, len(data))]
	}
	return parts
}

// maxTime is the last instant that BigQuery's TIMESTAMP and a four-digit year
// can hold.
var maxTime = time.Date(9999, time.December, 31, 23, 59, 59, 999_999_000, time.UTC)

// StorableTime returns t or, if t is later, the last time that can be stored. The
// last window of the year 9999 ends after the last time that a TIMESTAMP can hold.
func StorableTime(t time.Time) time.Time {
	if t.After(maxTime) {
		return maxTime
	}
	return t
}
