package warehousetest

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
)

var auditTests = []func(*testing.T, fixture){
	windowsThatAgreeAreNotFound,
	aCountThatIsLowerOrHigherIsFound,
	aWindowMissingOnOneSideCountsZeroThere,
	theGreatestCountIsComparedWithDistinctIDs,
	lateRowsAndDeadLettersAreNotAudited,
	windowsInTheRangeAreAudited,
	lowerComesBeforeHigherEachOldestFirst,
	theLimitKeepsTheFirst,
	thousandsOfWindowsAreAuditedAtOnce,
	windowsAtTheEndsOfTimeAreAudited,
	countsAreAuditedAtTheirExtremes,
	theAuditAgreesWithCountRaw,
	anAuditWhileRowsAreCountedFindsNothingHigher,
	anAuditOnAnEndedContextFailsWithItsError,
}

// wantAudit checks that an audit of all windows finds exactly these discrepancies.
func (f fixture) wantAudit(t *testing.T, want ...warehouse.Discrepancy) {
	t.Helper()
	f.wantAuditOf(t, firstWindow, lastInstant, 100_000, want...)
}

func (f fixture) wantAuditOf(t *testing.T, from, to time.Time, limit int, want ...warehouse.Discrepancy) {
	t.Helper()
	got, err := f.Audit(t.Context(), from, to, limit)
	if err != nil {
		t.Fatalf("Audit: %v", err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Audit from %v to %v, at most %d: (-want +got)\n%s", from, to, limit, diff)
	}
}

// appendEvents appends rows of n events in the window.
func (f fixture) appendEvents(t *testing.T, start time.Time, n int) {
	t.Helper()
	var rows []warehouse.RawRow
	for i := range n {
		rows = append(rows, f.raw(start, id(i)))
	}
	f.appendRaw(t, rows...)
}

func windowsThatAgreeAreNotFound(t *testing.T, f fixture) {
	f.wantAudit(t)
	for window := range 3 {
		f.appendEvents(t, minute(window), window+1)
		f.appendCounts(t, f.final(minute(window), int64(window+1), window))
	}
	f.wantAudit(t)
}

func aCountThatIsLowerOrHigherIsFound(t *testing.T, f fixture) {
	for window, n := range []int64{1, 2, 3} {
		f.appendEvents(t, minute(window), 2)
		f.appendCounts(t, f.final(minute(window), n, 1))
	}
	f.wantAudit(t, warehouse.Discrepancy{Start: minute(0), PageViews: 1, Raw: 2}, warehouse.Discrepancy{Start: minute(2), PageViews: 3, Raw: 2})
}

func aWindowMissingOnOneSideCountsZeroThere(t *testing.T, f fixture) {
	f.appendEvents(t, minute(0), 4)
	f.appendCounts(t, f.final(minute(1), 5, 1))
	f.wantAudit(t, warehouse.Discrepancy{Start: minute(0), Raw: 4}, warehouse.Discrepancy{Start: minute(1), PageViews: 5})
}

func theGreatestCountIsComparedWithDistinctIDs(t *testing.T, f fixture) {
	f.appendEvents(t, minute(0), 10)
	f.appendEvents(t, minute(0), 7) // the same events, delivered again
	f.appendCounts(t, f.count(minute(0), 9, 1), f.final(minute(0), 10, 2), f.final(minute(0), 3, 3), f.count(minute(0), 9, 4))
	f.wantAudit(t)
	f.appendCounts(t, f.count(minute(0), 11, 5)) // the last count is final, the first is not
	f.wantAudit(t, warehouse.Discrepancy{Start: minute(0), PageViews: 11, Raw: 10})
}

func lateRowsAndDeadLettersAreNotAudited(t *testing.T, f fixture) {
	f.appendEvents(t, minute(0), 2)
	f.appendCounts(t, f.final(minute(0), 2, 1))
	f.appendRaw(t, late(f.raw(minute(0), id(0))), late(f.raw(minute(0), id(7))), late(f.raw(minute(1), id(8))))
	f.appendDeadLetters(t, f.letter("1", []byte("x")))
	f.wantAudit(t)
}

func windowsInTheRangeAreAudited(t *testing.T, f fixture) {
	var all []warehouse.Discrepancy
	for window := range 4 {
		f.appendEvents(t, minute(window), 1)
		all = append(all, warehouse.Discrepancy{Start: minute(window), Raw: 1})
	}
	for window := 4; window < 8; window++ {
		f.appendCounts(t, f.final(minute(window), 1, 1))
		all = append(all, warehouse.Discrepancy{Start: minute(window), PageViews: 1})
	}
	const instant = time.Microsecond
	for _, r := range []struct {
		from, to    time.Time
		first, next int // over all audits
	}{
		{minute(0), minute(8), 0, 8},
		{minute(0).Add(instant), minute(8), 1, 8},
		{minute(1).Add(-instant), minute(7), 1, 7},
		{minute(1), minute(7).Add(instant), 1, 8},
		{minute(1), minute(3), 1, 3},
		{minute(1), minute(3).Add(instant), 1, 4},
		{minute(5), minute(6), 5, 6},
		{minute(5).Add(instant), minute(6), 6, 6},
		{minute(2), minute(2), 2, 2},
		{minute(6), minute(2), 6, 6},
		{minute(2).In(time.FixedZone("", 9*3600)), minute(3).In(time.FixedZone("", -3600)), 2, 3},
	} {
		f.wantAuditOf(t, r.from, r.to, 100, all[r.first:r.next]...)
	}
}

func lowerComesBeforeHigherEachOldestFirst(t *testing.T, f fixture) {
	for _, window := range []int{5, 1, 3} {
		f.appendEvents(t, minute(window), 1)
	}
	for _, window := range []int{4, 0, 2} {
		f.appendCounts(t, f.final(minute(window), 1, 1))
	}
	all := []warehouse.Discrepancy{
		{Start: minute(1), Raw: 1}, {Start: minute(3), Raw: 1}, {Start: minute(5), Raw: 1},
		{Start: minute(0), PageViews: 1}, {Start: minute(2), PageViews: 1}, {Start: minute(4), PageViews: 1},
	}
	f.wantAudit(t, all...)
}

func theLimitKeepsTheFirst(t *testing.T, f fixture) {
	f.appendCounts(t, f.final(minute(0), 1, 1), f.final(minute(1), 1, 1))
	f.appendEvents(t, minute(2), 1)
	f.appendEvents(t, minute(3), 1)
	all := []warehouse.Discrepancy{
		{Start: minute(2), Raw: 1}, {Start: minute(3), Raw: 1}, {Start: minute(0), PageViews: 1}, {Start: minute(1), PageViews: 1},
	}
	for limit := 1; limit <= len(all)+1; limit++ {
		f.wantAuditOf(t, minute(0), minute(9), limit, all[:min(limit, len(all))]...)
	}
}

func thousandsOfWindowsAreAuditedAtOnce(t *testing.T, f fixture) {
	const windows = 5000
	var rows []warehouse.RawRow
	var counts []warehouse.WindowCount
	var lower, higher []warehouse.Discrepancy
	for i := range windows {
		d := warehouse.Discrepancy{Start: minute(i), PageViews: int64(1 + i%3), Raw: 2}
		rows = append(rows, f.raw(minute(i), id(i)), f.raw(minute(i), id(i)), f.raw(minute(i), id(i+1)))
		counts = append(counts, f.final(minute(i), d.PageViews, 1))
		switch {
		case d.PageViews < d.Raw:
			lower = append(lower, d)
		case d.PageViews > d.Raw:
			higher = append(higher, d)
		}
	}
	f.appendRaw(t, rows...)
	f.appendCounts(t, counts...)
	f.wantAudit(t, append(lower, higher...)...)
}

func windowsAtTheEndsOfTimeAreAudited(t *testing.T, f fixture) {
	epoch := time.Unix(0, 0).UTC()
	for _, start := range []time.Time{firstWindow, epoch, lastWindow} {
		f.appendEvents(t, start, 1)
	}
	f.appendCounts(t, f.final(epoch, 1, 1), f.final(lastWindow, 2, 1))
	f.wantAudit(t, warehouse.Discrepancy{Start: firstWindow, Raw: 1}, warehouse.Discrepancy{Start: lastWindow, PageViews: 2, Raw: 1})
	f.wantAuditOf(t, time.Time{}, epoch, 10, warehouse.Discrepancy{Start: firstWindow, Raw: 1})
}

func countsAreAuditedAtTheirExtremes(t *testing.T, f fixture) {
	f.appendEvents(t, minute(0), 1)
	f.appendCounts(t, f.final(minute(0), math.MaxInt64, 1))
	f.wantAudit(t, warehouse.Discrepancy{Start: minute(0), PageViews: math.MaxInt64, Raw: 1})
}

func theAuditAgreesWithCountRaw(t *testing.T, f fixture) {
	r := f.raw(minute(0), id(1)) // the row has an event time of its own, in minute 0
	edit(&r, func(a *accesslog.Record) { a.Timestamp = minute(7) })
	r.PublishTime = minute(8)
	f.appendRaw(t, r, late(f.raw(minute(0), id(2))))
	for _, id := range []string{"", "a", "A", "a ", "1", "01", "é", "e\u0301"} {
		f.appendRaw(t, f.raw(minute(0), id), f.raw(minute(1), id))
	}
	starts := []time.Time{minute(0), minute(1), minute(7), minute(8)}
	counts, err := f.CountRaw(t.Context(), starts)
	if err != nil {
		t.Fatal(err)
	}
	f.wantAudit(t, warehouse.Discrepancy{Start: minute(0), Raw: counts[0]}, warehouse.Discrepancy{Start: minute(1), Raw: counts[1]})
	// Therefore a repair that writes what CountRaw returns leaves nothing for the audit
	// to find.
	f.appendCounts(t, f.final(minute(0), counts[0], 1), f.final(minute(1), counts[1], 1))
	f.wantAudit(t)
}

func anAuditWhileRowsAreCountedFindsNothingHigher(t *testing.T, f fixture) {
	const appends = 50
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range appends {
			if err := f.AppendRaw(t.Context(), []warehouse.RawRow{f.raw(minute(0), id(i))}); err != nil {
				t.Errorf("AppendRaw %d: %v", i, err)
			}
			if err := f.AppendCounts(t.Context(), []warehouse.WindowCount{f.count(minute(0), int64(i+1), i)}); err != nil {
				t.Errorf("AppendCounts %d: %v", i, err)
			}
		}
	}()
	for range appends {
		found, err := f.Audit(t.Context(), minute(0), minute(1), 10)
		if err != nil {
			t.Errorf("Audit: %v", err)
			break
		}
		for _, d := range found {
			if d.PageViews > d.Raw {
				t.Errorf("%d counted of %d rows", d.PageViews, d.Raw)
			}
		}
	}
	<-done
	f.wantAudit(t)
}

func anAuditOnAnEndedContextFailsWithItsError(t *testing.T, f fixture) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Audit(canceled, minute(0), minute(1), 10); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want one that wraps %v", err, context.Canceled)
	}
}
