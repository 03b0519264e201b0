// Package flush writes the count of every due window to the aggregate. Cloud Scheduler
// starts a flush each minute through POST /flush. tidemark dev starts flushes too, and so
// can a user with curl.
//
// # One run
//
//  1. List the windows that are due and have pending shards. The newest windows come
//     first, so that live windows never wait for a backlog. The others follow, oldest
//     first. A window that still receives events is held back for a while, so that
//     readers see fewer interim rows.
//  2. Count each window from its shards, several windows at the same time.
//  3. If the shards may be incomplete, count the window from the raw rows too. If a window
//     is so old that some of its shards may have expired, the greater count is published,
//     since neither count can be too high. If a window has too many ids for the memory, or
//     its count takes too long, only the raw rows are counted.
//  4. Append one row per window to the aggregate's log, all in one operation. Windows that
//     need the raw rows come in later operations, so that the other windows do not wait
//     for a query.
//  5. Settle the shards found in step 1. A shard is settled only if it has not changed
//     since.
//  6. Delete expired counters.
//
// A run may overlap with another run, die after any step, or not come at all. The next run
// repeats everything that was not settled; package windowstore argues why this is always
// right. If one window fails, its error is reported and the other windows go on.
//
// # Bounds
//
// A run publishes at most MaxWindows windows; a quarter of them is reserved for the newest.
// A full run stops listing, so it knows only that at least one due window remains. A
// window that is held back or fails takes no place.
//
// A run ends within Timeout. Counts begin in the first three tenths of Timeout, and each
// count takes at most three tenths. Counts of raw rows end by eight tenths. The rest is for
// publishing and settling. So a count that hangs stops no other window: it takes one of
// the places for windows that are counted at the same time, and after three tenths the
// window is counted from the raw rows.
//
// With Early a run also publishes windows that have ended and are not yet due; a quarter is
// reserved for the newest of them. Such a window is skipped if it has not changed since its
// last count.
package flush

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

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

// Config says what a [Flusher] reads, where it writes, and its limits.
type Config struct {
	Counters  Counters
	Aggregate warehouse.Aggregate
	Windows   window.Fixed

	// Quiet is how long after a window closed the window becomes due. A due window is
	// held back if it was written within the last Quiet, but for HoldMax at most. HoldMax
	// begins when the window becomes due, or when the oldest of its pending shards was
	// created, if that is later.
	Quiet, HoldMax time.Duration
	// MaxWindows is how many windows a run publishes at most.
	MaxWindows int
	// Timeout bounds a run.
	Timeout time.Duration
	// Retention is how long settled counters are kept.
	Retention time.Duration
	// Early is whether to publish windows also after they have ended and before they are
	// due. Their rows are not final, and their shards are not settled.
	Early bool

	Now func() time.Time
}

// A Flusher runs flushes. Runs may overlap, in one process and across processes.
type Flusher struct {
	cfg   Config
	early *earlyCounts
}

// New returns a Flusher.
func New(cfg Config) *Flusher {
	return &Flusher{cfg: cfg, early: newEarlyCounts()}
}

// Parts of a run, in tenths of its timeout.
const (
	countingTenths = 3 // the last count begins by then
	countTenths    = 3 // the longest time for the count of one window
	rawTenths      = 8 // the last count of raw rows ends by then
)

const (
	// atOnce is how many windows are counted at the same time.
	atOnce = 16
	// One part in newestShare of MaxWindows is reserved for the newest windows, but at
	// most maxNewest.
	newestShare = 4
	maxNewest   = 1000
	// rawChunk is about how many windows one query counts from the raw rows.
	rawChunk = 500
	// maxErrors is how many errors a report has in full.
	maxErrors = 20
)

// run is the state of one run.
type run struct {
	*Flusher
	began    time.Time
	report   Report
	kept     time.Duration  // all shards of the pipeline exist at least this long after the end of their window
	places   chan struct{}  // one for each window that is being counted
	counting sync.WaitGroup // of the same windows

	mu      sync.Mutex // guards the fields below
	taken   int        // the windows that are being counted or were counted, of MaxWindows
	counted []counted  // to publish
	raw     []counted  // to count from the raw rows before they are published
	errs    []error    // the first maxErrors errors
	failed  int        // the number of errors
}

// Run flushes once and reports what it did. It ends within the configured timeout. It stops
// at once when ctx ends; the next run repeats what was not settled.
func (f *Flusher) Run(ctx context.Context) Report {
	r := &run{Flusher: f, began: time.Now(), places: make(chan struct{}, atOnce), report: Report{ReadTime: f.cfg.Now()}}
	ctx, cancel := context.WithDeadline(ctx, r.mark(10))
	defer cancel()
	f.early.forget(r.due)
	r.gather(ctx)
	r.finish(ctx)
	if _, err := f.cfg.Counters.DeleteExpired(ctx, r.report.ReadTime); err != nil {
		r.fail(fmt.Errorf("delete expired counters: %w", err))
	}
	return r.end()
}

// mark returns when the given tenths of the run's time are over.
func (r *run) mark(tenths int) time.Time { return r.began.Add(r.tenths(tenths)) }

func (r *run) tenths(n int) time.Duration { return r.cfg.Timeout / 10 * time.Duration(n) }

func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed++; r.failed <= maxErrors {
		r.errs = append(r.errs, err)
	}
}

// end returns the report.
func (r *run) end() Report {
	if more := r.failed - len(r.errs); more > 0 {
		r.errs = append(r.errs, fmt.Errorf("and %d more errors", more))
	}
	r.report.Errors = r.errs
	slices.SortFunc(r.report.Windows, func(a, b Window) int { return a.Start.Compare(b.Start) })
	return r.report
}
