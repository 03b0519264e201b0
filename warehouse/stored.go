package warehouse

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// Archive gives back what an [Ingester] has stored, to be sent again: dead
// letters after what was wrong with them is mended, events after counters were
// lost.
//
// Both methods yield what was stored from the time from on and before the time
// to, by RawRow.ProcessingTime and DeadLetter.ReceivedAt, the columns that the
// tables are partitioned by. Both times are cut down to the microsecond; a zero
// from is the beginning of time, a zero to its end. Only deliveries in that range
// are looked at: what was delivered more than once is yielded once, and also if
// another delivery of it lies outside.
//
// Every row whose append had returned before the call is seen. Rows appended
// while the sequence is consumed may or may not be, but nothing is yielded twice
// for them, so that the sequence ends even where what it yields is stored anew.
//
// An error ends the sequence, with a zero value beside it; what was yielded
// before is right. Memory is bounded by a constant and the largest message, and
// no transaction is open while the caller has a value. A sequence may be ranged
// over again, which reads again, and may be left early.
type Archive interface {
	// RawRows yields each event once, as the view events does: a counted delivery
	// before a late one, then the smallest message id, then the earliest published. The order is that of
	// WindowStart, then of EventID by its bytes.
	RawRows(ctx context.Context, from, to time.Time) iter.Seq2[RawRow, error]

	// DeadLetters yields each message once, with all its data: the delivery that
	// was received first. The order is that of Message.ID by its bytes. Where a
	// letter's publish time came from is not stored, so all are
	// [event.FromMessage]; data and attributes without content are nil.
	DeadLetters(ctx context.Context, from, to time.Time) iter.Seq2[DeadLetter, error]
}

// Message returns a message that is the row's event to a server of the settings
// that the row was stored with: the same id, window and lateness. A server that
// has counted it counts it no second time.
//
// A raw row has neither the bytes nor the attributes of the message it came from,
// so both are written again. The data is the event as the schema writes it, without
// the keys that were in no column. Of the attributes there are those
// that the settings name: the one that carries the id has EventID, and the one
// that carries event time has WindowStart, since the row keeps no more of that
// time than its window. Where one attribute carries both it has EventID, which
// then is that time.
//
// The error says that the event cannot be written as JSON; it is permanent.
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
