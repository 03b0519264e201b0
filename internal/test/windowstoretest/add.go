package windowstoretest

import (
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

var addTests = []promise{
	{"a window never added to has no keys and is not pending", func(f *fixture) {
		f.wantCount(minute(1), 0)
		f.wantPending()
	}},
	{"distinct keys are counted", func(f *fixture) {
		f.addKeys(minute(1), 0, 3)
		f.addKeys(minute(1), 3, 7)
		f.addKeys(minute(2), 0, 1)
		f.wantCount(minute(1), 7)
		f.wantCount(minute(2), 1)
	}},
	{"a duplicate key counts once", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		f.addKeys(minute(1), 0, 1)
		f.wantCount(minute(1), 1)
	}},
	{"a key twice in one increment counts once", func(f *fixture) {
		f.add(windowstore.Increment{Window: minute(1), Keys: append(keys(0, 3), keys(1, 4)...)})
		f.wantCount(minute(1), 4)
	}},
	{"two increments of one window in one Add are one set", func(f *fixture) {
		f.add(windowstore.Increment{Window: minute(1), Keys: keys(0, 3)},
			windowstore.Increment{Window: minute(2), Keys: keys(0, 3)},
			windowstore.Increment{Window: minute(1), Keys: keys(2, 5)})
		f.wantCount(minute(1), 5)
		f.wantCount(minute(2), 3)
		f.wantPending(minute(1), minute(2))
	}},
	{"the same batch twice counts once", func(f *fixture) {
		batch := []windowstore.Increment{{Window: minute(1), Keys: keys(0, 64)}, {Window: minute(2), Keys: keys(0, 9)}}
		f.add(batch...)
		f.add(batch...)
		f.reopen()
		f.add(batch...)
		f.wantCount(minute(1), 64)
		f.wantCount(minute(2), 9)
	}},
	{"the same key in two windows counts in both", func(f *fixture) {
		f.add(windowstore.Increment{Window: minute(1), Keys: keys(0, 1)}, windowstore.Increment{Window: minute(2), Keys: keys(0, 1)})
		f.wantCount(minute(1), 1)
		f.wantCount(minute(2), 1)
	}},
	{"an Add of nothing writes nothing", func(f *fixture) {
		f.add()
		f.add(windowstore.Increment{Window: minute(1)}, windowstore.Increment{Window: minute(2), Keys: []windowstore.Key{}})
		f.wantPending()
		// The pipeline's meaning was not recorded either.
		f.store.Close()
		config := f.config("pipeline")
		config.Meaning.WindowDuration = time.Hour
		f.store = f.open(config)
		f.addKeys(minute(0), 0, 1)
	}},
	{"an increment without keys leaves the others whole", func(f *fixture) {
		f.add(windowstore.Increment{Window: minute(1)}, windowstore.Increment{Window: minute(2), Keys: keys(0, 2)})
		f.wantPending(minute(2))
		f.wantCount(minute(2), 2)
	}},
	{"the caller's keys are not changed", func(f *fixture) {
		given, want := keys(0, 100), keys(0, 100)
		f.add(windowstore.Increment{Window: minute(1), Keys: given})
		for i := range given {
			if given[i] != want[i] {
				f.Fatalf("Add changed the key at index %d", i)
			}
		}
	}},
	{"keys of any bytes are distinct", func(f *fixture) {
		var ks []windowstore.Key
		for i := range 256 {
			ks = append(ks, windowstore.Key{byte(i)}, windowstore.Key{15: byte(i)})
		}
		f.add(windowstore.Increment{Window: minute(1), Keys: ks})
		f.wantCount(minute(1), 511) // the key of zeros occurs twice
	}},
	{"what was added survives a restart", func(f *fixture) {
		f.addKeys(minute(1), 0, 10)
		f.reopen()
		f.wantCount(minute(1), 10)
		f.wantPending(minute(1))
	}},
	{"a large window is counted exactly", func(f *fixture) {
		n := f.h.LargeWindow
		for from := 0; from < n; from += 10_000 {
			// Each batch repeats half of the keys of the batch before it.
			f.addKeys(minute(1), max(0, from-5000), min(from+10_000, n))
		}
		f.wantCount(minute(1), n)
		f.settle(f.onlyPending().Shards, never)
		f.wantPending()
		f.wantCount(minute(1), n)
	}},
	{"windows of all years are kept apart", func(f *fixture) {
		starts := []time.Time{
			{}, // the zero Time, in year 1, is a window like any other
			time.Date(1, 1, 1, 0, 1, 0, 0, time.UTC),
			time.Date(1969, 12, 31, 23, 59, 0, 0, time.UTC),
			minute(0),
			time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 0, 0, time.UTC),
		}
		for i, start := range starts {
			f.addKeys(start, 0, i+1)
		}
		f.wantPending(starts...)
		for i, w := range f.pending(end) {
			f.wantCount(w.Start, i+1)
			f.settle(w.Shards, never)
		}
		f.wantPending()
	}},
	{"a window start in another time zone is the same window", func(f *fixture) {
		f.addKeys(minute(1).In(time.FixedZone("", 3600)), 0, 1)
		f.addKeys(minute(1), 1, 2)
		f.wantCount(minute(1), 2)
		if w := f.onlyPending(); w.Start.Location() != time.UTC || w.Shards[0].Window.Location() != time.UTC {
			f.Errorf("window starts are in %v and %v, want UTC", w.Start.Location(), w.Shards[0].Window.Location())
		}
	}},
}
