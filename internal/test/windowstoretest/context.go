package windowstoretest

import (
	"context"

	"github.com/tidemark-dev/tidemark/windowstore"
)

var contextTests = []promise{
	{"every method returns an error when its context has ended", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		shards := f.onlyPending().Shards
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		if err := f.store.Add(ctx, add(minute(2), keys(0, 1))); err == nil {
			f.Error("Add returned no error")
		}
		if _, err := f.store.Count(ctx, minute(1)); err == nil {
			f.Error("Count returned no error")
		}
		if err := f.store.Settle(ctx, shards, never); err == nil {
			f.Error("Settle returned no error")
		}
		var last error
		for _, err := range f.store.Pending(ctx, beginning, end) {
			last = err
		}
		if last == nil {
			f.Error("Pending ended without an error")
		}
		// The store still works afterwards.
		f.addKeys(minute(1), 1, 2)
		f.wantCount(minute(1), 2)
	}},
	{"a sequence ends with an error when its context ends within", func(f *fixture) {
		var batch []windowstore.Increment
		n := f.h.ManyWindows / 2
		for i := range n {
			batch = append(batch, windowstore.Increment{Window: minute(i), Keys: keys(0, 1)})
		}
		f.add(batch...)
		ctx, cancel := context.WithCancel(f.ctx)
		defer cancel()
		seen, failed := 0, false
		for _, err := range f.store.Pending(ctx, beginning, end) {
			if failed {
				f.Fatal("the sequence went on after an error")
			}
			if failed = err != nil; !failed {
				seen++
			}
			cancel()
		}
		if !failed || seen == n {
			f.Errorf("%d of %d windows came and an error: %t; want fewer, and an error", seen, n, failed)
		}
	}},
}
