package flush

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// clockMargin is how far the clocks of two processes may differ. If they differ by more, a
// process may take the rest of expired counters for all of them. The margin is generous: a
// count from raw rows that was not needed costs a query and gives the same number.
const clockMargin = 5 * time.Minute

// counted is a window with its count.
type counted struct {
	windowstore.PendingWindow
	pageViews   int64
	uncountable error // why its shards could not be counted, if they could not
	due         bool
}

// count counts a window from its shards. It then adds the window to those to publish or to
// those to count from the raw rows, or gives its place back.
func (r *run) count(ctx context.Context, w windowstore.PendingWindow) {
	c := counted{PendingWindow: w, due: r.due(w.Start)}
	err := r.countShards(ctx, &c)
	switch {
	case err != nil:
		r.fail(fmt.Errorf("count window %s: %w", event.FormatTime(w.Start), err))
		r.take(-1)
	case c.due && (c.uncountable != nil || r.mayHaveExpired(w.Start)):
		r.add(&r.raw, c)
	case c.due || r.early.news(c):
		r.add(&r.counted, c)
	default:
		r.take(-1)
	}
}

func (r *run) add(windows *[]counted, c counted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*windows = append(*windows, c)
}

// countShards counts a window from its shards. If there are too many ids, or the count
// takes too long, it sets c.uncountable and returns no error: the raw rows have all
// events too.
func (r *run) countShards(ctx context.Context, c *counted) (err error) {
	bounded, cancel := context.WithTimeout(ctx, r.tenths(countTenths))
	defer cancel()
	c.pageViews, err = r.cfg.Counters.Count(bounded, c.Start)
	tooLong := bounded.Err() != nil && ctx.Err() == nil
	if err != nil && (tooLong || errors.Is(err, windowstore.ErrTooManyKeys)) {
		c.uncountable, err = err, nil
	}
	return err
}

// mayHaveExpired reports whether a shard of the window may have been settled so long ago
// that it no longer exists.
func (r *run) mayHaveExpired(start time.Time) bool {
	expiry := r.cfg.Windows.End(start).Add(r.kept)
	return !expiry.After(r.report.ReadTime.Add(clockMargin))
}

// countRaw counts windows from the raw rows and returns the windows that it could count. The
// count covers all shards that the run will settle: these were read before, and every row
// was in raw before its id was in a shard. If raw rows have been deleted since, the raw
// count is too low, and the count of the shards is the best count.
func (r *run) countRaw(ctx context.Context, windows []counted) []counted {
	if len(windows) == 0 {
		return nil
	}
	counts, err := r.queryRaw(ctx, windows)
	if err != nil {
		r.fail(err)
		r.take(-len(windows))
		return nil
	}
	var known []counted
	for i, c := range windows {
		c.pageViews = max(c.pageViews, counts[i])
		if c.uncountable != nil && c.pageViews == 0 {
			r.fail(fmt.Errorf("count window %s: it has no raw rows, and %w", event.FormatTime(c.Start), c.uncountable))
			r.take(-1)
			continue
		}
		known = append(known, c)
	}
	return known
}

func (r *run) queryRaw(ctx context.Context, windows []counted) ([]int64, error) {
	ctx, cancel := context.WithDeadline(ctx, r.mark(rawTenths))
	defer cancel()
	starts := make([]time.Time, len(windows))
	for i, w := range windows {
		starts[i] = w.Start
	}
	counts, err := r.cfg.Aggregate.CountRaw(ctx, starts)
	if err != nil {
		return nil, fmt.Errorf("count %d windows from %s to %s in the raw rows: %w",
			len(starts), event.FormatTime(starts[0]), event.FormatTime(starts[len(starts)-1]), err)
	}
	return counts, nil
}
