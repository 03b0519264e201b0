package flush_test

import (
	"context"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/internal/test/memdocs"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// This is how counters are kept on Google Cloud: each of several instances has a shard of
// each window. Every call takes 20 ms.
func TestABacklogOfWindowsOfManyShardsIsOneRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const windows, instances = 1000, 6
		fixed := window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute}
		first := fixed.Start(time.Now()).Add(-(windows + 10) * time.Minute)
		docs := slowDocuments{memdocs.New(time.Now).Pipeline("p")}
		var store windowstore.Store
		for i := range instances {
			store = sharded.New(sharded.Config{
				Documents: docs, Pipeline: "p", Writer: sharded.NewWriter(), Now: time.Now,
				Meaning: windowstore.Meaning{WindowDuration: fixed.Duration, RawTable: "raw", AggTable: "agg"},
			})
			var increments []windowstore.Increment
			for n := range windows {
				// The last id of each instance is also the first id of the next instance.
				keys := []windowstore.Key{{byte(i)}, {byte(i + 1)}}
				increments = append(increments, windowstore.Increment{Window: first.Add(time.Duration(n) * time.Minute), Keys: keys})
			}
			if err := store.Add(t.Context(), increments); err != nil {
				t.Fatal(err)
			}
		}
		published := map[time.Time]int64{}
		flusher := flush.New(flush.Config{
			Counters: store, Aggregate: aggregate(published), Windows: fixed,
			MaxWindows: windows, Timeout: 50 * time.Second, Retention: 192 * time.Hour, Now: time.Now,
		})
		began := time.Now()
		report := flusher.Run(t.Context())
		if took := time.Since(began); took > 50*time.Second || len(report.Windows) != windows || len(report.Errors) != 0 || report.RemainingAtLeast {
			t.Errorf("%d windows in %v, errors %v, remaining at least %d: %v", len(report.Windows), took, report.Errors, report.Remaining, report.RemainingAtLeast)
		}
		for n := range windows {
			if start := first.Add(time.Duration(n) * time.Minute); published[start] != instances+1 {
				t.Fatalf("window %d has %d page views, want %d", n, published[start], instances+1)
			}
		}
		for w, err := range store.Pending(t.Context(), time.Time{}, time.Now()) {
			t.Fatalf("window %v is still pending, %v", w.Start, err)
		}
	})
}

// slowDocuments are documents whose calls take 20 ms each.
type slowDocuments struct{ sharded.Documents }

const latency = 20 * time.Millisecond

func (d slowDocuments) QueryPending(ctx context.Context, after sharded.Cursor, through time.Time, limit int) ([]sharded.ShardInfo, time.Time, error) {
	time.Sleep(latency)
	return d.Documents.QueryPending(ctx, after, through, limit)
}

func (d slowDocuments) QueryWindow(ctx context.Context, start time.Time) iter.Seq2[[]byte, error] {
	time.Sleep(latency)
	return d.Documents.QueryWindow(ctx, start)
}

func (d slowDocuments) Settle(ctx context.Context, shards []sharded.ShardInfo, expireAt time.Time) []error {
	time.Sleep(latency)
	return d.Documents.Settle(ctx, shards, expireAt)
}

// aggregate keeps the counts that were appended, by window.
type aggregate map[time.Time]int64

func (a aggregate) AppendCounts(_ context.Context, rows []warehouse.WindowCount) error {
	time.Sleep(latency)
	for _, row := range rows {
		a[row.Start] = row.PageViews
	}
	return nil
}

func (aggregate) CountRaw(context.Context, []time.Time) ([]int64, error) {
	panic("no window is that old")
}
