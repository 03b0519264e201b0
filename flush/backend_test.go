package flush

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// backend is a counter store and an aggregate in memory. Each window has one shard.
type backend struct {
	mu     sync.Mutex
	now    time.Time // the time of every clock; if zero, the time of the test's bubble is used
	shards map[time.Time]*shard
	starts []time.Time // the windows that ever had a shard, oldest first
	raw    map[time.Time]int64
	log    []warehouse.WindowCount
	kept   time.Duration

	appends    int
	rawQueries []int // how many windows each query of the raw rows counted
	calls      []string
	fail       map[string]error         // errors by name of the call, for example "count 12:00"
	takes      map[string]time.Duration // how long a call takes, by name
	latency    time.Duration            // how long every other call takes
	during     map[string]func()        // what else happens during a call, by name
}

type shard struct {
	windowstore.Shard
	ids      int64
	pending  bool
	expireAt time.Time
}

func newBackend() *backend {
	return &backend{
		now: noon, shards: map[time.Time]*shard{}, raw: map[time.Time]int64{},
		fail: map[string]error{}, takes: map[string]time.Duration{}, during: map[string]func(){},
	}
}

// newSlowBackend returns a backend for a bubble. Its calls take 20 ms.
func newSlowBackend() *backend {
	b := newBackend()
	b.now, b.latency = time.Time{}, 20*time.Millisecond
	return b
}

func (b *backend) time() time.Time {
	if b.now.IsZero() {
		return time.Now().UTC()
	}
	return b.now
}

// add counts n more ids in a window, as a push does.
func (b *backend) add(start time.Time, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.shards[start]
	if !ok {
		s = &shard{Shard: windowstore.Shard{Window: start, CreatedAt: b.time()}}
		b.shards[start] = s
		if i, known := slices.BinarySearchFunc(b.starts, start, time.Time.Compare); !known {
			b.starts = slices.Insert(b.starts, i, start)
		}
	}
	s.ids, s.pending, s.expireAt = s.ids+n, true, time.Time{}
	s.Version++
	s.WrittenAt = b.time()
	b.raw[start] += n
}

func clock(t time.Time) string { return t.Format("15:04") }

// hangs stands for a call that never returns.
const hangs = 365 * 24 * time.Hour

// call makes the call of this name. It takes the time and returns the error that the test
// has set for it.
func (b *backend) call(ctx context.Context, name string) error {
	b.mu.Lock()
	b.calls = append(b.calls, name)
	b.mu.Unlock()
	if takes := cmp.Or(b.takes[name], b.latency); takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if during := b.during[name]; during != nil {
		during()
	}
	return b.fail[name]
}

// called returns how many calls had a name with this prefix.
func (b *backend) called(prefix string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range b.calls {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

// page is how many windows one "list" call returns at most.
const page = 300

func (b *backend) Pending(ctx context.Context, from, through time.Time) iter.Seq2[windowstore.PendingWindow, error] {
	return func(yield func(windowstore.PendingWindow, error) bool) {
		for more := true; more; {
			var windows []windowstore.PendingWindow
			if err := b.call(ctx, "list"); err != nil {
				yield(windowstore.PendingWindow{}, err)
				return
			}
			windows, more = b.list(from, through)
			for _, w := range windows {
				if err := b.fail["pending "+clock(w.Start)]; err != nil {
					yield(windowstore.PendingWindow{}, err)
					return
				}
				if !yield(w, nil) {
					return
				}
				from = w.Start.Add(1)
			}
		}
	}
}

// list returns the first page of the pending windows of a range, and whether the page is
// full.
func (b *backend) list(from, through time.Time) (windows []windowstore.PendingWindow, full bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first, _ := slices.BinarySearchFunc(b.starts, from, time.Time.Compare)
	for _, start := range b.starts[first:] {
		if start.After(through) || len(windows) == page {
			break
		}
		if s := b.shards[start]; s != nil && s.pending {
			windows = append(windows, windowstore.PendingWindow{Start: start, ReadTime: b.time(), Shards: []windowstore.Shard{s.Shard}})
		}
	}
	return windows, len(windows) == page
}

func (b *backend) Count(ctx context.Context, start time.Time) (int64, error) {
	if err := b.call(ctx, "count "+clock(start)); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shards[start].ids, nil
}

func (b *backend) KeepAtLeast(ctx context.Context, keep time.Duration) (time.Duration, error) {
	if err := b.call(ctx, "keep"); err != nil {
		return 0, err
	}
	if b.kept == 0 || keep < b.kept {
		b.kept = keep
	}
	return b.kept, nil
}

func (b *backend) Settle(ctx context.Context, shards []windowstore.Shard, expireAt time.Time) error {
	if err := b.call(ctx, "settle"); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, read := range shards {
		if err := b.fail["settle "+clock(read.Window)]; err != nil {
			return err
		}
		if s := b.shards[read.Window]; s.Version == read.Version {
			s.pending, s.expireAt = false, expireAt
		}
	}
	return nil
}

func (b *backend) DeleteExpired(ctx context.Context, now time.Time) (int, error) {
	if err := b.call(ctx, "delete"); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for start, s := range b.shards {
		if !s.pending && !s.expireAt.After(now) {
			delete(b.shards, start)
			n++
		}
	}
	return n, nil
}

func (b *backend) AppendCounts(ctx context.Context, rows []warehouse.WindowCount) error {
	b.appends++
	if err := b.call(ctx, "append"); err != nil {
		return err
	}
	b.log = append(b.log, rows...)
	return nil
}

func (b *backend) CountRaw(ctx context.Context, starts []time.Time) ([]int64, error) {
	b.rawQueries = append(b.rawQueries, len(starts))
	if err := b.call(ctx, "raw"); err != nil {
		return nil, err
	}
	counts := make([]int64, len(starts))
	for i, start := range starts {
		counts[i] = b.raw[start]
	}
	return counts, nil
}

// value returns what a reader of the aggregate sees: the greatest count of the window,
// and whether one of its rows is final.
func (b *backend) value(start time.Time) (pageViews int64, final bool) {
	for _, row := range b.log {
		if row.Start.Equal(start) {
			pageViews, final = max(pageViews, row.PageViews), final || row.Final
		}
	}
	return pageViews, final
}

func (b *backend) flusher(adjust ...func(*Config)) *Flusher {
	cfg := Config{
		Counters: b, Aggregate: b, Windows: windows,
		MaxWindows: 1000, Timeout: 50 * time.Second, Retention: 192 * time.Hour,
		Now: b.time,
	}
	for _, f := range adjust {
		f(&cfg)
	}
	return New(cfg)
}
