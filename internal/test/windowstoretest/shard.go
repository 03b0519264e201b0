package windowstoretest

import (
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

var shardTests = []promise{
	{"creation and write times are by the store's clock", func(f *fixture) {
		made := f.clock.Now()
		f.addKeys(minute(1), 0, 1)
		f.wantInstants(made, made)

		written := f.clock.advance(3 * time.Second)
		f.addKeys(minute(1), 1, 2)
		f.wantInstants(made, written)

		written = f.clock.advance(3 * time.Second)
		f.addKeys(minute(1), 1, 2) // adds no new key, but is a write
		f.wantInstants(made, written)

		f.reopen()
		f.wantInstants(made, written)
	}},
	{"a shard that becomes pending after it was settled gets a new creation time", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		f.settle(f.onlyPending().Shards, never)
		again := f.clock.advance(time.Hour)
		f.addKeys(minute(1), 1, 2)
		f.wantInstants(again, again)
	}},
	{"the read time is by the store's clock", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		now := f.clock.advance(time.Hour)
		if got := f.onlyPending().ReadTime; !f.h.ServerClock && !got.Equal(now) {
			f.Errorf("read time is %v, want %v", got, now)
		}
	}},
	{"every write changes the version", func(f *fixture) {
		seen := map[shardVersion]bool{}
		for i := range 10 {
			f.addKeys(minute(1), 0, 1+i%3)
			if !f.noteVersions(seen) {
				f.Fatalf("Add number %d changed no shard's version", i+1)
			}
		}
	}},
	{"a settled version never returns", func(f *fixture) {
		settled := map[shardVersion]bool{}
		for i := range 12 {
			f.clock.advance(time.Second)
			f.addKeys(minute(1), 0, 1)
			shards := f.onlyPending().Shards
			for _, shard := range shards {
				if settled[versionOf(shard)] {
					f.Fatalf("round %d: shard %q is pending in version %d, which was settled", i+1, shard.Name, shard.Version)
				}
				settled[versionOf(shard)] = true
			}
			f.settle(shards, f.clock.Now())
			if i%3 == 1 {
				f.expire(f.clock.Now())
			}
			if i%4 == 3 {
				f.reopen()
			}
		}
	}},
}

type shardVersion struct {
	name    string
	version int64
}

func versionOf(s windowstore.Shard) shardVersion { return shardVersion{s.Name, s.Version} }

// noteVersions adds the versions of the pending shards to seen. It reports whether one of
// them was not in seen.
func (f *fixture) noteVersions(seen map[shardVersion]bool) (fresh bool) {
	f.Helper()
	for _, shard := range f.onlyPending().Shards {
		if !seen[versionOf(shard)] {
			fresh, seen[versionOf(shard)] = true, true
		}
	}
	return fresh
}

// wantInstants checks when the oldest pending shard of the only pending window was
// created, and when one of its shards was last written. If the instants are by a server's
// clock, only their order is checked.
func (f *fixture) wantInstants(made, written time.Time) {
	f.Helper()
	shards := f.onlyPending().Shards
	gotMade, gotWritten := shards[0].CreatedAt, shards[0].WrittenAt
	for _, shard := range shards {
		if shard.CreatedAt.After(shard.WrittenAt) {
			f.Errorf("shard %q was created at %v, after it was written at %v", shard.Name, shard.CreatedAt, shard.WrittenAt)
		}
		if shard.CreatedAt.Before(gotMade) {
			gotMade = shard.CreatedAt
		}
		if shard.WrittenAt.After(gotWritten) {
			gotWritten = shard.WrittenAt
		}
	}
	if !f.h.ServerClock && (!gotMade.Equal(made) || !gotWritten.Equal(written)) {
		f.Errorf("created at %v and written at %v, want %v and %v", gotMade, gotWritten, made, written)
	}
}
