package bigquerytables

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// An AppendFunc appends rows to a table, as the default stream of the Storage Write
// API does: each row at least once. When it returns nil, the rows are visible to
// queries.
//
// A call may fail before or after it was applied, or get no answer. In the last case
// it returns when ctx ends, and may be applied even later. Rows that fit one request
// are applied whole or not at all. If the rows need several requests, the first rows
// may be applied although later rows are not. The errors are those of
// [warehouse.Ingester], with the index of the row.
type AppendFunc func(ctx context.Context, table warehouse.Table, rows []warehouse.Row) error

// An Appender is the appending half of a [warehouse.Warehouse]: it turns what
// Tidemark stores into rows of tables. A [Warehouse] appends the rows to BigQuery; the
// simulation appends them to its model.
type Appender struct {
	appendRows AppendFunc
	raw        warehouse.TableOf[warehouse.RawRow]
	counts     warehouse.TableOf[warehouse.WindowCount]
	letters    warehouse.TableOf[warehouse.LetterPart]
}

// NewAppender returns an Appender to tables with the given layout.
func NewAppender(l warehouse.Layout, appendRows AppendFunc) Appender {
	return Appender{appendRows, warehouse.RawTable(l), warehouse.AggLogTable(l), warehouse.DeadLetterTable(l)}
}

// AppendRaw implements [warehouse.Ingester].
func (a Appender) AppendRaw(ctx context.Context, rows []warehouse.RawRow) error {
	return appendItems(ctx, a, a.raw, rows)
}

// AppendCounts implements [warehouse.Aggregate].
func (a Appender) AppendCounts(ctx context.Context, rows []warehouse.WindowCount) error {
	return appendItems(ctx, a, a.counts, rows)
}

// AppendDeadLetters implements [warehouse.Ingester].
func (a Appender) AppendDeadLetters(ctx context.Context, letters []warehouse.DeadLetter) error {
	var parts []warehouse.LetterPart
	var letterOf []int // index of the letter, by index of the part
	for i, letter := range letters {
		for _, part := range letter.Parts() {
			parts = append(parts, part)
			letterOf = append(letterOf, i)
		}
	}
	err := appendItems(ctx, a, a.letters, parts)
	refused, ok := errors.AsType[*warehouse.RefusedError](err)
	if !ok {
		return err
	}
	byLetter := &warehouse.RefusedError{Rows: map[int]error{}, Certain: refused.Certain, Err: refused.Err}
	for part, err := range refused.Rows {
		byLetter.Rows[letterOf[part]] = err
	}
	return byLetter
}

func appendItems[T any](ctx context.Context, a Appender, table warehouse.TableOf[T], items []T) error {
	if len(items) == 0 {
		return nil
	}
	rows := make([]warehouse.Row, len(items))
	for i := range items {
		rows[i] = table.Row(&items[i])
	}
	if err := a.appendRows(ctx, table.Table, rows); err != nil {
		return fmt.Errorf("append %d rows to %s: %w", len(rows), table.Name, err)
	}
	return nil
}
