package bigquerytables

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"cloud.google.com/go/bigquery"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// storedIn adds the range of [warehouse.Archive], by the column that the table is
// partitioned by.
func storedIn(column string, from, to time.Time) where {
	w := where{}
	if to.IsZero() {
		to = lastInstant.Add(time.Microsecond) // no bound
	}
	w.addRange(column, from, to)
	return w
}

// RawRows implements [warehouse.Archive]. It is one query, which reads the
// partitions of the range.
func (b *Tables) RawRows(ctx context.Context, from, to time.Time) iter.Seq2[warehouse.RawRow, error] {
	return func(yield func(warehouse.RawRow, error) bool) {
		w := storedIn("processing_timestamp", from, to)
		sql := `SELECT ` + columnList(warehouse.RawTable(b.cfg.Names)) + `
FROM ` + b.from(b.cfg.Names.Raw) + w.sql() + `
QUALIFY ` + firstDelivery + ` = 1
ORDER BY window_start, event_id`
		err := b.each(ctx, "raw_rows", sql, w.parameters, func(r *row) (bool, error) {
			raw := rawRow(r)
			return r.err == nil && yield(raw, nil), r.err
		})
		if err != nil {
			yield(warehouse.RawRow{}, fmt.Errorf("read %s: %w", b.tableID(b.cfg.Names.Raw), err))
		}
	}
}

// each calls use for every row of a query's answer, until it returns false or an
// error.
func (b *Tables) each(ctx context.Context, name, sql string, parameters []bigquery.QueryParameter, use func(*row) (bool, error)) error {
	rows, err := b.query(ctx, name, sql, parameters)
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		row, err := nextRow(rows)
		if err != nil || row == nil {
			return err
		}
		if more, err := use(row); err != nil || !more {
			return err
		}
	}
}

// rawRow reads a row of the columns of the raw table.
func rawRow(r *row) warehouse.RawRow {
	return warehouse.RawRow{
		Event: event.Event{
			IP: r.text(0), UserID: r.text(1), UserAgent: r.text(2), Lat: r.float(3), Lng: r.float(4),
			Timestamp: r.time(5), HTTPRequest: r.text(7), HTTPResponse: r.int(8), NumBytes: r.int(9),
		},
		ProcessingTime: r.time(6), EventID: r.text(10), MessageID: r.text(11),
		PublishTime: r.time(12), WindowStart: r.time(13), Late: value[bool](r, 14),
	}
}

func (r *row) float(i int) *float64 {
	if r.values[i] == nil {
		return nil
	}
	v := value[float64](r, i)
	return &v
}

// DeadLetters implements [warehouse.Archive]. It is one query, which reads the
// partitions of the range. A delivery that lacks a part was never acknowledged, and
// is passed over.
func (b *Tables) DeadLetters(ctx context.Context, from, to time.Time) iter.Seq2[warehouse.DeadLetter, error] {
	return func(yield func(warehouse.DeadLetter, error) bool) {
		w := storedIn("received_at", from, to)
		var letter warehouse.DeadLetter
		err := b.each(ctx, "dead_letters", b.lettersQuery(w), w.parameters, func(r *row) (bool, error) {
			next, part, parts, err := deadLetter(r)
			if err != nil {
				return false, fmt.Errorf("message %s: %w", r.text(1), err)
			}
			if part > 1 {
				next.Message.Data = append(letter.Message.Data, next.Message.Data...)
			}
			letter = next
			return part < parts || yield(letter, nil), nil
		})
		if err != nil {
			yield(warehouse.DeadLetter{}, fmt.Errorf("read %s: %w", b.tableID(b.cfg.Names.DeadLetter), err))
		}
	}
}

// lettersQuery returns the query for the first whole delivery of each message, part
// by part. An append that was repeated has stored the parts of one delivery twice.
func (b *Tables) lettersQuery(w where) string {
	columns := columnList(warehouse.DeadLetterTable(b.cfg.Names))
	return `SELECT ` + columns + `
FROM (
  SELECT ` + columns + `
  FROM ` + b.from(b.cfg.Names.DeadLetter) + w.sql() + `
  QUALIFY parts = COUNT(DISTINCT part) OVER (PARTITION BY message_id, received_at, parts)
    AND 1 = ROW_NUMBER() OVER (PARTITION BY message_id, received_at, parts, part ORDER BY reason))
WHERE TRUE
QUALIFY 1 = ROW_NUMBER() OVER (PARTITION BY message_id, part ORDER BY received_at, parts)
  AND received_at = MIN(received_at) OVER (PARTITION BY message_id)
ORDER BY message_id, part`
}

// deadLetter reads a row of the columns of the dead letters: a letter with one part
// of its data.
func deadLetter(r *row) (l warehouse.DeadLetter, part, parts int64, err error) {
	l = warehouse.DeadLetter{
		ReceivedAt: r.time(0),
		Message: event.Message{
			ID: r.text(1), PublishTime: r.time(2), PublishTimeSource: event.FromMessage,
			Subscription: r.text(3), Data: value[[]byte](r, 5),
		},
		Reason: event.Reason(r.text(8)), Err: r.text(9),
	}
	attributes := r.text(4)
	part, parts = r.int(6), r.int(7)
	if r.err != nil || attributes == "" {
		return l, part, parts, r.err
	}
	if err := json.Unmarshal([]byte(attributes), &l.Message.Attributes); err != nil {
		return l, part, parts, fmt.Errorf("attributes are not a JSON object of strings: %w", err)
	}
	return l, part, parts, nil
}
