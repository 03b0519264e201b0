// Package streamhouse is the warehouse over append streams and queries: the part of
// BigQuery that Tidemark needs. In production the streams and queries are BigQuery's;
// tests use a model.
package streamhouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// Streams appends rows to tables, as the default stream of the Storage Write API
// does: each row at least once. When Append returns nil, the rows are visible to
// queries.
//
// A call may fail before or after it was applied, or get no answer. In the last case
// it returns when ctx ends, and may be applied even later. Rows that fit one request
// are applied whole or not at all. If the rows need several requests, the first rows
// may be applied although later rows are not. The errors are those of
// [warehouse.Ingester], with the index of the row.
type Streams interface {
	Append(ctx context.Context, table warehouse.Table, rows []warehouse.Row) error
}

// Queries reads the tables. Each call reads one snapshot of every table. The snapshot
// has every append that returned before the call.
type Queries interface {
	CountRaw(ctx context.Context, starts []time.Time) ([]int64, error)
	warehouse.Archive
	warehouse.Comparer
}

// Warehouse is a [warehouse.Warehouse] over streams and queries.
type Warehouse struct {
	Queries
	streams Streams
	raw     warehouse.TableOf[warehouse.RawRow]
	counts  warehouse.TableOf[warehouse.WindowCount]
	letters warehouse.TableOf[warehouse.LetterPart]
}

var _ warehouse.Warehouse = (*Warehouse)(nil)

// New returns a warehouse with the given layout. The caller closes the streams and
// queries.
func New(l warehouse.Layout, streams Streams, queries Queries) *Warehouse {
	return &Warehouse{
		Queries: queries, streams: streams,
		raw: warehouse.RawTable(l), counts: warehouse.AggLogTable(l), letters: warehouse.DeadLetterTable(l),
	}
}

// AppendRaw implements [warehouse.Ingester].
func (w *Warehouse) AppendRaw(ctx context.Context, rows []warehouse.RawRow) error {
	return appendRows(ctx, w.streams, w.raw, rows)
}

// AppendCounts implements [warehouse.Aggregate].
func (w *Warehouse) AppendCounts(ctx context.Context, rows []warehouse.WindowCount) error {
	return appendRows(ctx, w.streams, w.counts, rows)
}

// AppendDeadLetters implements [warehouse.Ingester].
func (w *Warehouse) AppendDeadLetters(ctx context.Context, letters []warehouse.DeadLetter) error {
	var rows []warehouse.Row
	var letterOf []int // index of the letter, by index of the row
	for i, letter := range letters {
		for _, part := range letter.Parts() {
			rows = append(rows, w.letters.Row(&part))
			letterOf = append(letterOf, i)
		}
	}
	err := appendAll(ctx, w.streams, w.letters.Table, rows)
	var refused *warehouse.RefusedError
	if errors.As(err, &refused) {
		return byLetter(refused, letterOf)
	}
	return err
}

// byLetter returns the refusal with indexes of letters instead of indexes of rows.
func byLetter(refused *warehouse.RefusedError, letterOf []int) error {
	letters := &warehouse.RefusedError{Certain: refused.Certain, Err: refused.Err}
	for row, err := range refused.Rows {
		if letters.Rows == nil {
			letters.Rows = map[int]error{}
		}
		letters.Rows[letterOf[row]] = err
	}
	return letters
}

// Close implements [warehouse.Warehouse]. It has nothing to release.
func (w *Warehouse) Close() error { return nil }

func appendRows[T any](ctx context.Context, streams Streams, table warehouse.TableOf[T], items []T) error {
	rows := make([]warehouse.Row, len(items))
	for i := range items {
		rows[i] = table.Row(&items[i])
	}
	return appendAll(ctx, streams, table.Table, rows)
}

func appendAll(ctx context.Context, streams Streams, table warehouse.Table, rows []warehouse.Row) error {
	if len(rows) == 0 {
		return nil
	}
	if err := streams.Append(ctx, table, rows); err != nil {
		return fmt.Errorf("append %d rows to %s: %w", len(rows), table.Name, err)
	}
	return nil
}
