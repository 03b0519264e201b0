// Package windowstoretest is the contract of windowstore as a test suite. Every
// implementation of [windowstore.Store] runs it:
//
//	func TestConformance(t *testing.T) {
//		windowstoretest.Run(t, windowstoretest.Harness{New: ..., Handles: 2})
//	}
//
// Sub-tests are named after the promise that they check. Each has a place of its own for
// its counters, and they run in parallel.
package windowstoretest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// Config is the configuration with which a store is opened.
type Config struct {
	Pipeline string
	Meaning  windowstore.Meaning
	Now      func() time.Time
}

// A Place is where counters are kept, for example a database. Stores may be opened on it
// any number of times, and up to [Harness.Handles] may be open at the same time.
type Place struct {
	// Open opens a store, which the suite closes. A [*windowstore.MeaningError] may come
	// from here or from the first Add.
	Open func(ctx context.Context, config Config) (windowstore.Store, error)
	// Expire deletes all shards that have expired at now. It is set if a service expires
	// shards. If it is nil, the suite calls DeleteExpired.
	Expire func(ctx context.Context, now time.Time) error
}

// A Harness describes an implementation and says how to open its stores.
type Harness struct {
	// New creates an empty place, which exists until the test ends.
	New func(t *testing.T) Place
	// Handles is how many stores may be open on a place at the same time.
	Handles int
	// OneShard says that a window is always one shard, so all of it expires at the same
	// time.
	OneShard bool
	// ServerClock says that instants are by a server's clock and not by Config.Now.
	ServerClock bool
	// ManyWindows is how many windows the suite tries, and LargeWindow how many keys in
	// one window. If they are 0, the suite tries 3000 and 100,000.
	ManyWindows, LargeWindow int
	// Seed repeats a run of the model, which logs its seed. If it is 0, every run has
	// another seed.
	Seed uint64
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	if h.ManyWindows == 0 {
		h.ManyWindows = 3000
	}
	if h.LargeWindow == 0 {
		h.LargeWindow = 100_000
	}
	for _, group := range []struct {
		name  string
		tests []promise
	}{
		{"Add", addTests},
		{"Pending", pendingTests},
		{"Flush", flushTests},
		{"Shard", shardTests},
		{"Expiry", expiryTests},
		{"Meaning", meaningTests},
		{"Context", contextTests},
		{"Concurrent", concurrentTests},
		{"Model", modelTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range group.tests {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					p.test(newFixture(t, h))
				})
			}
		})
	}
}

// A promise is a sub-test, with what it promises as its name.
type promise struct {
	name string
	test func(*fixture)
}

// fixture is what each sub-test has for itself: a place, a clock and a first store.
type fixture struct {
	*testing.T
	h     Harness
	ctx   context.Context
	place Place
	clock *clock
	store windowstore.Store
}

func newFixture(t *testing.T, h Harness) *fixture {
	f := &fixture{T: t, h: h, ctx: t.Context(), place: h.New(t), clock: &clock{now: noon}}
	f.store = f.open(f.config("pipeline"))
	return f
}

// noon is the time at which the tests' clock starts.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// minute returns the start of the window that begins n minutes after the epoch.
func minute(n int) time.Time { return time.Unix(int64(n)*60, 0).UTC() }

// never is an expiry that no test reaches. beginning is before every window, and end is
// after every window.
var (
	beginning time.Time
	never     = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)
	end       = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// clock is a clock that only tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// config returns the configuration of a pipeline that has tables of its own.
func (f *fixture) config(pipeline string) Config {
	return Config{Pipeline: pipeline, Now: f.clock.Now, Meaning: windowstore.Meaning{
		WindowDuration: time.Minute,
		EventTime:      "payload",
		EventID:        "message",
		RawTable:       "raw_" + pipeline,
		AggTable:       "agg_" + pipeline,
	}}
}

func (f *fixture) open(config Config) windowstore.Store {
	f.Helper()
	store, err := f.place.Open(f.ctx, config)
	if err != nil {
		f.Fatalf("Open: %v", err)
	}
	once := &closeOnce{Store: store}
	f.Cleanup(func() {
		if err := once.Close(); err != nil {
			f.Errorf("Close: %v", err)
		}
	})
	return once
}

// closeOnce is a store that may be closed twice: by the test, and again at the end of the
// test.
type closeOnce struct {
	windowstore.Store
	closed bool
}

func (c *closeOnce) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	return c.Store.Close()
}

// reopen does what happens if a process dies and another starts: only what is stored is
// left.
func (f *fixture) reopen() {
	f.Helper()
	if err := f.store.Close(); err != nil {
		f.Fatalf("Close: %v", err)
	}
	f.store = f.open(f.config("pipeline"))
}

// handles returns stores on the place, as many as the implementation allows.
func (f *fixture) handles() []windowstore.Store {
	f.Helper()
	stores := []windowstore.Store{f.store}
	for len(stores) < f.h.Handles {
		stores = append(stores, f.open(f.config("pipeline")))
	}
	return stores
}

// keys returns the keys of the ids from, from+1, ..., to-1.
func keys(from, to int) []windowstore.Key {
	var ks []windowstore.Key
	for i := from; i < to; i++ {
		ks = append(ks, windowstore.KeyOf("message", fmt.Sprint(i)))
	}
	return ks
}

func add(window time.Time, ks []windowstore.Key) []windowstore.Increment {
	return []windowstore.Increment{{Window: window, Keys: ks}}
}

func (f *fixture) add(increments ...windowstore.Increment) {
	f.Helper()
	if err := f.store.Add(f.ctx, increments); err != nil {
		f.Fatalf("Add: %v", err)
	}
}

// addKeys adds the keys of the ids from, from+1, ..., to-1 to the window.
func (f *fixture) addKeys(window time.Time, from, to int) {
	f.Helper()
	f.add(windowstore.Increment{Window: window, Keys: keys(from, to)})
}

func (f *fixture) pending(through time.Time) []windowstore.PendingWindow {
	f.Helper()
	return f.pendingOf(f.store, through)
}

func (f *fixture) pendingOf(store windowstore.Store, through time.Time) []windowstore.PendingWindow {
	f.Helper()
	var windows []windowstore.PendingWindow
	for w, err := range store.Pending(f.ctx, beginning, through) {
		if err != nil {
			f.Fatalf("Pending: %v", err)
		}
		windows = append(windows, w)
	}
	return windows
}

// wantRange checks that the given range has exactly n pending windows: the first n
// windows from its start on, a minute apart.
func (f *fixture) wantRange(from, through time.Time, n int) {
	f.Helper()
	var got, want []time.Time
	for w, err := range f.store.Pending(f.ctx, from, through) {
		if err != nil {
			f.Fatalf("Pending: %v", err)
		}
		got = append(got, w.Start)
	}
	first := from.Add(time.Minute - 1).Truncate(time.Minute)
	for i := range n {
		want = append(want, first.Add(time.Duration(i)*time.Minute))
	}
	f.wantTimes(fmt.Sprintf("pending windows from %v through %v", from, through), got, want)
}

// onlyPending returns the pending window, of which there must be exactly one.
func (f *fixture) onlyPending() windowstore.PendingWindow {
	f.Helper()
	windows := f.pending(end)
	if len(windows) != 1 {
		f.Fatalf("%d windows are pending, want 1: %v", len(windows), windows)
	}
	return windows[0]
}

func (f *fixture) wantPending(starts ...time.Time) {
	f.Helper()
	var got []time.Time
	for _, w := range f.pending(end) {
		got = append(got, w.Start)
	}
	f.wantTimes("pending windows", got, starts)
}

func (f *fixture) wantTimes(what string, got, want []time.Time) {
	f.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func (f *fixture) count(window time.Time) int64 {
	f.Helper()
	n, err := f.store.Count(f.ctx, window)
	if err != nil {
		f.Fatalf("Count of %v: %v", window, err)
	}
	return n
}

func (f *fixture) wantCount(window time.Time, want int) {
	f.Helper()
	if got := f.count(window); got != int64(want) {
		f.Errorf("count of %v is %d, want %d", window, got, want)
	}
}

func (f *fixture) settle(shards []windowstore.Shard, expireAt time.Time) {
	f.Helper()
	if err := f.store.Settle(f.ctx, shards, expireAt); err != nil {
		f.Fatalf("Settle: %v", err)
	}
}

// expire deletes everything that has expired at now.
func (f *fixture) expire(now time.Time) {
	f.Helper()
	if f.place.Expire != nil {
		if err := f.place.Expire(f.ctx, now); err != nil {
			f.Fatalf("Expire: %v", err)
		}
		return
	}
	for {
		n, err := f.store.DeleteExpired(f.ctx, now)
		if err != nil {
			f.Fatalf("DeleteExpired: %v", err)
		}
		if n == 0 {
			return
		}
	}
}
