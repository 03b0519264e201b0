package flush

import (
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// earlyCounts holds the last count of each window that is not yet due. So a run does not
// count a window again that has not changed, and does not append the same row again. This
// only saves work: a new process counts each window once more and appends one row more.
type earlyCounts struct {
	seed    maphash.Seed
	mu      sync.Mutex
	windows map[int64]earlyCount // by start in Unix seconds
}

type earlyCount struct {
	versions  uint64 // of the pending shards in the count
	pageViews int64  // 0 if they could not be counted
}

func newEarlyCounts() *earlyCounts {
	return &earlyCounts{seed: maphash.MakeSeed(), windows: map[int64]earlyCount{}}
}

// unchanged reports whether the window has not changed since its last count.
func (e *earlyCounts) unchanged(w windowstore.PendingWindow) bool {
	versions := e.versions(w)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.windows[w.Start.Unix()].versions == versions
}

// news reports whether the count of a window is new and so is to be published. It notes
// every other count.
func (e *earlyCounts) news(c counted) bool {
	e.mu.Lock()
	last := e.windows[c.Start.Unix()].pageViews
	e.mu.Unlock()
	if c.uncountable == nil && c.pageViews != last {
		return true
	}
	e.note(c)
	return false
}

// note notes the count of a window, unless the window is due.
func (e *earlyCounts) note(c counted) {
	if c.due {
		return
	}
	versions := e.versions(c.PendingWindow)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.windows[c.Start.Unix()] = earlyCount{versions, c.pageViews}
}

// forget drops the windows that are due.
func (e *earlyCounts) forget(due func(start time.Time) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.windows, func(start int64, _ earlyCount) bool { return due(time.Unix(start, 0)) })
}

// versions returns a hash of the names and versions of the window's pending shards. It does
// not depend on their order.
func (e *earlyCounts) versions(w windowstore.PendingWindow) (sum uint64) {
	type version struct {
		name   string
		number int64
	}
	for _, shard := range w.Shards {
		sum += maphash.Comparable(e.seed, version{shard.Name, shard.Version})
	}
	return sum
}
