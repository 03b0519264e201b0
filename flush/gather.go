package flush

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// A span is a range of window starts, both included.
type span struct{ from, through time.Time }

func (s span) empty() bool { return s.from.After(s.through) }

// spans returns the spans that a run lists, in this order: the newest due windows; with
// Early, the newest windows that have ended and are not yet due; then the other due
// windows, and the other windows that are not yet due.
func (r *run) spans() []span {
	windows, now := r.cfg.Windows, r.report.ReadTime
	lastDue := windows.LastDue(now, r.cfg.Quiet)
	last, afterDue := lastDue, windows.End(lastDue)
	if r.cfg.Early {
		last = windows.LastEnded(now)
	}
	newestDue, newestEarly := r.newest(lastDue), later(r.newest(last), afterDue)
	return slices.DeleteFunc([]span{
		{newestDue, lastDue},
		{newestEarly, last},
		{time.Time{}, newestDue.Add(-1)},
		{afterDue, newestEarly.Add(-1)},
	}, span.empty)
}

// newest returns the start of the oldest of the newest windows. The latest of them starts at
// last.
func (r *run) newest(last time.Time) time.Time {
	n := min(r.cfg.MaxWindows/newestShare, maxNewest)
	return last.Add(-time.Duration(n-1) * r.cfg.Windows.Duration)
}

// gather lists the windows and counts them, until the run is full or has no time left.
func (r *run) gather(ctx context.Context) {
	r.report.RemainingAtLeast = true
	for _, s := range r.spans() {
		if !r.list(ctx, s) {
			return
		}
		if s.from.IsZero() { // no span after this one has due windows
			r.report.RemainingAtLeast = false
		}
	}
}

// list counts the windows of a span. It reports whether it came to the end of the span.
func (r *run) list(ctx context.Context, s span) bool {
	listing, cancel := context.WithDeadline(ctx, r.mark(countingTenths+countTenths))
	defer cancel()
	for w, err := range r.cfg.Counters.Pending(listing, s.from, s.through) {
		if err != nil {
			r.fail(fmt.Errorf("list pending windows: %w", err))
			return false
		}
		if !r.skips(w) && !r.begin(ctx, w) || r.late() {
			return false
		}
	}
	return true
}

// late reports whether it is too late to begin another count.
func (r *run) late() bool { return time.Now().After(r.mark(countingTenths)) }

// skips reports whether there is nothing to do for w in this run.
func (r *run) skips(w windowstore.PendingWindow) bool {
	if !r.due(w.Start) {
		return r.early.unchanged(w)
	}
	if !r.held(w) {
		return false
	}
	r.report.Held++
	return true
}

func (r *run) due(start time.Time) bool {
	return !r.cfg.Windows.DueAt(start, r.cfg.Quiet).After(r.report.ReadTime)
}

// held reports whether w still receives events, for example while a backlog drains, and
// has not been held back for too long.
func (r *run) held(w windowstore.PendingWindow) bool {
	oldest := slices.MinFunc(w.Shards, func(a, b windowstore.Shard) int { return a.CreatedAt.Compare(b.CreatedAt) })
	since := later(oldest.CreatedAt, r.cfg.Windows.DueAt(w.Start, r.cfg.Quiet))
	return w.ReadTime.Sub(w.LastWritten()) < r.cfg.Quiet && w.ReadTime.Sub(since) < r.cfg.HoldMax
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// begin starts the count of w as soon as fewer than atOnce windows are being counted. It
// reports whether the run had a place and time for w.
func (r *run) begin(ctx context.Context, w windowstore.PendingWindow) bool {
	if err := r.readKept(ctx); err != nil {
		r.fail(err)
		return false
	}
	if r.full() || r.rawIsFull() {
		r.finish(ctx) // a window that fails gives its place back
	}
	r.places <- struct{}{}
	if r.full() || r.late() {
		<-r.places
		if r.due(w.Start) {
			r.report.Remaining++
		}
		return false
	}
	r.take(1)
	r.counting.Go(func() {
		r.count(ctx, w)
		<-r.places
	})
	return true
}

// take takes n of the run's MaxWindows places. If n is negative, it gives places back.
func (r *run) take(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken += n
}

func (r *run) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken >= r.cfg.MaxWindows
}

func (r *run) rawIsFull() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.raw) >= rawChunk
}

// readKept reads how long every process of the pipeline keeps shards, at least; earlier
// processes may have had other settings. A run reads this once, before its first count.
func (r *run) readKept(ctx context.Context) (err error) {
	if r.kept != 0 {
		return nil
	}
	// No shard is settled before its window is due.
	keep := r.cfg.Windows.AllowedLateness + r.cfg.Quiet + r.cfg.Retention
	if r.kept, err = r.cfg.Counters.KeepAtLeast(ctx, keep); err != nil {
		return fmt.Errorf("read how long counters are kept: %w", err)
	}
	return nil
}
