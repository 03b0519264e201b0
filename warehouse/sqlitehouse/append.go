package sqlitehouse

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// AppendRaw appends the rows in one transaction: all of them or, on an error,
// none, unless the context ended while they were being committed.
func (w *Warehouse) AppendRaw(ctx context.Context, rows []warehouse.RawRow) error {
	return w.append(ctx, w.names.Raw, w.insertRaw, len(rows), func(i int, insert inserter) error {
		r := &rows[i]
		return insert(
			r.IP, r.UserID, r.UserAgent, r.Lat, r.Lng,
			event.FormatTime(r.Timestamp), event.FormatTime(r.ProcessingTime),
			r.HTTPRequest, r.HTTPResponse, r.NumBytes,
			r.EventID, r.MessageID, event.FormatTime(r.PublishTime), event.FormatTime(r.WindowStart), r.Late)
	})
}

// AppendCounts appends the rows in one transaction, as AppendRaw does.
func (w *Warehouse) AppendCounts(ctx context.Context, rows []warehouse.WindowCount) error {
	return w.append(ctx, w.names.AggLog(), w.insertCount, len(rows), func(i int, insert inserter) error {
		r := &rows[i]
		return insert(
			event.FormatTime(r.Start), event.FormatTime(warehouse.StorableTime(r.End)),
			r.PageViews, r.Final, event.FormatTime(r.WrittenAt))
	})
}

// AppendDeadLetters appends the rows of the letters, one for each part of its
// data, in one transaction, as AppendRaw does. Empty data is NULL.
func (w *Warehouse) AppendDeadLetters(ctx context.Context, letters []warehouse.DeadLetter) error {
	return w.append(ctx, w.names.DeadLetter, w.insertDeadLetter, len(letters), func(i int, insert inserter) error {
		l := &letters[i]
		attributes, err := attributesText(l.Message.Attributes)
		if err != nil {
			return err
		}
		parts := l.Parts()
		for n, part := range parts {
			err := insert(
				event.FormatTime(l.ReceivedAt), l.Message.ID, event.FormatTime(l.Message.PublishTime),
				nullIfEmpty(l.Message.Subscription), attributes, nullIfNone(part), n+1, len(parts),
				string(l.Reason), nullIfEmpty(l.Err))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// inserter inserts one row of the given values, in the order of the table's
// columns.
type inserter func(values ...any) error

// append inserts n items in one transaction, the i-th by a call of insertItem.
func (w *Warehouse) append(ctx context.Context, table string, stmt *sql.Stmt, n int, insertItem func(i int, insert inserter) error) error {
	if n == 0 {
		return nil
	}
	if err := w.transact(ctx, table, stmt, n, insertItem); err != nil {
		return fmt.Errorf("append %d rows to %s in %s: %w", n, table, w.path, err)
	}
	return nil
}

func (w *Warehouse) transact(ctx context.Context, table string, stmt *sql.Stmt, n int, insertItem func(i int, insert inserter) error) error {
	tx, err := w.file.Writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing

	stmt = tx.StmtContext(ctx, stmt)
	// A row takes microseconds, and none waits for a lock, so it is enough to ask
	// the context between rows; for every statement on a context that can end,
	// the driver starts a goroutine.
	background := context.WithoutCancel(ctx)
	insert := func(values ...any) error {
		_, err := stmt.ExecContext(background, values...)
		return err
	}
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := insertItem(i, insert); err != nil {
			return classify(table, i, err)
		}
	}
	return tx.Commit()
}

// attributesText returns the attributes as a JSON object with its keys in order,
// or nil for none.
func attributesText(attributes map[string]string) (any, error) {
	if len(attributes) == 0 {
		return nil, nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // for people to read, and not in a browser
	if err := encoder.Encode(attributes); err != nil {
		return nil, fmt.Errorf("encode attributes: %w", err)
	}
	return string(bytes.TrimSuffix(text.Bytes(), []byte("\n"))), nil
}

func nullIfEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func nullIfNone(data []byte) any {
	if len(data) == 0 {
		return nil
	}
	return data
}
