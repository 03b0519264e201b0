package sqlitetables

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// AppendRaw appends the rows in one transaction: all rows or, if there is an error,
// no row. The exception is a context that ends during the commit.
func (w *Warehouse) AppendRaw(ctx context.Context, rows []warehouse.RawRow) error {
	return w.append(ctx, w.layout.Raw, w.insertRaw, len(rows), func(i int, insert inserter) error {
		return insert(w.raw.Row(&rows[i]))
	})
}

// AppendCounts appends the rows in one transaction, as AppendRaw does.
func (w *Warehouse) AppendCounts(ctx context.Context, rows []warehouse.WindowCount) error {
	return w.append(ctx, w.layout.AggLog(), w.insertCount, len(rows), func(i int, insert inserter) error {
		return insert(w.counts.Row(&rows[i]))
	})
}

// AppendDeadLetters appends the rows of the letters, one for each part of a letter's
// data, in one transaction, as AppendRaw does.
func (w *Warehouse) AppendDeadLetters(ctx context.Context, letters []warehouse.DeadLetter) error {
	return w.append(ctx, w.layout.DeadLetter, w.insertDeadLetter, len(letters), func(i int, insert inserter) error {
		for _, part := range letters[i].Parts() {
			if err := insert(w.letters.Row(&part)); err != nil {
				return err
			}
		}
		return nil
	})
}

// inserter inserts one row.
type inserter func(row warehouse.Row) error

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
	return w.file.Write(ctx, func(tx *sql.Tx) error {
		stmt := tx.StmtContext(ctx, stmt)
		// A row takes microseconds and waits for no lock, so it is enough to check the
		// context between rows. The driver would start a goroutine for every statement
		// on a context that can end.
		background := context.WithoutCancel(ctx)
		insert := func(row warehouse.Row) error {
			for i, value := range row {
				if t, ok := value.(time.Time); ok {
					row[i] = event.FormatTime(t)
				}
			}
			_, err := stmt.ExecContext(background, row...)
			return err
		}
		for i := range n {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := insertItem(i, insert); err != nil {
				return insertError(table, i, err)
			}
		}
		return nil
	})
}
