// Package flush writes the count of every window that is due to the aggregate.
// Cloud Scheduler triggers it each minute through POST /flush; tidemark dev and
// a person with curl trigger it too.
//
// # One run
//
//  1. Find the windows that are due and have pending shards. Windows that are
//     still being written are held back for a while, to spare readers interim
//     rows.
//  2. Count each from its shards. A window so old that shards of it may have
//     expired, or one with too many ids to hold, is counted from the raw rows.
//  3. Append one row per window to the aggregate's log, all in one operation.
//  4. Settle the shards found in step 1, each on condition that it has not
//     changed since.
//  5. Delete counters that have expired.
//
// A run may overlap with another, die after any step, or not come at all: the
// next one repeats whatever was not settled, and package windowstore argues why
// that is always right. What fails for one window is reported and does not stop
// the others.
package flush

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// Counters is what a flush needs of the counter store; windowstore.Store has the
// contract.
type Counters interface {
	Pending(ctx context.Context, from, through time.Time) iter.Seq2[windowstore.PendingWindow, error]
	Count(ctx context.Context, start time.Time) (int64, error)
	KeepAtLeast(ctx context.Context, keep time.Duration) (least time.Duration, err error)
	Settle(ctx context.Context, shards []windowstore.Shard, expireAt time.Time) error
	DeleteExpired(ctx context.Context, now time.Time) (int, error)
}

// Config says what a [Flusher] reads, where it writes, and within what bounds.
type Config struct {
	Counters  Counters
	Aggregate warehouse.Aggregate
	Windows   window.Fixed

	// Quiet is how long after a window closed it becomes due, and how long a due
	// window must have been left unwritten not to be held back. HoldMax bounds
	// the holding back of one window.
	Quiet, HoldMax time.Duration
	// MaxWindows is how many windows a run publishes at most.
	MaxWindows int
	// Timeout bounds a run.
	Timeout time.Duration
	// Retention is how long settled counters are kept.
	Retention time.Duration
	// Early also publishes windows that have ended but are not yet due, marked as
	// not final and without settling them.
	Early bool

	Now func() time.Time
}

// A Flusher runs flushes. Runs may overlap, in one process and across processes.
type Flusher struct {
	cfg Config

	// early has the last count published early per window, by its start in Unix
	// seconds, so that a run does not append the same row again. It is a saving
	// only: a process that starts without it appends one row more.
	mu    sync.Mutex
	early map[int64]int64
}

// New returns a Flusher.
func New(cfg Config) *Flusher {
	return &Flusher{cfg: cfg, early: map[int64]int64{}}
}

const (
	// clockMargin is how far the clocks of two processes may differ before one of
	// them takes expired counters for whole ones. Counting a window from raw
	// without need costs a query and is right all the same, so it is generous.
	clockMargin = 5 * time.Minute
	// rawChunk is how many windows one query counts from the raw rows.
	rawChunk = 500
	// maxErrors is how many errors a report spells out.
	maxErrors = 20
)

// counted is a window with its count, ready to be published.
type counted struct {
	windowstore.PendingWindow
	pageViews int64
	due       bool
}

// run is the state of one run.
type run struct {
	*Flusher
	report  Report
	kept    time.Duration // the least that shards of the pipeline ever outlived the end of their window
	counted []counted
	raw     []windowstore.PendingWindow // due, and to be counted from the raw rows
	failed  int                         // errors, those not spelled out among them
}

// Run flushes once and reports what it did. It ends by itself within the
// configured timeout; when ctx ends it stops at once, and what it had not yet
// settled is done again by the next run.
func (f *Flusher) Run(ctx context.Context) Report {
	r := &run{Flusher: f, report: Report{ReadTime: f.cfg.Now()}}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	r.forgetEarly()
	r.gather(ctx)
	r.settle(ctx, r.publish(ctx))
	if _, err := f.cfg.Counters.DeleteExpired(ctx, r.report.ReadTime); err != nil {
		r.fail(fmt.Errorf("delete expired counters: %w", err))
	}
	if more := r.failed - maxErrors; more > 0 {
		r.report.Errors = append(r.report.Errors, fmt.Errorf("and %d more errors", more))
	}
	return r.report
}

func (r *run) fail(err error) {
	if r.failed++; r.failed <= maxErrors {
		r.report.Errors = append(r.report.Errors, err)
	}
}

// gather finds the windows to publish and counts them. It leaves half of the
// run's time to publish and settle what it has found.
func (r *run) gather(ctx context.Context) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout/2)
	defer cancel()
	for w, err := range r.cfg.Counters.Pending(ctx, time.Time{}, r.through()) {
		if err != nil {
			r.fail(fmt.Errorf("list pending windows: %w", err))
			break
		}
		if err := r.readKept(ctx); err != nil {
			r.fail(err)
			break
		}
		due := r.due(w.Start)
		exhausted := len(r.counted)+len(r.raw) >= r.cfg.MaxWindows || time.Since(began) > r.cfg.Timeout/3
		switch {
		case due && r.held(w):
			r.report.Held++
		case exhausted && due:
			r.report.Remaining++
		case exhausted:
		case due && r.mayHaveExpired(w.Start):
			r.raw = append(r.raw, w)
		default:
			r.count(ctx, w, due)
		}
		if len(r.raw) >= rawChunk {
			r.countRaw(ctx)
		}
	}
	r.countRaw(ctx)
}

// through returns the start of the latest window that this run may publish.
func (r *run) through() time.Time {
	if r.cfg.Early {
		return r.cfg.Windows.LastClosed(r.report.ReadTime)
	}
	return r.cfg.Windows.LastDue(r.report.ReadTime, r.cfg.Quiet)
}

func (r *run) due(start time.Time) bool {
	return !r.cfg.Windows.DueAt(start, r.cfg.Quiet).After(r.report.ReadTime)
}

// held reports whether w is still being written, as while a backlog drains, and
// has not been held back for too long.
func (r *run) held(w windowstore.PendingWindow) bool {
	newest, oldest := w.Shards[0].WrittenAt, w.Shards[0].CreatedAt
	for _, shard := range w.Shards[1:] {
		if shard.WrittenAt.After(newest) {
			newest = shard.WrittenAt
		}
		if shard.CreatedAt.Before(oldest) {
			oldest = shard.CreatedAt
		}
	}
	return w.ReadTime.Sub(newest) < r.cfg.Quiet && w.ReadTime.Sub(oldest) < r.cfg.HoldMax
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

// mayHaveExpired reports whether some shard of the window may have been settled
// so long ago that it is gone.
func (r *run) mayHaveExpired(start time.Time) bool {
	expiry := r.cfg.Windows.End(start).Add(r.kept)
	return !expiry.After(r.report.ReadTime.Add(clockMargin))
}

// count counts a window from its shards.
func (r *run) count(ctx context.Context, w windowstore.PendingWindow, due bool) {
	n, err := r.cfg.Counters.Count(ctx, w.Start)
	switch {
	case errors.Is(err, windowstore.ErrTooManyKeys) && due && !r.mayHaveExpired(w.Start):
		r.raw = append(r.raw, w)
	case errors.Is(err, windowstore.ErrTooManyKeys) && !due:
		// Counting it from raw at every run until it is due would cost a scan each.
	case err != nil:
		r.fail(fmt.Errorf("count window %s: %w", event.FormatTime(w.Start), err))
	case due || !r.publishedEarly(w.Start, n):
		r.counted = append(r.counted, counted{w, n, due})
	}
}

// countRaw counts the windows gathered in r.raw from the raw rows. The shards
// that will be settled were read before, and a row is in raw before it is in a
// shard, so the count covers them.
func (r *run) countRaw(ctx context.Context) {
	windows := r.raw
	r.raw = nil
	if len(windows) == 0 {
		return
	}
	starts := make([]time.Time, len(windows))
	for i, w := range windows {
		starts[i] = w.Start
	}
	counts, err := r.cfg.Aggregate.CountRaw(ctx, starts)
	if err != nil {
		r.fail(fmt.Errorf("count %d windows from %s to %s in the raw rows: %w",
			len(starts), event.FormatTime(starts[0]), event.FormatTime(starts[len(starts)-1]), err))
		return
	}
	for i, w := range windows {
		if counts[i] == 0 {
			// Its events were stored in raw before they were counted, so somebody has
			// deleted them since. What is left of the counters is the best there is.
			r.count(ctx, w, true)
			continue
		}
		r.counted = append(r.counted, counted{w, counts[i], true})
	}
}

// publish appends the counts to the aggregate's log and returns the windows
// whose row is stored.
func (r *run) publish(ctx context.Context) []counted {
	slices.SortFunc(r.counted, func(a, b counted) int { return a.Start.Compare(b.Start) })
	now := r.cfg.Now()
	rows := make([]warehouse.WindowCount, len(r.counted))
	for i, w := range r.counted {
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
		w := r.counted[i]
		if err == nil {
			published = append(published, w)
			r.report.Windows = append(r.report.Windows, Window{w.Start, w.pageViews, w.due})
			r.noteEarly(w)
		} else if err != last { // one append, one error
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

func (f *Flusher) publishedEarly(start time.Time, pageViews int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.early[start.Unix()] == pageViews
}

func (f *Flusher) noteEarly(w counted) {
	if w.due {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.early[w.Start.Unix()] = w.pageViews
}

// forgetEarly drops the windows that are due, whoever makes them final.
func (r *run) forgetEarly() {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.early, func(start, _ int64) bool { return r.due(time.Unix(start, 0)) })
}
