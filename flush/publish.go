package flush

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// finish waits for the windows that are being counted. It publishes and settles all counted
// windows. Windows that need the raw rows come last.
func (r *run) finish(ctx context.Context) {
	r.counting.Wait()
	ready, raw := r.collect()
	r.settle(ctx, r.publish(ctx, ready))
	r.settle(ctx, r.publish(ctx, r.countRaw(ctx, raw)))
}

// collect removes and returns the windows that are ready to publish, and the windows to count
// from the raw rows first. Both lists are oldest first.
func (r *run) collect() (ready, raw []counted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ready, raw, r.counted, r.raw = r.counted, r.raw, nil, nil
	for _, windows := range [][]counted{ready, raw} {
		slices.SortFunc(windows, func(a, b counted) int { return a.Start.Compare(b.Start) })
	}
	return ready, raw
}

// publish appends the counts to the aggregate's log and returns the windows whose rows are
// stored.
func (r *run) publish(ctx context.Context, windows []counted) []counted {
	now := r.cfg.Now()
	rows := make([]warehouse.WindowCount, len(windows))
	for i, w := range windows {
		rows[i] = warehouse.WindowCount{
			Start:     w.Start,
			End:       r.cfg.Windows.End(w.Start),
			PageViews: w.pageViews,
			Final:     w.due,
			WrittenAt: now,
		}
	}
	var published []counted
	var last error
	for i, err := range warehouse.AppendEach(ctx, rows, r.cfg.Aggregate.AppendCounts) {
		w := windows[i]
		if err == nil {
			published = append(published, w)
			r.report.Windows = append(r.report.Windows, Window{w.Start, w.pageViews, w.due})
			r.early.note(w)
		} else if err != last { // the windows of one append share its error
			r.fail(fmt.Errorf("publish window %s and perhaps others: %w", event.FormatTime(w.Start), err))
		}
		last = err
	}
	return published
}

// settle settles the shards of the published windows that are due.
func (r *run) settle(ctx context.Context, published []counted) {
	var shards []windowstore.Shard
	for _, w := range published {
		if w.due {
			shards = append(shards, w.Shards...)
		}
	}
	if len(shards) == 0 {
		return
	}
	if err := r.cfg.Counters.Settle(ctx, shards, r.cfg.Now().Add(r.cfg.Retention)); err != nil {
		r.fail(fmt.Errorf("settle %d shards: %w", len(shards), err))
	}
}
