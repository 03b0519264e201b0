package windowstoretest

import (
	"errors"
	"sync"

	"github.com/tidemark-dev/tidemark/windowstore"
)

const (
	adders       = 16
	addsPerAdder = 12
	keysPerAdd   = 8
	windows      = 4
)

// total is how many distinct keys addConcurrently adds to each window. The first key of
// each batch is also the last key of the same goroutine's batch before.
const total = adders*addsPerAdder*(keysPerAdd-1) + 1

var concurrentTests = []promise{
	{"Adds from many goroutines and stores are exact", func(f *fixture) {
		if err := f.addConcurrently(f.handles()); err != nil {
			f.Fatal(err)
		}
		for n := range windows {
			f.wantCount(minute(n), total)
		}
	}},
	{"flushes that run beside Adds lose nothing", func(f *fixture) {
		stores := f.handles()
		aggregates := []aggregate{{}, {}} // one for each of two flushes that do not know of each other
		done := make(chan struct{})
		var flushes sync.WaitGroup
		errs := make([]error, len(aggregates))
		for i, agg := range aggregates {
			flushes.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					if errs[i] = f.flush(stores[i%len(stores)], agg); errs[i] != nil {
						return
					}
				}
			})
		}
		err := f.addConcurrently(stores)
		close(done)
		flushes.Wait()
		if err := errors.Join(append(errs, err)...); err != nil {
			f.Fatal(err)
		}
		if err := f.flush(f.store, aggregates[0]); err != nil {
			f.Fatal(err)
		}
		f.wantPending()
		for n := range windows {
			start := minute(n)
			if got := max(aggregates[0][start.Unix()], aggregates[1][start.Unix()]); got != total {
				f.Errorf("the aggregate of %v is %d, want %d", start, got, total)
			}
		}
	}},
}

// addConcurrently adds keys to every window from many goroutines, which use different
// stores. Each key is added at least once, and some twice.
func (f *fixture) addConcurrently(stores []windowstore.Store) error {
	errs := make([]error, adders)
	var wg sync.WaitGroup
	for a := range adders {
		wg.Go(func() {
			store := stores[a%len(stores)]
			for i := range addsPerAdder {
				from := (a*addsPerAdder + i) * (keysPerAdd - 1)
				var batch []windowstore.Increment
				for n := range windows {
					batch = append(batch, windowstore.Increment{Window: minute(n), Keys: keys(from, from+keysPerAdd)})
				}
				if errs[a] = store.Add(f.ctx, batch); errs[a] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// flush does once what a flush of the service does: it counts the pending windows, writes
// the counts to the aggregate and settles the windows.
func (f *fixture) flush(store windowstore.Store, agg aggregate) error {
	for w, err := range store.Pending(f.ctx, beginning, end) {
		if err != nil {
			return err
		}
		n, err := store.Count(f.ctx, w.Start)
		if err != nil {
			return err
		}
		agg.publish(w.Start, n)
		if err := store.Settle(f.ctx, w.Shards, never); err != nil {
			return err
		}
	}
	return nil
}
