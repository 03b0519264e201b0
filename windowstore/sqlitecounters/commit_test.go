package sqlitecounters

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile/sqlitefault"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// Every write of the store is tried while COMMIT fails. The write must return an error
// and change nothing, and must succeed when it is repeated afterwards.
func TestAWriteWhoseCommitFailsIsAnErrorAndChangesNothing(t *testing.T) {
	t.Parallel()
	var epoch = time.Unix(0, 0).UTC()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	added := func(ctx context.Context, s *Store) { must(s.Add(ctx, increment(0, 0, 5))) }
	settled := func(ctx context.Context, s *Store) {
		added(ctx, s)
		for w, err := range s.Pending(ctx, time.Time{}, epoch) {
			must(err)
			must(s.Settle(ctx, w.Shards, epoch))
		}
	}
	for name, test := range map[string]struct {
		before func(ctx context.Context, s *Store)
		write  func(ctx context.Context, s *Store) error
	}{
		"register":              {nil, func(ctx context.Context, s *Store) error { return s.Register(ctx) }},
		"the first add":         {nil, func(ctx context.Context, s *Store) error { return s.Add(ctx, increment(0, 0, 5)) }},
		"an add":                {added, func(ctx context.Context, s *Store) error { return s.Add(ctx, increment(0, 3, 9)) }},
		"an add of no new id":   {settled, func(ctx context.Context, s *Store) error { return s.Add(ctx, increment(0, 0, 5)) }},
		"a retention on record": {added, func(ctx context.Context, s *Store) error { _, err := s.KeepAtLeast(ctx, time.Hour); return err }},
		"a settle": {added, func(ctx context.Context, s *Store) error {
			return s.Settle(ctx, []windowstore.Shard{{Window: epoch, Version: 1}}, epoch)
		}},
		"a deletion of shards": {settled, func(ctx context.Context, s *Store) error { _, err := s.DeleteExpired(ctx, epoch); return err }},
		"a deletion of keys": {func(ctx context.Context, s *Store) {
			settled(ctx, s)
			_, err := s.deleteShards(ctx, epoch)
			must(err)
		}, func(ctx context.Context, s *Store) error { _, err := s.DeleteExpired(ctx, epoch); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "counters.db")
			s := openAt(t, path)
			if test.before != nil {
				test.before(t.Context(), s)
			}
			before := content(t, s)
			allow := sqlitefault.RefuseCommits(path)
			defer allow()
			// If DeleteExpired took a failed commit for a success, it would never end.
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for range 2 { // a second time, since the store may be in another state after the first try
				if err := test.write(ctx, s); err == nil || !strings.Contains(err.Error(), "commit: ") {
					t.Errorf("a write whose commit failed: %v, want the commit's error", err)
				}
			}
			if diff := cmp.Diff(before, content(t, s)); diff != "" {
				t.Errorf("the file has changed (-before +after):\n%s", diff)
			}
			allow()
			if err := test.write(t.Context(), s); err != nil {
				t.Errorf("repeated: %v", err)
			}
			if cmp.Equal(before, content(t, s)) {
				t.Error("the write changes nothing when it succeeds, so the test shows nothing")
			}
		})
	}
}

func TestAFileWhoseSchemaIsNotCommittedIsNotOpened(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "counters.db")
	allow := sqlitefault.RefuseCommits(path)
	defer allow()
	if s, err := Open(t.Context(), testConfig(path)); err == nil {
		s.Close()
		t.Error("Open succeeded, though the tables could not be created")
	}
	allow()
	if err := openAt(t, path).Add(t.Context(), increment(0, 0, 5)); err != nil {
		t.Errorf("opened again: %v", err)
	}
}

// content returns every row of every table.
func content(t *testing.T, s *Store) (rows []string) {
	t.Helper()
	for _, table := range []string{"pipelines", "versions", "shards", "keys", "deleted_shards"} {
		found, err := s.file.Reader.Query("SELECT * FROM " + table)
		if err != nil {
			t.Fatal(err)
		}
		columns, _ := found.Columns()
		for found.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(any)
			}
			if err := found.Scan(values...); err != nil {
				t.Fatal(err)
			}
			row := table
			for _, value := range values {
				row += fmt.Sprintf(" %v", *value.(*any))
			}
			rows = append(rows, row)
		}
		if err := found.Err(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(rows)
	return rows
}
