package warehousetest

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/warehouse"
)

var countsTests = []func(*testing.T, fixture){
	everyPublishedCountIsInTheLog,
	aWindowIsOneRowWithItsGreatestCount,
	pageViewsNeverFall,
	theOrderOfAppendsDoesNotMatter,
	aWindowOnceFinalStaysFinal,
	finalizedAtIsTheFirstFinalRow,
	updatedAtIsWhenTheCountWasFirstReached,
	theLastWindowOfAllEndsAtTheLastInstant,
	countsAreStoredAtTheirExtremes,
	theLabsQueryIsInOrderOfTime,
	noWindowIsWithoutACount,
}

const (
	selectLog    = "SELECT * FROM windowed_traffic_log ORDER BY timestamp, written_at"
	selectCounts = "SELECT * FROM windowed_traffic ORDER BY timestamp"
	labQuery     = "SELECT timestamp, page_views FROM windowed_traffic ORDER BY timestamp"
)

// count returns a count of the window that is not final, written the given number of
// seconds after the fixture's time.
func (f fixture) count(start time.Time, pageViews int64, second int) warehouse.WindowCount {
	return warehouse.WindowCount{
		Start:     start,
		End:       start.Add(time.Minute),
		PageViews: pageViews,
		WrittenAt: f.at(second),
	}
}

func (f fixture) final(start time.Time, pageViews int64, second int) warehouse.WindowCount {
	c := f.count(start, pageViews, second)
	c.Final = true
	return c
}

func (f fixture) at(second int) time.Time { return f.now.Add(time.Duration(second) * time.Second) }

// windowRow returns a row of the view. If finalizedAt is nil, the column is NULL.
func windowRow(start time.Time, pageViews int64, final bool, finalizedAt any, updatedAt time.Time) Row {
	return Row{
		"timestamp": start, "page_views": pageViews, "window_end": start.Add(time.Minute),
		"is_final": final, "finalized_at": finalizedAt, "updated_at": updatedAt,
	}
}

func everyPublishedCountIsInTheLog(t *testing.T, f fixture) {
	counts := []warehouse.WindowCount{f.count(minute(0), 5, 1), f.final(minute(0), 5, 2), f.final(minute(1), 3, 2)}
	f.appendCounts(t, counts...)
	var want []Row
	for _, c := range counts {
		want = append(want, Row{
			"timestamp": c.Start, "window_end": c.End, "page_views": c.PageViews,
			"is_final": c.Final, "written_at": c.WrittenAt,
		})
	}
	f.wantRows(t, selectLog, want...)
}

func aWindowIsOneRowWithItsGreatestCount(t *testing.T, f fixture) {
	f.appendCounts(t,
		f.final(minute(0), 9, 1), f.final(minute(0), 101, 2), f.final(minute(0), 20, 3), // compared as text, 101 would be the least
		f.final(minute(1), 7, 1))
	f.wantRows(t, selectCounts,
		windowRow(minute(0), 101, true, f.at(1), f.at(2)),
		windowRow(minute(1), 7, true, f.at(1), f.at(1)))
}

func pageViewsNeverFall(t *testing.T, f fixture) {
	var greatest int64
	for second, n := range []int64{3, 3, 2, 5, 1, 5, 4, 12, 9} {
		f.appendCounts(t, f.count(minute(0), n, second))
		greatest = max(greatest, n)
		f.wantRows(t, labQuery, Row{"timestamp": minute(0), "page_views": greatest})
	}
}

func theOrderOfAppendsDoesNotMatter(t *testing.T, f fixture) {
	counts := []warehouse.WindowCount{
		f.count(minute(0), 1, 1), f.count(minute(0), 4, 2), f.final(minute(0), 6, 3), f.final(minute(0), 6, 4),
		f.count(minute(1), 2, 2), f.final(minute(1), 2, 3), f.final(minute(1), 8, 5),
	}
	slices.Reverse(counts)
	f.appendCounts(t, counts...)
	f.appendCounts(t, counts[2:5]...)
	f.wantRows(t, selectCounts,
		windowRow(minute(0), 6, true, f.at(3), f.at(3)),
		windowRow(minute(1), 8, true, f.at(3), f.at(5)))
}

func aWindowOnceFinalStaysFinal(t *testing.T, f fixture) {
	// A flush that is not final may read its count before the final flush does, and
	// append it afterwards. It may even have the greater count.
	f.appendCounts(t, f.final(minute(0), 5, 1))
	f.appendCounts(t, f.count(minute(0), 6, 2))
	f.appendCounts(t, f.count(minute(1), 5, 2))
	f.wantRows(t, selectCounts,
		windowRow(minute(0), 6, true, f.at(1), f.at(2)),
		windowRow(minute(1), 5, false, nil, f.at(2)))
}

func finalizedAtIsTheFirstFinalRow(t *testing.T, f fixture) {
	f.appendCounts(t, f.count(minute(0), 5, 1), f.final(minute(0), 7, 4), f.final(minute(0), 6, 3), f.final(minute(0), 7, 5))
	f.wantRows(t, selectCounts, windowRow(minute(0), 7, true, f.at(3), f.at(4)))
}

func updatedAtIsWhenTheCountWasFirstReached(t *testing.T, f fixture) {
	f.appendCounts(t, f.count(minute(0), 5, 1), f.final(minute(0), 7, 3), f.count(minute(0), 7, 2), f.final(minute(0), 6, 9))
	// Another window, which reached the same count earlier, changes nothing.
	f.appendCounts(t, f.final(minute(1), 7, 0))
	f.wantRows(t, selectCounts,
		windowRow(minute(0), 7, true, f.at(3), f.at(2)),
		windowRow(minute(1), 7, true, f.at(0), f.at(0)))
}

func theLastWindowOfAllEndsAtTheLastInstant(t *testing.T, f fixture) {
	f.appendCounts(t, f.final(firstWindow, 1, 1), f.final(lastWindow, 2, 1))
	last := windowRow(lastWindow, 2, true, f.at(1), f.at(1))
	last["window_end"] = lastInstant
	f.wantRows(t, selectCounts, windowRow(firstWindow, 1, true, f.at(1), f.at(1)), last)
}

func countsAreStoredAtTheirExtremes(t *testing.T, f fixture) {
	f.appendCounts(t, f.final(minute(0), math.MaxInt64-1, 1), f.final(minute(0), math.MaxInt64, 2), f.final(minute(1), 1, 1))
	f.wantRows(t, labQuery,
		Row{"timestamp": minute(0), "page_views": int64(math.MaxInt64)},
		Row{"timestamp": minute(1), "page_views": int64(1)})
}

func theLabsQueryIsInOrderOfTime(t *testing.T, f fixture) {
	starts := []time.Time{
		lastWindow, minute(1), firstWindow, minute(0),
		time.Date(1969, time.December, 31, 23, 59, 0, 0, time.UTC), time.Unix(0, 0).UTC(),
	}
	var want []Row
	for i, start := range starts {
		f.appendCounts(t, f.final(start, int64(i+1), i))
		want = append(want, Row{"timestamp": start, "page_views": int64(i + 1)})
	}
	slices.SortFunc(want, func(a, b Row) int { return a["timestamp"].(time.Time).Compare(b["timestamp"].(time.Time)) })
	f.wantRows(t, labQuery, want...)
}

func noWindowIsWithoutACount(t *testing.T, f fixture) {
	f.appendRaw(t, f.raw(minute(0), id(1)), late(f.raw(minute(1), id(2))))
	f.wantRows(t, selectCounts)
}
