package warehousetest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
)

var countRawTests = []func(*testing.T, fixture){
	distinctIDsAreCounted,
	lateRowsAreNotCounted,
	theSameIDCountsInEachOfItsWindows,
	idsThatDifferOnlyByCaseOrSpaceAreTwo,
	anUnknownWindowCountsZero,
	countsAreInTheOrderOfTheStarts,
	startsInAnyZoneAreTheSameInstant,
	noStartsGiveNoCounts,
	thousandsOfWindowsAreCountedAtOnce,
	windowsAtTheEndsOfTimeAreCounted,
	rowsAreCountedByWindowNotByTheirOtherTimes,
}

// wantCounts checks what CountRaw returns for windows with these starts.
func (f fixture) wantCounts(t *testing.T, starts []time.Time, want ...int64) {
	t.Helper()
	got, err := f.CountRaw(t.Context(), starts)
	if err != nil {
		t.Fatalf("CountRaw of %d windows: %v", len(starts), err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("CountRaw: (-want +got)\n%s", diff)
	}
}

func distinctIDsAreCounted(t *testing.T, f fixture) {
	one := f.raw(minute(0), id(1))
	otherMessage := one
	otherMessage.MessageID = "another message of the same event"
	f.appendRaw(t, one, f.raw(minute(0), id(2)), one, otherMessage)
	f.appendRaw(t, one, f.raw(minute(0), id(3)))
	f.wantCounts(t, []time.Time{minute(0)}, 3)
}

func lateRowsAreNotCounted(t *testing.T, f fixture) {
	counted := f.raw(minute(0), id(1))
	f.appendRaw(t, counted, late(counted), late(f.raw(minute(0), id(2))), late(f.raw(minute(1), id(3))))
	f.wantCounts(t, []time.Time{minute(0), minute(1)}, 1, 0)
}

func theSameIDCountsInEachOfItsWindows(t *testing.T, f fixture) {
	f.appendRaw(t, f.raw(minute(0), id(1)), f.raw(minute(1), id(1)), f.raw(minute(1), id(2)))
	f.wantCounts(t, []time.Time{minute(0), minute(1)}, 1, 2)
}

func idsThatDifferOnlyByCaseOrSpaceAreTwo(t *testing.T, f fixture) {
	ids := []string{"", "a", "A", "a ", " a", "1", "01", "1.0", "é", "e\u0301"}
	for _, id := range ids {
		f.appendRaw(t, f.raw(minute(0), id))
	}
	f.wantCounts(t, []time.Time{minute(0)}, int64(len(ids)))
}

func anUnknownWindowCountsZero(t *testing.T, f fixture) {
	f.wantCounts(t, []time.Time{minute(0)}, 0)
	f.appendRaw(t, f.raw(minute(1), id(1)))
	f.wantCounts(t, []time.Time{minute(0), minute(1), minute(2), minute(1).Add(time.Second)}, 0, 1, 0, 0)
}

func countsAreInTheOrderOfTheStarts(t *testing.T, f fixture) {
	for window := range 5 {
		for i := range window + 1 {
			f.appendRaw(t, f.raw(minute(window), id(i)))
		}
	}
	f.wantCounts(t,
		[]time.Time{minute(4), minute(0), minute(2), minute(9), minute(2), minute(4), minute(1), minute(3)},
		5, 1, 3, 0, 3, 5, 2, 4)
}

func startsInAnyZoneAreTheSameInstant(t *testing.T, f fixture) {
	f.appendRaw(t, f.raw(minute(0), id(1)))
	f.wantCounts(t, []time.Time{minute(0).In(time.FixedZone("", -9*3600))}, 1)
}

func noStartsGiveNoCounts(t *testing.T, f fixture) {
	f.appendRaw(t, f.raw(minute(0), id(1)))
	f.wantCounts(t, nil)
	f.wantCounts(t, []time.Time{})
}

func thousandsOfWindowsAreCountedAtOnce(t *testing.T, f fixture) {
	const windows = 5000
	var rows []warehouse.RawRow
	for i := range windows {
		if i%3 == 0 {
			continue // these windows have no rows
		}
		r := f.raw(minute(i), id(i))
		rows = append(rows, r, r)
		if i%5 == 0 {
			rows = append(rows, f.raw(minute(i), id(windows+i)))
		}
	}
	f.appendRaw(t, rows...)

	order := rand.New(rand.NewPCG(1, 2)).Perm(windows)
	starts, want := make([]time.Time, windows), make([]int64, windows)
	for at, i := range order {
		starts[at] = minute(i)
		if i%3 != 0 {
			want[at] = 1
			if i%5 == 0 {
				want[at] = 2
			}
		}
	}
	f.wantCounts(t, starts, want...)
}

func windowsAtTheEndsOfTimeAreCounted(t *testing.T, f fixture) {
	f.appendRaw(t,
		f.raw(firstWindow, id(1)), f.raw(firstWindow, id(2)),
		f.raw(lastWindow, id(1)),
		f.raw(time.Unix(0, 0).UTC(), id(1)), f.raw(time.Unix(0, 0).UTC(), id(2)), f.raw(time.Unix(0, 0).UTC(), id(3)))
	f.wantCounts(t, []time.Time{{}, lastWindow, time.Unix(0, 0)}, 2, 1, 3)
}

func rowsAreCountedByWindowNotByTheirOtherTimes(t *testing.T, f fixture) {
	// If the row has an event time of its own, its window need not contain its timestamp.
	r := f.raw(minute(0), id(1))
	edit(&r, func(a *accesslog.Record) { a.Timestamp = minute(7) })
	r.PublishTime = minute(8)
	f.appendRaw(t, r)
	f.wantCounts(t, []time.Time{minute(0), minute(7), minute(8)}, 1, 0, 0)
}
