package sqlitetables_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/warehouse/sqlitetables"
)

func inspect(t *testing.T, path string) sqlitetables.Inspection {
	t.Helper()
	found, err := sqlitetables.Inspect(t.Context(), sqlitetables.Config{Path: path, Layout: accesslog.Layout()})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Every fault is found. If the SQL that Inspect gives for the faults is run, Open accepts
// the file and Inspect finds no more faults.
func TestInspectFindsWhatMendMends(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		damage string
		says   string
		stale  bool // the view is old but works, so this is not a fault
	}{
		{"DROP INDEX raw_by_window; DROP VIEW events; ALTER TABLE raw DROP COLUMN message_id", "column message_id is missing", false},
		{"DROP VIEW events; ALTER TABLE raw RENAME COLUMN ip TO address", "column ip is missing", false},
		{"DROP TABLE raw; CREATE TABLE raw (ip INTEGER NOT NULL, event_timestamp TEXT) STRICT", "column ip has type INTEGER, want TEXT", false},
		{"DROP TABLE dead_letter; CREATE TABLE dead_letter (data BLOB NOT NULL) STRICT", "column data is NOT NULL, want it nullable", false},
		{"DROP VIEW windowed_traffic; CREATE TABLE windowed_traffic (timestamp TEXT, page_views INTEGER)", "it is a table, want a view", false},
		{"DROP TABLE raw; CREATE VIEW raw AS SELECT 1", "it is a view, want a table", false},
		{"DROP VIEW events; CREATE VIEW events AS\n-- Revision 99.\nSELECT * FROM raw", "a later version of tidemark created it", true},
	} {
		path := newFile(t)
		execFile(t, path, test.damage)
		found := inspect(t, path)
		faults := found.Faults
		if test.stale {
			faults = found.Stale
		} else if err := reopen(path); err == nil {
			t.Errorf("%s: Open accepts the file", test.damage)
		}
		if len(found.Faults)+len(found.Stale) != len(faults) || !slices.ContainsFunc(faults, func(f sqlitetables.Fault) bool { return strings.Contains(f.What, test.says) }) {
			t.Errorf("%s: found %+v, want %q", test.damage, found, test.says)
		}
		done := map[string]bool{}
		for _, f := range faults {
			if !done[f.Fix] {
				execFile(t, path, f.Fix)
			}
			done[f.Fix] = true
		}
		if err := reopen(path); err != nil {
			t.Errorf("%s, then %v: %v", test.damage, done, err)
			continue
		}
		if found := inspect(t, path); found.Faults != nil || found.Stale != nil || found.Missing != nil {
			t.Errorf("%s, repaired: %+v", test.damage, found)
		}
		if n := count(t, path, "sqlite_schema WHERE type = 'index' AND name = 'raw_by_window' AND tbl_name = 'raw'"); n != 1 {
			t.Errorf("%s, repaired: the index raw_by_window of raw is missing", test.damage)
		}
	}
}

func TestInspectChangesNothing(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	execFile(t, path, "DROP VIEW events")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := inspect(t, path)
	if len(found.Missing) != 1 || found.Missing[0] != "events" || found.Faults != nil {
		t.Errorf("found %+v, want events missing", found)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file has changed: %v", err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("files %v, %v; want only the warehouse", files, err)
	}
	absent := filepath.Join(t.TempDir(), "absent.db")
	_, err = sqlitetables.Inspect(t.Context(), sqlitetables.Config{Path: absent, Layout: accesslog.Layout()})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	if _, err := os.Stat(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file was created: %v", err)
	}
}

func TestInspectRefusesALaterVersion(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	execFile(t, path, "PRAGMA user_version = 99")
	_, err := sqlitetables.Inspect(t.Context(), sqlitetables.Config{Path: path, Layout: accesslog.Layout()})
	if _, later := errors.AsType[*sqlitefile.VersionError](err); !later {
		t.Errorf("%v, want a VersionError", err)
	}
}
