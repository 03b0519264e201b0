package sqlitetables

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
)

func openTemp(t testing.TB) *Warehouse {
	t.Helper()
	w, err := Open(context.Background(), Config{Path: filepath.Join(t.TempDir(), "warehouse.db"), Layout: accesslog.Layout()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func letters(sizes ...int) []warehouse.DeadLetter {
	all := make([]warehouse.DeadLetter, len(sizes))
	for i, size := range sizes {
		all[i].Message = event.Message{ID: "1", Data: make([]byte, size)}
	}
	return all
}

func (w *Warehouse) wantRows(t *testing.T, table string, want int) {
	t.Helper()
	var n int
	if err := w.file.Reader.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != want {
		t.Errorf("%s has %d rows, want %d", table, n, want)
	}
}

func (w *Warehouse) exec(t *testing.T, statement string) {
	t.Helper()
	if _, err := w.file.Writer.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestAFullDiskIsAPassingErrorThatSaysSo(t *testing.T) {
	t.Parallel()
	w := openTemp(t)
	w.exec(t, "PRAGMA max_page_count = 50") // makes SQLite fail with SQLITE_FULL, as a full disk does
	err := w.AppendDeadLetters(t.Context(), letters(10, 10, 1<<20))
	if err == nil {
		t.Fatal("an append to a full disk returned no error")
	}
	for _, want := range []string{"database or disk is full", w.path, "dead_letter"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	var refused *warehouse.RefusedError
	var table *warehouse.TableError
	if errors.As(err, &refused) || errors.As(err, &table) {
		t.Errorf("error %v, want one that is neither a refusal nor a fault of the table", err)
	}
	w.wantRows(t, "dead_letter", 0)

	w.exec(t, "PRAGMA max_page_count = 100000")
	if err := w.AppendDeadLetters(t.Context(), letters(10, 10, 1<<20)); err != nil {
		t.Errorf("with space again: %v", err)
	}
	w.wantRows(t, "dead_letter", 3)
}

func TestARowTooLargeIsRefusedByItsIndexAndNothingIsStored(t *testing.T) {
	t.Parallel()
	w := openTemp(t)
	conn, err := w.file.Writer.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The real limit is a gigabyte, for which a test cannot wait. This lowers it.
	if _, err := sqlite.Limit(conn, sqlite3.SQLITE_LIMIT_LENGTH, 1<<20); err != nil {
		t.Fatal(err)
	}
	conn.Close()

	err = w.AppendDeadLetters(t.Context(), letters(10, 2<<20, 10))
	var refused *warehouse.RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("error %v, want a RefusedError", err)
	}
	if len(refused.Rows) != 1 || refused.Rows[1] == nil || !refused.Certain {
		t.Errorf("refused rows %v, certain: %v, want that of index 1 for certain", refused.Rows, refused.Certain)
	}
	w.wantRows(t, "dead_letter", 0)
	if err := w.AppendDeadLetters(t.Context(), letters(10, 10)); err != nil {
		t.Errorf("append without the refused row: %v", err)
	}
}

func TestATableChangedUnderwayIsATableError(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"dropped":    "DROP TABLE windowed_traffic_log",
		"renamed":    "ALTER TABLE windowed_traffic_log RENAME COLUMN is_final TO final",
		"constraint": "CREATE UNIQUE INDEX one_row ON windowed_traffic_log ((1))",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := openTemp(t)
			w.exec(t, "DROP VIEW windowed_traffic")
			w.exec(t, change)
			err := w.AppendCounts(t.Context(), []warehouse.WindowCount{{PageViews: 1}, {PageViews: 2}})
			var table *warehouse.TableError
			if !errors.As(err, &table) || table.Table != "windowed_traffic_log" {
				t.Errorf("error %v, want a TableError of windowed_traffic_log", err)
			}
		})
	}
}

func TestWaitingForAnotherWriterEndsWithTheContext(t *testing.T) {
	t.Parallel()
	w := openTemp(t)
	other, err := sql.Open("sqlite", w.path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}

	// The deadline is much shorter than SQLite's busy timeout, which would give another
	// error.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.AppendDeadLetters(ctx, letters(10)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
	w.wantRows(t, "dead_letter", 0) // readers do not wait for the writer

	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := w.AppendDeadLetters(t.Context(), letters(10)); err != nil {
		t.Errorf("after the other writer: %v", err)
	}
	w.wantRows(t, "dead_letter", 1)
}

func TestCountingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	w := openTemp(t)
	rows := make([]warehouse.RawRow, 20_000)
	for i := range rows {
		rows[i] = warehouse.RawRow{EventID: strings.Repeat("x", i%100), WindowStart: time.Unix(0, 0)}
	}
	if err := w.AppendRaw(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	// Without the deadline this count would take minutes.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	starts := make([]time.Time, 100_000)
	for i := range starts {
		starts[i] = time.Unix(0, 0)
	}
	if _, err := w.CountRaw(ctx, starts); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestCountRawReadsOnlyTheIndex(t *testing.T) {
	t.Parallel()
	w := openTemp(t)
	rows, err := w.file.Reader.Query("EXPLAIN QUERY PLAN "+countRawQuery(w.layout), `["1970-01-01T00:00:00.000000Z"]`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var a, b, c int
		var detail string
		if err := rows.Scan(&a, &b, &c, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	if want := "SEARCH raw USING COVERING INDEX raw_by_window (window_start=?)"; !strings.Contains(strings.Join(plan, "\n"), want) {
		t.Errorf("plan %q lacks %q", plan, want)
	}
}

func TestAnAppendIsSyncedToDisk(t *testing.T) {
	t.Parallel()
	w := openTemp(t)
	var synchronous int
	if err := w.file.Writer.QueryRow("PRAGMA synchronous").Scan(&synchronous); err != nil {
		t.Fatal(err)
	}
	const full = 2
	if synchronous != full {
		t.Errorf("synchronous is %d, want %d (FULL)", synchronous, full)
	}
}
