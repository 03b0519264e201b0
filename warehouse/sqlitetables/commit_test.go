package sqlitetables

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/internal/sqlitefile/sqlitefault"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// Every write of the warehouse is tried while COMMIT fails. The write must return an
// error and store nothing, and must succeed when it is repeated afterwards.
func TestAnAppendWhoseCommitFailsIsAnErrorAndStoresNothing(t *testing.T) {
	t.Parallel()
	for table, appendTo := range map[string]func(ctx context.Context, w *Warehouse) error{
		"raw": func(ctx context.Context, w *Warehouse) error {
			return w.AppendRaw(ctx, []warehouse.RawRow{{EventID: "1", WindowStart: time.Unix(0, 0)}})
		},
		"windowed_traffic_log": func(ctx context.Context, w *Warehouse) error {
			return w.AppendCounts(ctx, []warehouse.WindowCount{{PageViews: 1}})
		},
		"dead_letter": func(ctx context.Context, w *Warehouse) error {
			return w.AppendDeadLetters(ctx, letters(10))
		},
	} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			w := openTemp(t)
			allow := sqlitefault.RefuseCommits(w.path)
			defer allow()
			if err := appendTo(t.Context(), w); err == nil {
				t.Error("an append returned no error, though its commit failed")
			}
			w.wantRows(t, table, 0)
			allow()
			if err := appendTo(t.Context(), w); err != nil {
				t.Errorf("repeated: %v", err)
			}
			w.wantRows(t, table, 1)
		})
	}
}

func TestAFileWhoseTablesAreNotCommittedIsNotOpened(t *testing.T) {
	t.Parallel()
	config := Config{Path: filepath.Join(t.TempDir(), "warehouse.db"), Layout: accesslog.Layout()}
	allow := sqlitefault.RefuseCommits(config.Path)
	defer allow()
	if w, err := Open(t.Context(), config); err == nil {
		w.Close()
		t.Error("Open succeeded, though the tables could not be created")
	}
	allow()
	w, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.wantRows(t, "raw", 0)
}
