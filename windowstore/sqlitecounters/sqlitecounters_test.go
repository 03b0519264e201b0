package sqlitecounters

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/internal/test/windowstoretest"
	"github.com/tidemark-dev/tidemark/windowstore"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	windowstoretest.Run(t, windowstoretest.Harness{
		Handles:  2,
		OneShard: true,
		New: func(t *testing.T) windowstoretest.Place {
			path := filepath.Join(t.TempDir(), "counters.db")
			return windowstoretest.Place{Open: func(ctx context.Context, c windowstoretest.Config) (windowstore.Store, error) {
				store, err := Open(ctx, Config{Path: path, Pipeline: c.Pipeline, Meaning: c.Meaning, Now: c.Now})
				if err != nil {
					return nil, err
				}
				return checked{store, t}, nil
			}}
		},
	})
}

// checked is a store that checks itself when it is closed: the count of each shard must
// be the number of its keys, and each key must belong to a shard.
type checked struct {
	*Store
	t *testing.T
}

func (c checked) Close() error {
	var wrong int
	err := c.file.Writer.QueryRow(`SELECT count(*) FROM shards WHERE keys != (SELECT count(*) FROM keys WHERE shard = id)`).Scan(&wrong)
	if err != nil || wrong != 0 {
		c.t.Errorf("%d shards have a count that is not the number of their keys (%v)", wrong, err)
	}
	err = c.file.Writer.QueryRow(`SELECT count(*) FROM keys WHERE shard NOT IN (SELECT id FROM shards UNION ALL SELECT id FROM deleted_shards)`).Scan(&wrong)
	if err != nil || wrong != 0 {
		c.t.Errorf("%d keys belong to no shard (%v)", wrong, err)
	}
	return c.Store.Close()
}

func testConfig(path string) Config {
	return Config{Path: path, Pipeline: "p", Now: time.Now, Meaning: windowstore.Meaning{
		WindowDuration: time.Minute, EventTime: "payload", EventID: "message", RawTable: "raw", AggTable: "agg",
	}}
}

func openAt(tb testing.TB, path string) *Store {
	tb.Helper()
	s, err := Open(tb.Context(), testConfig(path))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func increment(window int64, from, to int) []windowstore.Increment {
	var keys []windowstore.Key
	for i := from; i < to; i++ {
		keys = append(keys, windowstore.KeyOf("message", fmt.Sprint(i)))
	}
	return []windowstore.Increment{{Window: time.Unix(window, 0), Keys: keys}}
}

func TestFileOfALaterVersionIsRefusedAndUntouched(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "counters.db")
	s := openAt(t, path)
	if _, err := s.file.Writer.Exec("PRAGMA user_version = 7"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), testConfig(path))
	var version *sqlitefile.VersionError
	if !errors.As(err, &version) || version.Found != 7 || version.Known != schemaVersion || version.Path != path {
		t.Errorf("Open: %v, want a *sqlitefile.VersionError of versions 7 and %d", err, schemaVersion)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
}

func TestFileOfAnotherProgramIsRefusedAndUntouched(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "other.db")
	other, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec("CREATE TABLE notes (t TEXT)"); err != nil {
		t.Fatal(err)
	}
	other.Close()
	before, _ := os.ReadFile(path)
	if _, err := Open(t.Context(), testConfig(path)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Open: %v, want an error that names the file", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
}

func TestPathsMayHoldAnyCharacter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b?c#d%20e.db")
	openAt(t, path)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestOpenNamesTheFileThatCannotBeMade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "absent", "counters.db")
	if _, err := Open(t.Context(), testConfig(path)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Open: %v, want an error that names %s", err, path)
	}
}

func TestCloseLeavesOneFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "counters.db"))
	if err := s.Add(t.Context(), increment(0, 0, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Count(t.Context(), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v, want counters.db alone", entries)
	}
}

func TestAFullDiskIsSaidPlainly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "counters.db")
	s := openAt(t, path)
	if _, err := s.file.Writer.Exec("PRAGMA max_page_count = 40"); err != nil {
		t.Fatal(err)
	}
	err := s.Add(t.Context(), increment(0, 0, 50_000))
	if err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), path) {
		t.Errorf("Add: %v, want an error that says the disk is full and names the file", err)
	}
	if n, err := s.Count(t.Context(), time.Unix(0, 0)); n != 0 || err != nil {
		t.Errorf("Count after a failed Add: %d, %v; want 0", n, err)
	}
}

func TestAWaitForAnotherProcessEndsWithTheContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "counters.db")
	s, other := openAt(t, path), openAt(t, path)
	lock, err := other.file.Writer.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Add(ctx, increment(0, 0, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Add while another store writes: %v, want the context's error", err)
	}
	lock.Rollback()
	if err := s.Add(t.Context(), increment(0, 0, 1)); err != nil {
		t.Error(err)
	}
}

func TestDeletionThatDiedHalfWayIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "counters.db")
	s := openAt(t, path)
	if err := s.Add(t.Context(), increment(0, 0, deleteKeys*2+5)); err != nil {
		t.Fatal(err)
	}
	for w, err := range s.Pending(t.Context(), time.Time{}, time.Unix(0, 0)) {
		if err = errors.Join(err, s.Settle(t.Context(), w.Shards, time.Unix(0, 0))); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.deleteShards(t.Context(), time.Unix(0, 0)); n != 1 || err != nil {
		t.Fatalf("deleteShards: %d, %v", n, err)
	}
	if n, err := s.deleteKeys(t.Context()); n != deleteKeys || err != nil {
		t.Fatalf("deleteKeys: %d, %v; want one transaction's worth", n, err)
	}
	s.Close()

	s = openAt(t, path)
	// The deleted shard still has some of these keys.
	if err := s.Add(t.Context(), increment(0, 0, 7)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteExpired(t.Context(), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Count(t.Context(), time.Unix(0, 0)); n != 7 || err != nil {
		t.Errorf("Count: %d, %v; want the 7 keys added since", n, err)
	}
	var keys int
	if err := s.file.Writer.QueryRow("SELECT count(*) FROM keys").Scan(&keys); err != nil || keys != 7 {
		t.Errorf("%d keys are left (%v), want 7", keys, err)
	}
}

func TestAWindowStartIsAWholeSecond(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "counters.db"))
	err := s.Add(t.Context(), []windowstore.Increment{{Window: time.Unix(0, 1), Keys: make([]windowstore.Key, 1)}})
	if err == nil {
		t.Error("Add accepted a window whose start is not a whole second")
	}
}
