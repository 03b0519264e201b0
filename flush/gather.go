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

// spans returns what a run lists, in this order: the newest of the windows that
// are due; the newest of those that have ended and are not yet due, if such are
// published; and then the others of both, oldest first.
func (r *run) spans() []span {
	windows, now := r.cfg.Windows, r.report.ReadTime
	lastDue := windows.LastDue(now, r.cfg.Quiet)
	last, afterDue := lastDue, windows.End(lastDue)
	if r.cfg.Early {
		last = windows.LastClosed(now)
	}
	newestDue, newestEarly := r.newest(lastDue), later(r.newest(last), afterDue)
	return slices.DeleteFunc([]span{
		{newestDue, lastDue},
		{newestEarly, last},
		{time.Time{}, newestDue.Add(-1)},
		{afterDue, newestEarly.Add(-1)},
	}, span.empty)
}

// newest returns the start of the first of the newest windows, the latest of which
// starts at last.
func (r *run) newest(last time.Time) time.Time {
	n := min(r.cfg.MaxWindows/newestShare, maxNewest)
	return last.Add(-time.Duration(n-1) * r.cfg.Windows.Duration)
}

// gather lists the windows and has them counted, until the run is full or has no
// time left.
func (r *run) gather(ctx context.Context) {
	r.report.RemainingAtLeast = true
	for _, s := range r.spans() {
		if !r.list(ctx, s) {
			return
		}
		if s.from.IsZero() { // the last span with due windows
			r.report.RemainingAtLeast = false
		}
	}
}

// list has the windows of a span counted and reports whether it came to its end.
func (r *run) list(ctx context.Context, s span) bool {
	listing, cancel := context.WithDeadline(ctx, r.mark(countingTenths+countTenths))
	defer cancel()
	for w, err := range r.cfg.Counters.Pending(listing, s.from, s.through) {
		if err != nil {
			r.fail(fmt.Errorf("list pending windows: %w", err))
			return false
		}
		if !r.passes(w) && !r.begin(ctx, w) || r.late() {
			return false
		}
	}
	return true
}

// late reports whether it is too late to begin another count.
func (r *run) late() bool { return time.Now().After(r.mark(countingTenths)) }

// passes reports whether there is nothing to do for w in this run.
func (r *run) passes(w windowstore.PendingWindow) bool {
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

// held reports whether w is still being written, as while a backlog drains, and
// has not been held back for too long.
func (r *run) held(w windowstore.PendingWindow) bool {
	written, created := w.Shards[0].WrittenAt, w.Shards[0].CreatedAt
	for _, shard := range w.Shards[1:] {
		written = later(written, shard.WrittenAt)
		created = earlier(created, shard.CreatedAt)
	}
	since := later(created, r.cfg.Windows.DueAt(w.Start, r.cfg.Quiet))
	return w.ReadTime.Sub(written) < r.cfg.Quiet && w.ReadTime.Sub(since) < r.cfg.HoldMax
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// begin has w counted as soon as fewer than atOnce windows are being counted, and
// reports whether the run had a place and time for it.
func (r *run) begin(ctx context.Context, w windowstore.PendingWindow) bool {
	if err := r.readKept(ctx); err != nil {
		r.fail(err)
		return false
	}
	if r.full() || r.rawIsFull() {
		r.finish(ctx) // what fails gives its place back
	}
	r.places <- struct{}{}
	if r.full() || r.late() {
		<-r.places
		r.leave(w)
		return false
	}
	r.take(1)
	r.counting.Go(func() {
		r.count(ctx, w)
		<-r.places
	})
	return true
}

// leave leaves w to the next run.
func (r *run) leave(w windowstore.PendingWindow) {
	if r.due(w.Start) {
		r.report.Remaining++
	}
}

// take takes so many of the run's MaxWindows places; fewer than none gives them
// back.
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

// readKept finds out, once in a run that has anything to do, how long shards are
// kept by every process of the pipeline, earlier ones with other settings too.
func (r *run) readKept(ctx context.Context) (err error) {
	if r.kept != 0 {
		return nil
	}
	// No shard is settled before its window is due.
	keep := r.cfg.Windows.AllowedLateness + r.cfg.Quiet + r.cfg.Retention
	if r.kept, err = r.cfg.Counters.KeepAtLeast(ctx, keep); err != nil {
		return fmt.Errorf("find out how long counters are kept: %w", err)
	}
	return nil
}
