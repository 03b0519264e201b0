package bigquerytables

import (
	"context"
	"fmt"
	"iter"
	"time"

	"cloud.google.com/go/bigquery"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// storedIn returns the condition for the range of [warehouse.Archive] on the column
// by which the table is partitioned.
func storedIn(column string, from, to time.Time) where {
	w := where{}
	if to.IsZero() {
		to = lastInstant.Add(time.Microsecond) // no bound
	}
	w.addRange(column, from, to)
	return w
}

// RawRows implements [warehouse.Archive] by one query, which reads the partitions of
// the range.
func (b *Warehouse) RawRows(ctx context.Context, from, to time.Time) iter.Seq2[warehouse.RawRow, error] {
	return func(yield func(warehouse.RawRow, error) bool) {
		w := storedIn(warehouse.ProcessingTimestamp, from, to)
		table := warehouse.RawTable(b.cfg.Layout)
		sql := `SELECT ` + columnList(table.Table) + `
FROM ` + b.from(b.cfg.Layout.Raw) + w.sql() + `
QUALIFY ` + firstDelivery + ` = 1
ORDER BY window_start, event_id`
		err := b.each(ctx, "raw_rows", sql, w.parameters, func(r *row) (bool, error) {
			raw, err := item(table, r.values)
			return err == nil && yield(raw, nil), err
		})
		if err != nil {
			yield(warehouse.RawRow{}, fmt.Errorf("read %s: %w", b.tableID(b.cfg.Layout.Raw), err))
		}
	}
}

// each calls use for every row of a query's result, until use returns false or an
// error.
func (b *Warehouse) each(ctx context.Context, name, sql string, parameters []bigquery.QueryParameter, use func(*row) (bool, error)) error {
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

// item returns the T that a row of the table's columns holds.
func item[T any](t warehouse.TableOf[T], values []bigquery.Value) (T, error) {
	row := make(warehouse.Row, len(values))
	for i, value := range values {
		if at, ok := value.(time.Time); ok {
			value = at.UTC()
		}
		row[i] = value
	}
	return t.Item(row)
}

// DeadLetters implements [warehouse.Archive] by one query, which reads the partitions
// of the range. It leaves out a delivery that lacks a part: such a delivery was never
// acknowledged.
func (b *Warehouse) DeadLetters(ctx context.Context, from, to time.Time) iter.Seq2[warehouse.DeadLetter, error] {
	return func(yield func(warehouse.DeadLetter, error) bool) {
		w := storedIn("received_at", from, to)
		table := warehouse.DeadLetterTable(b.cfg.Layout)
		var letter warehouse.DeadLetter
		err := b.each(ctx, "dead_letters", b.lettersQuery(w), w.parameters, func(r *row) (bool, error) {
			next, err := item(table, r.values)
			if err != nil {
				return false, fmt.Errorf("message %s: %w", next.Message.ID, err)
			}
			if next.Part > 1 {
				next.Message.Data = append(letter.Message.Data, next.Message.Data...)
			}
			letter = next.DeadLetter
			letter.Message.PublishTimeSource = event.FromMessage
			return next.Part < next.Parts || yield(letter, nil), nil
		})
		if err != nil {
			yield(warehouse.DeadLetter{}, fmt.Errorf("read %s: %w", b.tableID(b.cfg.Layout.DeadLetter), err))
		}
	}
}

// lettersQuery returns the query for the first complete delivery of each message,
// part by part. After a repeated append, the parts of one delivery may be stored
// twice.
func (b *Warehouse) lettersQuery(w where) string {
	columns := columnList(warehouse.DeadLetterTable(b.cfg.Layout).Table)
	return `SELECT ` + columns + `
FROM (
  SELECT ` + columns + `
  FROM ` + b.from(b.cfg.Layout.DeadLetter) + w.sql() + `
  QUALIFY parts = COUNT(DISTINCT part) OVER (PARTITION BY message_id, received_at, parts)
    AND 1 = ROW_NUMBER() OVER (PARTITION BY message_id, received_at, parts, part ORDER BY reason))
WHERE TRUE
QUALIFY 1 = ROW_NUMBER() OVER (PARTITION BY message_id, part ORDER BY received_at, parts)
  AND received_at = MIN(received_at) OVER (PARTITION BY message_id)
ORDER BY message_id, part`
}
