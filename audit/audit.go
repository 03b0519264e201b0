// Package audit compares the aggregate with the raw rows, window by window, and repairs
// counts that are too low. A user or a monitor starts an audit through GET /audit or
// tidemark audit. A user starts a repair through POST /audit or tidemark audit --repair.
//
// # What is compared
//
// An audit compares two numbers of each window. The raw count is the number of distinct
// event ids among the window's raw rows that are not late. The page_views is the greatest
// count of the window in the aggregate's log. If the window is missing on one side, that
// number is 0. Windows that are not yet due are left out, since more events of these
// windows may arrive.
//
// # What a difference means
//
//	page_views is   because                                     correct it by
//	-------------   -----------------------------------------   -------------------------
//	lower, waiting  the next flush will write the window; it    a flush
//	                has not run, or holds the window back
//	lower           no flush has run for long, or they fail     a flush; see its errors
//	lower           an event was stored, but never counted      a repair
//	                (its redelivery has not come, or never
//	                will); the counters are gone; rows of the
//	                log are gone
//	higher          raw rows are gone: deleted, or expired      restoring the rows
//	higher          the log has a row that Tidemark did not     deleting that row from the
//	                write                                       log by hand
//
// A repair appends the raw count if that count is greater, and leaves waiting windows to
// the flush. It never lowers a count, and cannot: the log is append-only and the greatest
// count stands. This rule makes every other write safe to repeat. So an operator must
// correct a count that is higher, and must find out which side is right. If raw rows
// expire by design, audit only the range that still has raw rows.
//
// # Failure handling
//
// An audit only reads. A repair appends counts that were right when they were read; the
// right counts can only have grown since. A second repair, or a repair at the same time as
// another or as a flush, appends rows that change nothing. The caller may repeat what
// failed.
package audit

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// MaxWindows is how many windows a report lists at most: about a week of windows of a
// minute.
const MaxWindows = 10_000

// flushMargin is how long a window may wait for its flush after the time when the flush
// should have come. Flushes come each minute, and a flush may fail or reach its limits.
const flushMargin = 5 * time.Minute

// Warehouse is what an audit needs of the warehouse; package warehouse has the
// contract.
type Warehouse interface {
	warehouse.Comparer
	AppendCounts(ctx context.Context, rows []warehouse.WindowCount) error
}

// Counters is what an audit needs of the counter store; windowstore.Store has the
// contract.
type Counters interface {
	Pending(ctx context.Context, from, through time.Time) iter.Seq2[windowstore.PendingWindow, error]
}

// Config says what an [Auditor] compares. Every field but Count is required.
type Config struct {
	Warehouse Warehouse
	Counters  Counters
	Windows   window.Fixed
	Count     string // of a [Report]
	// Quiet is how long after a window closed the window becomes due. HoldMax is how
	// long a due window is held back at most. Both are those of the flush.
	Quiet, HoldMax time.Duration
	// Timeout bounds an audit or a repair.
	Timeout time.Duration
	Now     func() time.Time
}

// An Auditor audits and repairs. It is safe for concurrent use.
type Auditor struct{ cfg Config }

// New returns an Auditor.
func New(cfg Config) *Auditor { return &Auditor{cfg} }

// Run audits the windows that start in [from, to) and are due. A range that ends before it
// begins is empty. Run writes nothing.
func (a *Auditor) Run(ctx context.Context, from, to time.Time) (Report, error) {
	return bounded(ctx, a.cfg.Timeout, func(ctx context.Context) (Report, error) { return a.run(ctx, from, to) })
}

// Estimate returns what Run of the range would cost, and reads no rows. (Repair costs up to
// twice as much.)
func (a *Auditor) Estimate(ctx context.Context, from, to time.Time) (Estimate, error) {
	return bounded(ctx, a.cfg.Timeout, func(ctx context.Context) (Estimate, error) {
		e := Estimate{From: from.UTC(), To: a.end(from, to)}
		if !e.From.Before(e.To) {
			return e, nil
		}
		var err error
		e.Bytes, err = a.cfg.Warehouse.AuditBytes(ctx, e.From, e.To)
		return e, err
	})
}

// bounded runs f within the timeout.
func bounded[T any](ctx context.Context, timeout time.Duration, f func(context.Context) (T, error)) (T, error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result, err := f(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return result, fmt.Errorf("the audit takes longer than %s (FLUSH_TIMEOUT); narrow it by from and to: %w", durations.Text(timeout), err)
	}
	return result, err
}

func (a *Auditor) run(ctx context.Context, from, to time.Time) (Report, error) {
	from = from.UTC()
	report := Report{From: from, To: a.end(from, to), Count: a.cfg.Count}
	if !from.Before(report.To) {
		return report, nil
	}
	waiting, err := a.waiting(ctx, report.From, report.To)
	if err != nil {
		return Report{}, err
	}
	found, err := a.cfg.Warehouse.Audit(ctx, report.From, report.To, MaxWindows+1)
	if err != nil {
		return Report{}, fmt.Errorf("audit windows from %s to %s: %w", event.FormatFrom(report.From), event.FormatTime(report.To), err)
	}
	if len(found) > MaxWindows {
		found, report.More = found[:MaxWindows], true
	}
	for _, d := range found {
		switch {
		case d.PageViews > d.Raw:
			report.Higher = append(report.Higher, Window(d))
		case waiting[d.Start.Unix()]:
			report.Waiting = append(report.Waiting, Window(d))
		default:
			report.Lower = append(report.Lower, Window(d))
		}
	}
	return report, nil
}

// waiting returns the windows in [from, to) that the next flush will write. The keys are
// their starts in Unix seconds.
func (a *Auditor) waiting(ctx context.Context, from, to time.Time) (map[int64]bool, error) {
	waiting := map[int64]bool{}
	for w, err := range a.cfg.Counters.Pending(ctx, from, to.Add(-1)) {
		if err != nil {
			return nil, fmt.Errorf("find the windows that wait for a flush: %w", err)
		}
		if w.ReadTime.Sub(a.since(w)) <= a.cfg.HoldMax+flushMargin {
			waiting[w.Start.Unix()] = true
		}
	}
	return waiting, nil
}

// since returns since when a pending window waits: since it became due, or since keys were
// last added to the window if that was later.
func (a *Auditor) since(w windowstore.PendingWindow) time.Time {
	since := a.cfg.Windows.DueAt(w.Start, a.cfg.Quiet)
	if written := w.LastWritten(); written.After(since) {
		return written
	}
	return since
}

// end returns the end of the audited range. It is to, or the end of the last due window if
// that is earlier, but never before from.
func (a *Auditor) end(from, to time.Time) time.Time {
	windows := a.cfg.Windows
	end := windows.End(windows.LastDue(a.cfg.Now(), a.cfg.Quiet))
	if to.Before(end) {
		end = to
	}
	if end.Before(from) {
		end = from
	}
	return end.UTC()
}

// Repair appends the raw count of each window that Run lists as lower and not as waiting.
// All counts are final and appended in one operation. Repair reports what it repaired, and
// what differs after the repair, at most MaxWindows of each. If there were more windows,
// another call repairs more. After an error the counts may or may not have been appended;
// the caller may repeat the call.
func (a *Auditor) Repair(ctx context.Context, from, to time.Time) (Report, error) {
	return bounded(ctx, a.cfg.Timeout, func(ctx context.Context) (Report, error) { return a.repair(ctx, from, to) })
}

func (a *Auditor) repair(ctx context.Context, from, to time.Time) (Report, error) {
	before, err := a.run(ctx, from, to)
	if err != nil {
		return Report{}, err
	}
	if len(before.Lower) == 0 {
		before.Repaired = []Window{}
		return before, nil
	}
	now := a.cfg.Now()
	rows := make([]warehouse.WindowCount, len(before.Lower))
	for i, w := range before.Lower {
		rows[i] = warehouse.WindowCount{
			Start:     w.Start,
			End:       a.cfg.Windows.End(w.Start),
			PageViews: w.Raw,
			Final:     true,
			WrittenAt: now,
		}
	}
	if err := a.cfg.Warehouse.AppendCounts(ctx, rows); err != nil {
		return Report{}, fmt.Errorf("repair %d windows from %s to %s: %w",
			len(rows), event.FormatTime(rows[0].Start), event.FormatTime(rows[len(rows)-1].Start), err)
	}
	after, err := a.run(ctx, before.From, before.To)
	if err != nil {
		return Report{}, fmt.Errorf("after the repair of %d windows: %w", len(rows), err)
	}
	after.Repaired = before.Lower
	return after, nil
}
