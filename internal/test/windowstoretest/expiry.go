package windowstoretest

import (
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

var expiryTests = []promise{
	{"the least time that shards were ever kept stays on record", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		want := func(keep, least time.Duration) {
			f.Helper()
			if got, err := f.store.KeepAtLeast(f.ctx, keep); err != nil || got != least {
				f.Errorf("KeepAtLeast(%v) = %v, %v; want %v", keep, got, err, least)
			}
		}
		want(3*time.Hour, 3*time.Hour)
		want(4*time.Hour, 3*time.Hour)
		want(2*time.Hour, 2*time.Hour)
		f.reopen()
		want(400_000*time.Hour, 2*time.Hour)
		other := f.open(f.config("another pipeline"))
		if got, err := other.KeepAtLeast(f.ctx, 5*time.Hour); err != nil || got != 5*time.Hour {
			f.Errorf("KeepAtLeast of another pipeline = %v, %v; want its own", got, err)
		}
	}},
	{"settled shards are deleted at their expiry and not before", func(f *fixture) {
		at := f.clock.Now().Add(time.Hour)
		f.addKeys(minute(1), 0, 5)
		f.settle(f.onlyPending().Shards, at)
		f.expire(at.Add(-time.Microsecond))
		f.wantCount(minute(1), 5)
		f.expire(at)
		f.wantCount(minute(1), 0)
	}},
	{"only settled shards expire", func(f *fixture) {
		f.addKeys(minute(1), 0, 5)
		f.expire(end)
		f.wantPending(minute(1))
		f.wantCount(minute(1), 5)
	}},
	{"an Add removes the expiry", func(f *fixture) {
		at := f.clock.Now().Add(time.Hour)
		f.addKeys(minute(1), 0, 5)
		f.settle(f.onlyPending().Shards, at)
		f.addKeys(minute(1), 5, 6)
		f.expire(at)
		f.wantPending(minute(1))
		if f.h.OneShard {
			f.wantCount(minute(1), 6)
		}
	}},
	{"an Add of no new key removes the expiry", func(f *fixture) {
		at := f.clock.Now().Add(time.Hour)
		f.addKeys(minute(1), 0, 5)
		f.settle(f.onlyPending().Shards, at)
		f.addKeys(minute(1), 0, 5)
		f.expire(at)
		f.wantPending(minute(1))
		f.wantCount(minute(1), 5)
	}},
	{"a window added to after its deletion begins again", func(f *fixture) {
		f.addKeys(minute(1), 0, 5)
		old := f.onlyPending()
		f.settle(old.Shards, f.clock.Now())
		f.expire(f.clock.Now())
		f.reopen()
		f.addKeys(minute(1), 3, 6)
		f.wantCount(minute(1), 3)
		f.settle(old.Shards, never) // these shards are gone: the call must not settle the new shard
		f.wantPending(minute(1))
	}},
	{"settle of a vanished shard is no error and does not hold back the others", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		gone := f.onlyPending().Shards
		f.settle(gone, f.clock.Now())
		f.expire(f.clock.Now())
		f.addKeys(minute(2), 0, 1)
		f.settle(append(gone, f.onlyPending().Shards...), never)
		f.wantPending()
		f.wantCount(minute(1), 0)
		f.wantCount(minute(2), 1)
	}},
	{"expiry of one window leaves the others", func(f *fixture) {
		now := f.clock.Now()
		for n := 1; n <= 3; n++ {
			f.addKeys(minute(n), 0, n)
		}
		for i, w := range f.pending(minute(2)) {
			f.settle(w.Shards, now.Add(time.Duration(i)*time.Hour))
		}
		f.expire(now)
		f.wantCount(minute(1), 0)
		f.wantCount(minute(2), 2)
		f.wantCount(minute(3), 3)
		f.wantPending(minute(3))
	}},
	{"many and large expired windows are all deleted in the end", func(f *fixture) {
		f.addKeys(minute(0), 0, f.h.LargeWindow/4)
		for from := 1; from < f.h.ManyWindows/4; from += 250 {
			var batch []windowstore.Increment
			for n := from; n < from+250; n++ {
				batch = append(batch, windowstore.Increment{Window: minute(n), Keys: keys(0, 2)})
			}
			f.add(batch...)
		}
		for _, w := range f.pending(end) {
			f.settle(w.Shards, f.clock.Now())
		}
		f.addKeys(minute(-1), 0, 1)
		f.expire(f.clock.Now())
		for n := range f.h.ManyWindows / 4 {
			f.wantCount(minute(n), 0)
		}
		f.wantPending(minute(-1))
		f.wantCount(minute(-1), 1)
	}},
	{"nothing to delete is no error", func(f *fixture) {
		if n, err := f.store.DeleteExpired(f.ctx, end); n != 0 || err != nil {
			f.Errorf("DeleteExpired: %d, %v", n, err)
		}
	}},
}
