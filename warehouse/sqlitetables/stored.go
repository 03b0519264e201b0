package sqlitetables

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// A page is what one read returns. If a read transaction stayed open while the caller
// sends what it has received, the write-ahead log could not be emptied.
const (
	rawPageRows    = 1000
	rawPageBytes   = 4 << 20 // of strings; a page ends after the row that reaches this size
	letterPageKeys = 10_000  // without data; the data is read letter by letter
)

// storedRange returns the bounds of the range in the form that the columns have. Text
// compares as the times do.
func storedRange(from, to time.Time) (first, end string) {
	if to.IsZero() {
		return event.FormatTime(from), "A" // greater than every digit
	}
	return event.FormatTime(from), event.FormatTime(to)
}

// A rawKey identifies a row of the view events.
type rawKey struct{ window, id string }

func keyOf(r warehouse.RawRow) rawKey { return rawKey{event.FormatTime(r.WindowStart), r.EventID} }

// rawPageQuery reads the deliveries after a key in the order of the view events. It
// reads along the index on keys and sorts only the deliveries of one event at a time.
// So the cost is proportional to what the caller reads. (The view would sort the
// whole table for each page.)
func rawPageQuery(l warehouse.Layout) string {
	return `SELECT ` + columnList(warehouse.RawTable(l).Table) + ` FROM ` + quote(l.Raw) + ` INDEXED BY ` + quote(indexOf(l.Raw)) + `
WHERE (window_start, event_id) > (?, ?) AND processing_timestamp >= ? AND processing_timestamp < ?
ORDER BY window_start, event_id, ` + firstDelivery
}

// RawRows implements [warehouse.Archive]. It reads through the table once, whatever
// the range.
func (w *Warehouse) RawRows(ctx context.Context, from, to time.Time) iter.Seq2[warehouse.RawRow, error] {
	return func(yield func(warehouse.RawRow, error) bool) {
		fail := func(err error) {
			yield(warehouse.RawRow{}, fmt.Errorf("read %s in %s: %w", w.layout.Raw, w.path, err))
		}
		var after rawKey // the zero key is before all others, since no time is an empty text
		for {
			page, more, err := w.rawPage(ctx, after, from, to)
			if err != nil {
				fail(err)
				return
			}
			for _, row := range page {
				if err := ctx.Err(); err != nil {
					fail(err)
					return
				}
				if !yield(row, nil) {
					return
				}
			}
			if !more {
				return
			}
			after = keyOf(page[len(page)-1])
		}
	}
}

// rawPage reads a page of the events after a key, each once. It reports whether there
// may be more.
func (w *Warehouse) rawPage(ctx context.Context, after rawKey, from, to time.Time) (page []warehouse.RawRow, more bool, err error) {
	first, end := storedRange(from, to)
	rows, err := w.file.Reader.QueryContext(ctx, rawPageQuery(w.layout), after.window, after.id, first, end)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	bytes := 0
	for rows.Next() {
		row, err := scan(rows, w.raw)
		if err != nil {
			return nil, false, err
		}
		if key := keyOf(row); key != after { // otherwise the row is another delivery of the same event
			after = key
			page = append(page, row)
		}
		bytes += sizeOf(row)
		if bytes >= rawPageBytes || len(page) == rawPageRows {
			return page, true, nil // the next page begins after the other deliveries of its last event
		}
	}
	return page, false, rows.Err()
}

// sizeOf returns about how many bytes of text a row has.
func sizeOf(r warehouse.RawRow) int {
	n := len(r.EventID) + len(r.MessageID) + len(r.Rest)
	for _, value := range r.Values {
		n += value.Size()
	}
	return n
}

// scan reads a row of the table's columns.
func scan[T any](rows *sql.Rows, t warehouse.TableOf[T]) (item T, err error) {
	row := make(warehouse.Row, len(t.Columns))
	into := make([]any, len(row))
	for i, c := range t.Columns {
		into[i] = &scanned{c.Type, &row[i]}
	}
	if err := rows.Scan(into...); err != nil {
		return item, err
	}
	return t.Item(row)
}

// scanned scans a value of a column's type into the form of a [warehouse.Row].
type scanned struct {
	typ   warehouse.Type
	value *any
}

func (s *scanned) Scan(value any) (err error) {
	switch v := value.(type) {
	case string:
		if s.typ == warehouse.Timestamp {
			*s.value, err = event.ParseTime(v)
			return err
		}
	case int64:
		if s.typ == warehouse.Boolean {
			*s.value = v != 0
			return nil
		}
	case []byte:
		value = bytes.Clone(v) // the driver reuses the bytes for the next row
	}
	*s.value = value
	return nil
}

// A letterKey identifies the first delivery of a message, and says where its rows
// are.
type letterKey struct {
	messageID, receivedAt string
	rowID                 int64 // of the first part; the other parts follow
}

func letterKeysQuery(l warehouse.Layout) string {
	return `SELECT message_id, received_at, row FROM (
  SELECT message_id, received_at, rowid AS row, row_number() OVER (
    PARTITION BY message_id ORDER BY received_at, rowid) AS delivery
  FROM ` + quote(l.DeadLetter) + `
  WHERE message_id > ? AND received_at >= ? AND received_at < ?)
WHERE delivery = 1 ORDER BY message_id LIMIT ?`
}

// letterQuery reads the parts of one delivery. The parts were inserted together, so
// the query finds them without a search.
func letterQuery(l warehouse.Layout) string {
	return `SELECT ` + columnList(warehouse.DeadLetterTable(l).Table) + ` FROM ` + quote(l.DeadLetter) + `
WHERE rowid >= ? AND message_id = ? AND received_at = ? ORDER BY rowid`
}

// DeadLetters implements [warehouse.Archive]. It reads through the table once for
// every ten thousand letters.
func (w *Warehouse) DeadLetters(ctx context.Context, from, to time.Time) iter.Seq2[warehouse.DeadLetter, error] {
	return func(yield func(warehouse.DeadLetter, error) bool) {
		fail := func(err error) {
			yield(warehouse.DeadLetter{}, fmt.Errorf("read %s in %s: %w", w.layout.DeadLetter, w.path, err))
		}
		after := ""
		for {
			keys, err := w.letterKeys(ctx, after, from, to)
			if err != nil {
				fail(err)
				return
			}
			for _, key := range keys {
				letter, err := w.letter(ctx, key)
				if err != nil {
					fail(fmt.Errorf("message %s: %w", key.messageID, err))
					return
				}
				if !yield(letter, nil) {
					return
				}
			}
			if len(keys) < letterPageKeys {
				return
			}
			after = keys[len(keys)-1].messageID
		}
	}
}

func (w *Warehouse) letterKeys(ctx context.Context, after string, from, to time.Time) ([]letterKey, error) {
	first, end := storedRange(from, to)
	rows, err := w.file.Reader.QueryContext(ctx, letterKeysQuery(w.layout), after, first, end, letterPageKeys)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []letterKey
	for rows.Next() {
		var k letterKey
		if err := rows.Scan(&k.messageID, &k.receivedAt, &k.rowID); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

// letter reads one dead letter and puts its parts together.
func (w *Warehouse) letter(ctx context.Context, key letterKey) (letter warehouse.DeadLetter, err error) {
	rows, err := w.file.Reader.QueryContext(ctx, letterQuery(w.layout), key.rowID, key.messageID, key.receivedAt)
	if err != nil {
		return letter, err
	}
	defer rows.Close()
	for n := int64(1); rows.Next(); n++ {
		data := letter.Message.Data
		part, err := scan(rows, w.letters)
		if err != nil {
			return letter, err
		}
		letter = part.DeadLetter
		if part.Part != n {
			return letter, fmt.Errorf("part %d of %d stands where part %d must be", part.Part, part.Parts, n)
		}
		letter.Message.PublishTimeSource = event.FromMessage
		letter.Message.Data = append(data, letter.Message.Data...)
		if part.Part == part.Parts {
			return letter, nil
		}
	}
	if err := rows.Err(); err != nil {
		return letter, err
	}
	return letter, errors.New("parts of the message are missing: was the file vacuumed, or were rows deleted, while it was read?")
}
