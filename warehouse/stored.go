package warehouse

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// Archive reads back what an [Ingester] stored, so that it can be sent again: dead
// letters after their cause was fixed, and events after counters were lost.
//
// Both methods yield what was stored in the range from from, inclusive, to to,
// exclusive, by RawRow.ProcessingTime and DeadLetter.ReceivedAt. The tables are
// partitioned by these columns. Both times are truncated to the microsecond. If from
// is zero, the range has no beginning; if to is zero, the range has no end. The
// methods look only at deliveries in the range. They yield an event or message once
// even if the range has several deliveries of it, and also if another delivery lies
// outside the range.
//
// They see every row whose append returned before the call. They may or may not see
// rows that are appended while the caller reads the sequence, but such rows never
// make them yield anything twice. So the sequence ends even if the caller stores
// again what it yields.
//
// An error ends the sequence and comes with a zero value; the values before the error
// are right. Memory is bounded by a constant and the largest message. No transaction
// is open while the caller handles a value. The caller may range over a sequence
// again, which reads the rows again, and may stop early.
type Archive interface {
	// RawRows yields each event once, as the view events does: a counted delivery
	// before a late one, then the smallest message id, then the earliest published. The order is that of
	// WindowStart, then of EventID by its bytes.
	RawRows(ctx context.Context, from, to time.Time) iter.Seq2[RawRow, error]

	// DeadLetters yields each message once, with all its data: the delivery that was
	// received first. The order is that of Message.ID by its bytes. The source of a
	// publish time is not stored, so all are [event.FromMessage]. Data and attributes
	// without content are nil.
	DeadLetters(ctx context.Context, from, to time.Time) iter.Seq2[DeadLetter, error]
}

// Message returns a message that has the row's event, with the same id, window and
// lateness for a server with the settings that the row was stored with. If the server
// has counted the event, it does not count the event again.
//
// A raw row has neither the bytes nor the attributes of its original message, so
// Message creates both. The data is the event as the schema writes it, without the
// keys that had no column. The attributes are those that the settings name. The
// attribute for the id has EventID. The attribute for the event time has WindowStart,
// since the row keeps only the window of the event time. If one attribute serves as
// both, it has EventID, which then is the event time.
//
// The error says that the event cannot be written as JSON. It is permanent.
func (r RawRow) Message(schema event.Schema, ids event.IDSource, times event.TimeSource) (event.Message, error) {
	data, err := schema.Encode(r.Event)
	if err != nil {
		return event.Message{}, fmt.Errorf("event %s of message %s: %w", r.EventID, r.MessageID, err)
	}
	m := event.Message{
		ID:                r.MessageID,
		PublishTime:       r.PublishTime,
		PublishTimeSource: event.FromMessage,
		Data:              data,
	}
	setAttribute(&m, times.Attribute(), event.FormatTime(r.WindowStart))
	setAttribute(&m, ids.Attribute(), r.EventID)
	return m, nil
}

// setAttribute sets an attribute of m unless its name is empty.
func setAttribute(m *event.Message, name, value string) {
	if name == "" {
		return
	}
	if m.Attributes == nil {
		m.Attributes = map[string]string{}
	}
	m.Attributes[name] = value
}
