package warehouse

import "time"

// Type is a column's type, in BigQuery's words. SQLite keeps a TIMESTAMP and a
// JSON text as TEXT and a BOOLEAN as 0 or 1.
type Type string

// The types.
const (
	String    Type = "STRING"
	Integer   Type = "INTEGER"
	Float     Type = "FLOAT"
	Boolean   Type = "BOOLEAN"
	Bytes     Type = "BYTES"
	Timestamp Type = "TIMESTAMP"
)

// A Column is one column of a table.
type Column struct {
	Name        string
	Type        Type
	Nullable    bool
	Description string
}

// A Table is the definition of a stored table, from which every backend makes
// it.
type Table struct {
	Name        string
	Description string
	Columns     []Column
	PartitionBy string // a TIMESTAMP column, by whose day the table is partitioned; empty for none
	ClusterBy   string // empty for none
}

// Tables returns the definitions of the stored tables, under the given names.
func Tables(n Names) []Table {
	return []Table{RawTable(n), AggLogTable(n), DeadLetterTable(n)}
}

// RawTable defines the raw rows: the lab's ten columns in the lab's order, then
// ours.
func RawTable(n Names) Table {
	return Table{
		Name:        n.Raw,
		Description: "Every stored delivery of every event, late ones too. A redelivered event may be here more than once: the view " + n.Events() + " has each once.",
		Columns: []Column{
			{"ip", String, false, "Client address or host name."},
			{"user_id", String, false, "User, as text: a signed 64-bit integer in the lab."},
			{"user_agent", String, false, "Client software."},
			{"lat", Float, true, "Latitude in degrees."},
			{"lng", Float, true, "Longitude in degrees."},
			{"event_timestamp", Timestamp, false, "When the request happened, by the payload."},
			{"processing_timestamp", Timestamp, false, "When Tidemark took the message up."},
			{"http_request", String, false, "Request line, with its quotation marks."},
			{"http_response", Integer, false, "Response status."},
			{"num_bytes", Integer, false, "Size of the response."},
			{"event_id", String, false, "What makes two deliveries the same event."},
			{"message_id", String, false, "Pub/Sub's message id, unique in the topic."},
			{"publish_time", Timestamp, false, "When Pub/Sub accepted the message."},
			{"window_start", Timestamp, false, "Start of the window the event is in, by the configured event time."},
			{"is_late", Boolean, false, "Published too late to be counted: at or after the window's end plus the allowed lateness."},
		},
		PartitionBy: "processing_timestamp",
		ClusterBy:   "window_start",
	}
}

// AggLogTable defines the log of window counts.
func AggLogTable(n Names) Table {
	return Table{
		Name:        n.AggLog(),
		Description: "Every count ever published for a window. The greatest is the window's value: the view " + n.Agg + " has one row per window.",
		Columns: []Column{
			{"timestamp", Timestamp, false, "Start of the window."},
			{"window_end", Timestamp, false, "End of the window, which is not in it."},
			{"page_views", Integer, false, "Distinct event ids counted in the window so far."},
			{"is_final", Boolean, false, "Whether the window was past its allowed lateness when this was written."},
			{"written_at", Timestamp, false, "When this was written."},
		},
		ClusterBy: "timestamp",
	}
}

// DeadLetterTable defines the dead letters.
func DeadLetterTable(n Names) Table {
	return Table{
		Name:        n.DeadLetter,
		Description: "Messages that can never become events, with their bytes and why. A redelivered one may be here more than once: the view " + n.DeadLetters() + " has each once.",
		Columns: []Column{
			{"received_at", Timestamp, false, "When Tidemark received the message."},
			{"message_id", String, false, "Pub/Sub's message id, or a digest where a message came without."},
			{"publish_time", Timestamp, false, "When Pub/Sub accepted the message."},
			{"subscription", String, true, "Subscription that delivered it."},
			{"attributes", String, true, "Attributes as a JSON object; for an unwrapped push, its HTTP headers."},
			{"data", Bytes, true, "Data, or a part of it; null for none."},
			{"part", Integer, false, "Number of this part, from 1."},
			{"parts", Integer, false, "Number of parts that the data is stored in."},
			{"reason", String, false, "Why, as a short constant."},
			{"error", String, true, "Why, in detail."},
		},
		PartitionBy: "received_at",
	}
}

// MaxPart is how many bytes of a dead letter's data one row holds: a row of more
// than about 10 MB is refused by BigQuery, and base64 adds a third.
const MaxPart = 4 << 20

// Parts returns the data of a dead letter cut into the parts that its rows hold,
// in order: at least one, though it may be empty.
func (l DeadLetter) Parts() [][]byte {
	data := l.Message.Data
	var parts [][]byte
	for len(data) > MaxPart {
		parts = append(parts, data[:MaxPart])
		data = data[MaxPart:]
	}
	return append(parts, data)
}

// maxTime is the last instant that BigQuery's TIMESTAMP and a four-digit year
// can hold.
var maxTime = time.Date(9999, time.December, 31, 23, 59, 59, 999_999_000, time.UTC)

// StorableTime returns t, or the last storable instant where t is past it: the
// last window of the year 9999 ends outside of what a TIMESTAMP can hold.
func StorableTime(t time.Time) time.Time {
	if t.After(maxTime) {
		return maxTime
	}
	return t
}
