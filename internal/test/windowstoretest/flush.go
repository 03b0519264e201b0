package windowstoretest

import (
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// aggregate keeps the greatest count of each window, as the warehouse does.
type aggregate map[int64]int64

func (a aggregate) publish(start time.Time, count int64) {
	a[start.Unix()] = max(a[start.Unix()], count)
}

var flushTests = []promise{
	{"settled windows are not pending and keep their count", func(f *fixture) {
		f.addKeys(minute(1), 0, 5)
		f.addKeys(minute(2), 0, 1)
		f.settle(f.pending(minute(1))[0].Shards, never)
		f.wantPending(minute(2))
		f.wantCount(minute(1), 5)
		f.reopen()
		f.wantPending(minute(2))
		f.wantCount(minute(1), 5)
	}},
	{"an increment after settle makes the window pending again", func(f *fixture) {
		f.addKeys(minute(1), 0, 5)
		f.settle(f.onlyPending().Shards, never)
		f.addKeys(minute(1), 5, 6)
		f.wantPending(minute(1))
		f.wantCount(minute(1), 6)
	}},
	{"an increment that races a flush is not lost", func(f *fixture) {
		f.addKeys(minute(1), 0, 5)
		read := f.onlyPending()
		f.wantCount(minute(1), 5)
		f.addKeys(minute(1), 5, 6) // after the count and before the settle
		f.settle(read.Shards, never)
		again := f.onlyPending()
		f.wantCount(minute(1), 6)
		f.settle(again.Shards, never)
		f.wantPending()
	}},
	{"an increment between the listing and the count is covered or pending", func(f *fixture) {
		f.addKeys(minute(1), 0, 5)
		read := f.onlyPending()
		f.addKeys(minute(1), 5, 6)
		if got := f.count(minute(1)); got != 6 {
			f.Errorf("count is %d, want 6: it sees every Add that has returned", got)
		}
		f.settle(read.Shards, never)
		f.wantPending(minute(1)) // the new Add is in the count already, but the refused settle leaves the window pending
	}},
	{"settle refused for a changed shard does not hold back the others", func(f *fixture) {
		for n := 1; n <= 3; n++ {
			f.addKeys(minute(n), 0, 1)
		}
		var read []windowstore.Shard
		for _, w := range f.pending(end) {
			read = append(read, w.Shards...)
		}
		f.addKeys(minute(2), 1, 2)
		f.settle(read, never)
		f.wantPending(minute(2))
	}},
	{"settle of a settled shard is no error", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		read := f.onlyPending()
		f.settle(read.Shards, never)
		f.settle(read.Shards, never)
		f.wantPending()
	}},
	{"settle of no shards is no error", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		f.settle(nil, never)
		f.wantPending(minute(1))
	}},
	{"an older version never settles", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		first := f.onlyPending()
		f.settle(first.Shards, never)
		f.addKeys(minute(1), 0, 1) // the same key again is still a write
		f.addKeys(minute(1), 1, 2)
		f.settle(first.Shards, never)
		f.wantPending(minute(1))
	}},
	{"a version of the future never settles", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		shards := f.onlyPending().Shards
		for i := range shards {
			shards[i].Version++
		}
		f.settle(shards, never)
		f.wantPending(minute(1))
	}},
	{"a crash between publish and settle repeats the same count", func(f *fixture) {
		agg := aggregate{}
		f.addKeys(minute(1), 0, 5)
		f.onlyPending()
		agg.publish(minute(1), f.count(minute(1)))
		f.reopen()
		again := f.onlyPending()
		agg.publish(minute(1), f.count(minute(1)))
		f.settle(again.Shards, never)
		f.wantPending()
		if agg[60] != 5 {
			f.Errorf("the aggregate has %d, want 5", agg[60])
		}
	}},
	{"two flushes at once lose nothing", func(f *fixture) {
		stores := f.handles()
		first, second := stores[0], stores[len(stores)-1]
		f.addKeys(minute(1), 0, 5)
		readFirst := f.pendingOf(first, end)[0]
		f.addKeys(minute(1), 5, 8)
		readSecond := f.pendingOf(second, end)[0]
		agg := aggregate{}
		for _, store := range []windowstore.Store{second, first} {
			n, err := store.Count(f.ctx, minute(1))
			if err != nil {
				f.Fatalf("Count: %v", err)
			}
			agg.publish(minute(1), n)
		}
		f.addKeys(minute(1), 8, 9)
		for store, read := range map[windowstore.Store]windowstore.PendingWindow{first: readFirst, second: readSecond} {
			if err := store.Settle(f.ctx, read.Shards, never); err != nil {
				f.Fatalf("Settle: %v", err)
			}
		}
		f.wantPending(minute(1))
		agg.publish(minute(1), f.count(minute(1)))
		if agg[60] != 9 {
			f.Errorf("the aggregate has %d, want 9", agg[60])
		}
	}},
	{"the count never falls", func(f *fixture) {
		last := int64(0)
		for i := range 30 {
			f.addKeys(minute(1), i/2, i/2+3)
			for _, step := range []func(){
				func() {},
				func() { f.settle(f.onlyPending().Shards, f.clock.Now().Add(time.Hour)) },
				func() { f.expire(f.clock.Now()) },
				f.reopen,
			} {
				step()
				if n := f.count(minute(1)); n < last {
					f.Fatalf("count fell from %d to %d", last, n)
				} else {
					last = n
				}
			}
		}
	}},
}
