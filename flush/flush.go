// Package flush writes the count of every window that is due to the aggregate.
// Cloud Scheduler triggers it each minute through POST /flush; tidemark dev and
// a person with curl trigger it too.
//
// # One run
//
//  1. List the windows that are due and have pending shards: first the newest, so
//     that live windows never wait for a backlog, then the others, oldest first.
//     A window that is still being written is held back for a while, to spare
//     readers interim rows.
//  2. Count each from its shards, several at once.
//  3. Where the shards may not have all, count from the raw rows as well. Of a
//     window so old that shards of it may have expired, the greater count is
//     published, since each is a lower bound of the truth. A window with too many
//     ids to hold, or whose count takes too long, is counted from the raw rows
//     alone.
//  4. Append one row per window to the aggregate's log, all in one operation. The
//     windows that need the raw rows come in later operations, so that the others
//     do not wait for a query.
//  5. Settle the shards found in step 1, each on condition that it has not
//     changed since.
//  6. Delete counters that have expired.
//
// A run may overlap with another, die after any step, or not come at all: the
// next one repeats whatever was not settled, and package windowstore argues why
// that is always right. What fails for one window is reported and does not stop
// the others.
//
// # Bounds
//
// A run publishes MaxWindows windows at most, of which a quarter is for the newest.
// A run that is full lists no further, so it knows only that at least one due
// window remains. A window that is held back or fails takes no place.
//
// A run ends within Timeout. Counts begin in the first three tenths of it, and each
// takes three tenths at most; the raw rows have until eight tenths; the rest is for
// publishing and settling. So a count that hangs stops no other window: it takes
// one of the places of the windows that are counted at once, for a while, and then
// the raw rows have the count.
//
// With Early there are also the windows that have ended and are not yet due, with a
// quarter for the newest of them. A window that nobody has written since it was
// last counted is passed over.
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

// Config says what a [Flusher] reads, where it writes, and within what bounds.
type Config struct {
	Counters  Counters
	Aggregate warehouse.Aggregate
	Windows   window.Fixed

	// Quiet is how long after a window closed it becomes due, and how long a due
	// window must have been left unwritten not to be held back. HoldMax bounds
	// the holding back of one window, from when it was due or, after that, the
	// oldest of its pending shards was created.
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
	cfg   Config
	early *earlyCounts
}

// New returns a Flusher.
func New(cfg Config) *Flusher {
	return &Flusher{cfg: cfg, early: newEarlyCounts()}
}

// Parts of a run, in tenths of its timeout.
const (
	countingTenths = 3 // when the last count begins
	countTenths    = 3 // how long the count of one window takes at most
	rawTenths      = 8 // when the last count of raw rows ends
)

const (
	// atOnce is how many windows are counted at once.
	atOnce = 16
	// newestShare is the part of MaxWindows that is for the newest windows, and
	// maxNewest the most of them.
	newestShare = 4
	maxNewest   = 1000
	// rawChunk is how many windows one query counts from the raw rows, or few more.
	rawChunk = 500
	// maxErrors is how many errors a report spells out.
	maxErrors = 20
)

// run is the state of one run.
type run struct {
	*Flusher
	began    time.Time
	report   Report
	kept     time.Duration  // the least that shards of the pipeline ever outlived the end of their window
	places   chan struct{}  // of the windows that are counted at once
	counting sync.WaitGroup // for them

	mu      sync.Mutex // guards what follows
	taken   int        // of MaxWindows: windows that are being counted or were counted
	counted []counted  // to be published
	raw     []counted  // to be counted from the raw rows before that
	errs    []error    // the first of them
	failed  int        // how many there are
}

// Run flushes once and reports what it did. It ends by itself within the
// configured timeout; when ctx ends it stops at once, and what it had not yet
// settled is done again by the next run.
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

// mark returns the instant at which so many tenths of the run's time are over.
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
