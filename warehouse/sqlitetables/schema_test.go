package sqlitetables_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/sqlitetables"
)

func row(id string) warehouse.RawRow {
	start := time.Date(2026, time.March, 14, 9, 26, 0, 0, time.UTC)
	r := warehouse.RawRow{
		ProcessingTime: start.Add(27 * time.Second), EventID: id, MessageID: id,
		PublishTime: start.Add(27 * time.Second), WindowStart: start,
	}
	r.Event = accesslog.Record{Timestamp: start.Add(26 * time.Second)}.Event()
	return r
}

// count returns the number of rows of the table.
func count(t *testing.T, path, table string) (n int) {
	t.Helper()
	if err := openFile(t, path).QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// execFile runs statements on the file directly, as another program would.
func execFile(t *testing.T, path string, statements ...string) {
	t.Helper()
	db := openFile(t, path)
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func reopen(path string) error {
	w, err := sqlitetables.Open(context.Background(), sqlitetables.Config{Path: path, Layout: accesslog.Layout()})
	if err != nil {
		return err
	}
	return w.Close()
}

// newFile creates a warehouse, closes it, and returns its path.
func newFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "warehouse.db")
	if err := reopen(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRowsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	for i := range 3 {
		w := open(t, path, accesslog.Layout())
		if err := w.AppendRaw(t.Context(), []warehouse.RawRow{row(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
		// The warehouse is not closed before it is opened again. An append is durable
		// when it returns, and several processes may use the file at the same time.
	}
	if n := count(t, path, "raw"); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

func TestAnyPathWillDo(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"with space", "100%25.db", "what?mode=memory", "a#b&c=d;e.db", "日本語.db"} {
		path := filepath.Join(t.TempDir(), filepath.FromSlash(name))
		if err := reopen(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenNamesTheFileItCannotOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("This is not a database. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		text:                        "file is not a database",
		dir:                         "unable to open database file",
		filepath.Join(text, "x.db"): "unable to open database file",
	} {
		err := reopen(path)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q and %q", err, path, want)
		}
	}
}

func TestProcessesMayOpenANewFileAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for file := range 20 { // the openings get in each other's way only now and then
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := reopen(filepath.Join(dir, fmt.Sprint(file, ".db"))); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestPipelinesMayShareAFile(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	other := accesslog.Layout()
	other.Names = warehouse.Names{Raw: "visits", Agg: "hits", DeadLetter: "bad"}
	if err := open(t, path, other).AppendRaw(t.Context(), []warehouse.RawRow{row("1")}); err != nil {
		t.Fatal(err)
	}
	if n, m := count(t, path, "raw"), count(t, path, "visits"); n != 0 || m != 1 {
		t.Errorf("raw has %d rows and visits %d, want 0 and 1", n, m)
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "warehouse.db")
	l := accesslog.Layout()
	l.Names = warehouse.Names{Raw: "raw; --", Agg: "agg", DeadLetter: "dead"}
	if _, err := sqlitetables.Open(t.Context(), sqlitetables.Config{Path: path, Layout: l}); err == nil {
		t.Error("opened with a table name that is no identifier")
	}
}

func TestAFileOfANewerVersionIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"wal", "delete"} {
		path := filepath.Join(t.TempDir(), "warehouse.db")
		execFile(t, path, "PRAGMA journal_mode = "+mode, "CREATE TABLE raw (unknown)", "PRAGMA user_version = 1234")
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}

		err = reopen(path)
		if err == nil {
			t.Fatal("opened a file of a newer version")
		}
		for _, want := range []string{path, "version 1234", "up to 1"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not say %q", err, want)
			}
		}
		after, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(before, after) {
			t.Errorf("journal mode %s: the file was changed", mode)
		}
		if files, _ := filepath.Glob(path + "*"); len(files) != 1 {
			t.Errorf("journal mode %s: files left: %q", mode, files)
		}
	}
}

func TestATableThatIsNotAsItMustBeIsNamed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change []string
		table  string
		want   string // empty if Open succeeds
	}{
		"missing column": {
			[]string{"DROP VIEW events", "ALTER TABLE raw DROP COLUMN ip"}, "raw", "column ip is missing, want type TEXT"},
		"another type": {
			[]string{"ALTER TABLE raw DROP COLUMN num_bytes", "ALTER TABLE raw ADD COLUMN num_bytes TEXT"}, "raw", "column num_bytes has type TEXT, want INTEGER"},
		"not nullable": {
			[]string{"ALTER TABLE dead_letter DROP COLUMN error", "ALTER TABLE dead_letter ADD COLUMN error TEXT NOT NULL DEFAULT ''"}, "dead_letter", "column error is NOT NULL, want it nullable"},
		"required column of another's": {
			[]string{"DROP TABLE windowed_traffic_log", "CREATE TABLE windowed_traffic_log (timestamp TEXT, window_end TEXT, page_views INTEGER, is_final INTEGER, written_at TEXT, extra TEXT NOT NULL)"},
			"windowed_traffic_log", "column extra is not in the schema"},
		"a view for a table": {
			[]string{"DROP TABLE dead_letter", "CREATE VIEW dead_letter AS SELECT 1"}, "dead_letter", "it is a view, want a table"},
		"a table for a view": {
			[]string{"DROP VIEW windowed_traffic", "CREATE TABLE Windowed_Traffic (page_views, timestamp)"}, "windowed_traffic", "it is a table, want a view"},
		"another column": {
			[]string{"ALTER TABLE raw ADD COLUMN note TEXT", "ALTER TABLE raw ADD COLUMN n INTEGER NOT NULL DEFAULT 7"}, "", ""},
		"a view that is gone": {
			[]string{"DROP VIEW windowed_traffic", "DROP INDEX raw_by_window"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			for _, change := range tc.change {
				// SQLite refuses to drop a column that a view or an index still uses.
				if strings.Contains(change, "DROP COLUMN") {
					execFile(t, path, "DROP VIEW IF EXISTS events", "DROP VIEW IF EXISTS dead_letters", "DROP INDEX IF EXISTS raw_by_window")
				}
				execFile(t, path, change)
			}
			err := reopen(path)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var tableErr *warehouse.TableError
			if !errors.As(err, &tableErr) {
				t.Fatalf("error %v, want a TableError", err)
			}
			if tableErr.Table != tc.table || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q of table %s, want %q of table %s", err, tableErr.Table, tc.want, tc.table)
			}
		})
	}
}

func TestAttributesAreReadableInOrderOfTheirNames(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "warehouse.db")
	letter := warehouse.DeadLetter{Message: event.Message{ID: "1", Attributes: map[string]string{"b": "<&>", "a": "é", "c": `"`}}}
	if err := open(t, path, accesslog.Layout()).AppendDeadLetters(t.Context(), []warehouse.DeadLetter{letter}); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := openFile(t, path).QueryRow("SELECT attributes FROM dead_letter").Scan(&got); err != nil {
		t.Fatal(err)
	}
	if want := `{"a":"é","b":"<&>","c":"\""}`; got != want {
		t.Errorf("attributes %s, want %s", got, want)
	}
}
