package windowstoretest

import (
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

var pendingTests = []promise{
	{"windows come oldest first and each once", func(f *fixture) {
		for _, n := range []int{5, -3, 9, 0, 5, -3, 7} {
			f.addKeys(minute(n), n, n+1)
			f.addKeys(minute(n), 0, 1)
		}
		f.wantPending(minute(-3), minute(0), minute(5), minute(7), minute(9))
	}},
	{"through is inclusive and to the nanosecond", func(f *fixture) {
		for _, n := range []int{-1, 0, 1} {
			f.addKeys(minute(n), 0, 1)
		}
		for _, n := range []int{-1, 0, 1} {
			if got := len(f.pending(minute(n))); got != n+2 {
				f.Errorf("%d windows start at %v or before, want %d", got, minute(n), n+2)
			}
			if got := len(f.pending(minute(n).Add(-1))); got != n+1 {
				f.Errorf("%d windows start before %v, want %d", got, minute(n), n+1)
			}
		}
	}},
	{"from is inclusive and to the nanosecond", func(f *fixture) {
		for _, n := range []int{-1, 0, 1} {
			f.addKeys(minute(n), 0, 1)
		}
		for _, n := range []int{-1, 0, 1} {
			f.wantRange(minute(n).Add(-1), end, 2-n)
			f.wantRange(minute(n), end, 2-n)
			f.wantRange(minute(n).Add(1), end, 1-n)
		}
	}},
	{"a range has only its own windows", func(f *fixture) {
		n := f.h.ManyWindows / 2
		var batch []windowstore.Increment
		for i := range n {
			batch = append(batch, windowstore.Increment{Window: minute(i), Keys: keys(0, 1)})
		}
		for part := range slices.Chunk(batch, 500) {
			f.add(part...)
		}
		f.wantRange(minute(3), minute(n-3), n-5)
		f.wantRange(minute(n-2), minute(n+9), 2)
		f.wantRange(minute(5), minute(5), 1)
		f.wantRange(minute(6), minute(5), 0)
		f.wantRange(minute(n), end, 0)
	}},
	{"through may be the zero time", func(f *fixture) {
		f.addKeys(time.Time{}, 0, 1)
		f.addKeys(minute(0), 0, 1)
		if got := f.pending(time.Time{}); len(got) != 1 || !got[0].Start.IsZero() {
			f.Errorf("pending through year 1: %v, want the one window that starts then", got)
		}
	}},
	{"every shard is of its window and has a name", func(f *fixture) {
		for n := range 3 {
			f.addKeys(minute(n), 0, 2)
		}
		names := map[string]bool{}
		for _, w := range f.pending(end) {
			if len(w.Shards) == 0 {
				f.Errorf("window %v is pending but has no shards", w.Start)
			}
			for _, shard := range w.Shards {
				if !shard.Window.Equal(w.Start) || shard.Name == "" || names[shard.Name] {
					f.Errorf("shard %+v of window %v: want that window, and a name of its own", shard, w.Start)
				}
				names[shard.Name] = true
			}
		}
	}},
	{"read times never fall", func(f *fixture) {
		for n := range f.h.ManyWindows / 4 {
			f.addKeys(minute(n), 0, 1)
		}
		var last time.Time
		for w, err := range f.store.Pending(f.ctx, beginning, end) {
			if err != nil {
				f.Fatalf("Pending: %v", err)
			}
			if w.ReadTime.IsZero() || w.ReadTime.Before(last) {
				f.Fatalf("window %v was read at %v, after one read at %v", w.Start, w.ReadTime, last)
			}
			last = w.ReadTime
			f.clock.advance(-time.Second) // also if the clock is set back
		}
	}},
	{"many windows come in order while the store is used", func(f *fixture) {
		n := f.h.ManyWindows
		var batch []windowstore.Increment
		for i := range n {
			batch = append(batch, windowstore.Increment{Window: minute(i), Keys: keys(i, i+1)})
		}
		for part := range slices.Chunk(batch, 500) {
			f.add(part...)
		}
		next := 0
		for w, err := range f.store.Pending(f.ctx, beginning, minute(n-1)) {
			if err != nil {
				f.Fatalf("Pending: %v", err)
			}
			if !w.Start.Equal(minute(next)) {
				f.Fatalf("window %d of the sequence is %v, want %v", next, w.Start, minute(next))
			}
			next++
			if next%50 == 0 {
				f.wantCount(w.Start, 1)
				f.settle(w.Shards, never)
				f.addKeys(w.Start, n, n+2) // this window came already: it must not come again
			}
		}
		if next != n {
			f.Errorf("%d windows came, want %d", next, n)
		}
		if got := len(f.pending(end)); got != n {
			f.Errorf("%d windows are pending afterwards, want %d", got, n)
		}
	}},
	{"the caller may stop between two windows", func(f *fixture) {
		for n := range 10 {
			f.addKeys(minute(n), 0, 1)
		}
		for range 20 {
			for w, err := range f.store.Pending(f.ctx, beginning, end) {
				if err != nil || !w.Start.Equal(minute(0)) {
					f.Fatalf("first window: %v, %v", w, err)
				}
				break
			}
		}
		f.addKeys(minute(10), 0, 1)
	}},
	{"a sequence may be ranged over twice", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		sequence := f.store.Pending(f.ctx, beginning, end)
		for range 2 {
			n := 0
			for _, err := range sequence {
				if err != nil {
					f.Fatalf("Pending: %v", err)
				}
				n++
			}
			if n != 1 {
				f.Errorf("%d windows came, want 1", n)
			}
		}
	}},
}
