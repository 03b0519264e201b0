package flush

import (
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// earlyCounts has the last count of each window that is not yet due, so that a run
// neither counts a window again that nobody has written since, nor appends the
// same row again. It is a saving only: a process that starts without it counts
// each window once more and appends one row more.
type earlyCounts struct {
	seed    maphash.Seed
	mu      sync.Mutex
	windows map[int64]earlyCount // by start in Unix seconds
}

type earlyCount struct {
	versions  uint64 // of the pending shards that the count covers
	pageViews int64  // 0 if they could not be counted
}

func newEarlyCounts() *earlyCounts {
	return &earlyCounts{seed: maphash.MakeSeed(), windows: map[int64]earlyCount{}}
}

// unchanged reports whether nobody has written the window since it was counted.
func (e *earlyCounts) unchanged(w windowstore.PendingWindow) bool {
	versions := e.versions(w)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.windows[w.Start.Unix()].versions == versions
}

// news reports whether the count of a window is one to publish, and notes it if it
// is not.
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

// note notes a count of a window that is not due.
func (e *earlyCounts) note(c counted) {
	if c.due {
		return
	}
	versions := e.versions(c.PendingWindow)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.windows[c.Start.Unix()] = earlyCount{versions, c.pageViews}
}

// forget drops the windows that are due, whoever makes them final.
func (e *earlyCounts) forget(due func(start time.Time) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	maps.DeleteFunc(e.windows, func(start int64, _ earlyCount) bool { return due(time.Unix(start, 0)) })
}

// versions stands for the names and versions of the window's pending shards, in
// whatever order they come.
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
