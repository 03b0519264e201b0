package sharded_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/test/memdocs"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

var errLost = errors.New("the answer was lost")

func TestAnAddThatFailedAndIsRepeatedCountsOnce(t *testing.T) {
	t.Parallel()
	for _, applied := range []bool{false, true} {
		f := newFixture(t)
		f.mustAdd(1, 0, 3)
		f.now = f.now.Add(2 * time.Second)
		f.docs.merge = func(ctx context.Context, writes []sharded.ShardWrite) error {
			f.docs.merge = nil
			if applied {
				if err := f.docs.Documents.Merge(ctx, writes); err != nil {
					return err
				}
			}
			return errLost
		}
		if err := f.add(1, 2, 5); !errors.Is(err, errLost) {
			t.Fatalf("Add: %v, want errLost", err)
		}
		f.now = f.now.Add(2 * time.Second)
		f.mustAdd(1, 2, 5)
		f.wantWritten("w-60-0", "w-60-0", "w-60-1") // not the first slot: nobody knows whether its write was applied
		f.shards()
		f.wantCount(1, 5)
	}
}

func TestAWriteAppliedLateLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustAdd(1, 0, 3)
	f.now = f.now.Add(2 * time.Second)
	var late []sharded.ShardWrite
	f.docs.merge = func(_ context.Context, writes []sharded.ShardWrite) error {
		f.docs.merge, late = nil, writes
		return context.DeadlineExceeded
	}
	if err := f.add(1, 3, 5); err == nil {
		t.Fatal("Add returned no error")
	}
	for i := range 3 {
		f.now = f.now.Add(2 * time.Second)
		f.mustAdd(1, 10+i, 11+i)
	}
	for _, w := range f.pending() {
		if err := f.store.Settle(t.Context(), w.Shards, end); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.docs.Documents.Merge(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if windows := f.pending(); len(windows) != 1 {
		t.Errorf("pending: %v, want the window again", windows)
	}
	shards := f.shards() // also checks that the counts are right
	if shards["w-60-0"].ExpireAt != nil {
		t.Error("the shard has an expiry, though it is pending")
	}
	f.wantCount(1, 8)
}

// The documents' client may send a commit again if it gets no answer. The first try may
// then be applied after a later write to the document.
func TestAnEarlierTryAppliedAfterALaterWriteLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustAdd(1, 0, 3)
	f.now = f.now.Add(2 * time.Second)
	f.mustAdd(1, 3, 5)
	f.wantWritten("w-60-0", "w-60-0")
	if err := f.docs.Documents.Merge(t.Context(), f.docs.merges[0]); err != nil {
		t.Fatal(err)
	}
	f.shards() // checks that the counts are right
	f.wantCount(1, 5)
}

func TestAnAddWhoseMergePanicsClosesItsSlot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.docs.merge = func(context.Context, []sharded.ShardWrite) error {
		f.docs.merge = nil
		panic("a bug")
	}
	func() {
		defer func() { recover() }()
		f.add(1, 0, 1)
	}()
	f.now = f.now.Add(2 * time.Second)
	f.mustAdd(1, 0, 1)
	f.wantWritten("w-60-0", "w-60-1")
	if windows, slots := f.store.Held(); windows != 1 || slots != 1 {
		t.Errorf("%d slots of %d windows are held, want 1 of 1", slots, windows)
	}
}

func TestEveryWindowIsTriedOldestFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var tried [][]time.Time // the windows of each commit
	f.docs.merge = func(ctx context.Context, writes []sharded.ShardWrite) error {
		var windows []time.Time
		refused := false
		for _, w := range writes {
			windows = append(windows, w.Window)
			refused = refused || w.Window.Equal(minute(-1)) || w.Window.Equal(minute(2))
		}
		tried = append(tried, windows)
		if refused {
			return errLost
		}
		return f.docs.Documents.Merge(ctx, writes)
	}
	var increments []windowstore.Increment
	for _, n := range []int{3, -1, 2, 0, 3} {
		increments = append(increments, windowstore.Increment{Window: minute(n), Keys: keys(0, n+2)})
	}
	err := f.store.Add(t.Context(), increments)
	if !errors.Is(err, errLost) || !strings.Contains(err.Error(), "1969-12-31T23:59:00Z") || !strings.Contains(err.Error(), "1970-01-01T00:02:00Z") {
		t.Errorf("Add: %v, want errors that name both windows", err)
	}
	want := [][]time.Time{
		{minute(-1), minute(0), minute(2), minute(3)}, // first in one commit, and then each in its own
		{minute(-1)}, {minute(0)}, {minute(2)}, {minute(3)},
	}
	if diff := cmp.Diff(want, tried); diff != "" {
		t.Errorf("windows tried (-want +got):\n%s", diff)
	}
	f.wantCount(0, 2)
	f.wantCount(3, 5)
}

func TestAnAddWhoseContextEndsWritesNoMore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.docs.merge = func(_ context.Context, writes []sharded.ShardWrite) error {
		cancel()
		return f.docs.Documents.Merge(t.Context(), writes)
	}
	var increments []windowstore.Increment // for one full commit, and one window more
	for n := range 501 {
		increments = append(increments, windowstore.Increment{Window: minute(n), Keys: keys(0, 1)})
	}
	err := f.store.Add(ctx, increments)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Add: %v, want context.Canceled", err)
	}
	if len(f.docs.merges) != 1 || f.db.Len() != 500 {
		t.Errorf("%d commits and %d documents, want one commit of 500", len(f.docs.merges), f.db.Len())
	}
	if windows, slots := f.store.Held(); windows != 500 || slots != 500 {
		t.Errorf("%d slots of %d windows are held, want only those of the commit that succeeded", slots, windows)
	}
}

func TestAnAddWhoseContextEndedIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.docs.merge = func(ctx context.Context, _ []sharded.ShardWrite) error {
		cancel()
		return ctx.Err()
	}
	err := f.store.Add(ctx, []windowstore.Increment{{Window: minute(1), Keys: keys(0, 1)}, {Window: minute(2), Keys: keys(0, 1)}})
	if !errors.Is(err, context.Canceled) || len(f.docs.merges) != 1 {
		t.Errorf("Add: %v, after %d commits; want context.Canceled after one commit", err, len(f.docs.merges))
	}
}

func TestCommitsAreFewAndWithinTheirBounds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ windows, keys, commits int }{
		"a full batch of one window":     {1, 50_000, 1},
		"a full batch of many windows":   {450, 111, 1},
		"more windows than documents":    {1100, 1, 3},
		"windows of half a commit each":  {3, 100_000, 2},
		"windows larger than a commit":   {2, 200_000, 2},
		"windows of just under the half": {4, 95_000, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			var increments []windowstore.Increment
			for n := range test.windows {
				increments = append(increments, windowstore.Increment{Window: minute(n), Keys: keys(0, test.keys)})
			}
			if err := f.store.Add(t.Context(), increments); err != nil {
				t.Fatal(err)
			}
			if got := len(f.docs.merges); got != test.commits {
				t.Errorf("%d commits, want %d", got, test.commits)
			}
			in := map[time.Time]map[int]bool{} // the numbers of the commits that have documents of the window
			for i, writes := range f.docs.merges {
				bytes := 0
				for _, w := range writes {
					bytes += len(w.Name) + len(w.Batch) + 400 // 400 bytes for the document's path and its other fields
					if in[w.Window] == nil {
						in[w.Window] = map[int]bool{}
					}
					in[w.Window][i] = true
				}
				if bytes > 3_500_000 || len(writes) > 500 {
					t.Errorf("a commit of %d documents and %d bytes", len(writes), bytes)
				}
			}
			for window, commits := range in {
				if len(commits) > 1 && test.keys < 190_000 {
					t.Errorf("window %v is in %d commits", window, len(commits))
				}
			}
			f.wantCount(0, test.keys)
		})
	}
}

func TestAWindowStartWithinASecondIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	err := f.store.Add(t.Context(), []windowstore.Increment{{Window: minute(1), Keys: keys(0, 1)}, {Window: minute(2).Add(1), Keys: keys(0, 1)}})
	if err == nil || f.db.Len() != 0 || f.docs.reads != 0 {
		t.Errorf("Add: %v, want an error and nothing written", err)
	}
}

func TestTheMeaningIsReadOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustAdd(1, 0, 1)
	f.mustAdd(2, 0, 1)
	if f.docs.reads != 1 {
		t.Errorf("the pipelines on record were read %d times, want once", f.docs.reads)
	}
}

func TestAMeaningRecordedAtTheSameMomentIsCompared(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pipeline string
		change   func(*windowstore.Meaning)
		check    func(error) bool
	}{
		"the same": {"p", func(*windowstore.Meaning) {}, func(err error) bool { return err == nil }},
		"another":  {"p", func(m *windowstore.Meaning) { m.WindowDuration = time.Hour }, isMeaningError},
		"another pipeline's, with a table of this one": {
			"q", func(m *windowstore.Meaning) { m.AggTable = "agg_p" }, isMeaningError},
		"another pipeline's, with a table of this one for another use": {
			"q", func(m *windowstore.Meaning) { m.RawTable = "agg_p" }, func(err error) bool { return errors.Is(err, sharded.ErrExists) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.docs.read = func() {
				m := meaning(test.pipeline)
				test.change(&m)
				if err := f.db.Pipeline(test.pipeline).CreatePipeline(t.Context(), sharded.PipelineRecord{Meaning: m}); err != nil {
					t.Fatal(err)
				}
			}
			err := f.add(1, 0, 1)
			if !test.check(err) {
				t.Errorf("Add: %v", err)
			}
			if (err == nil) != (f.db.Len() == 1) {
				t.Errorf("Add: %v, and there are %d documents", err, f.db.Len())
			}
		})
	}
}

func isMeaningError(err error) bool {
	var refused *windowstore.MeaningError
	return errors.As(err, &refused)
}

func TestLeastKeptIsTheLeastOfFlushesAtTheSameMoment(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ before, other, keep, want time.Duration }{
		{0, 2 * time.Hour, 3 * time.Hour, 2 * time.Hour},
		{0, 3 * time.Hour, 2 * time.Hour, 2 * time.Hour},
		{9 * time.Hour, 2 * time.Hour, 2 * time.Hour, 2 * time.Hour},
		{9 * time.Hour, 8 * time.Hour, 1 * time.Hour, 1 * time.Hour},
	} {
		f := newFixture(t)
		f.mustAdd(1, 0, 1)
		other := f.open("other")
		keep := func(s *sharded.Store, keep time.Duration) time.Duration {
			least, err := s.KeepAtLeast(t.Context(), keep)
			if err != nil {
				t.Fatal(err)
			}
			return least
		}
		if test.before != 0 {
			keep(other, test.before)
		}
		f.docs.read = func() { keep(other, test.other) }
		if got := keep(f.store, test.keep); got != test.want {
			t.Errorf("%+v: least is %v", test, got)
		}
		if got := keep(f.store, 100*time.Hour); got != test.want {
			t.Errorf("%+v: on record is %v", test, got)
		}
	}
}

func TestKeepAtLeastZeroIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustAdd(1, 0, 1)
	if least, err := f.store.KeepAtLeast(t.Context(), 0); err == nil {
		t.Errorf("KeepAtLeast of nothing: %v, want an error", least)
	}
}

func TestSettleOfAChangedShardDoesNotHoldBackOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for n := range 3 {
		f.mustAdd(n, 0, 1)
	}
	var read []windowstore.Shard
	for _, w := range f.pending() {
		read = append(read, w.Shards...)
	}
	f.now = f.now.Add(2 * time.Second)
	f.mustAdd(1, 1, 2) // to the shard that was read before
	if err := f.store.Settle(t.Context(), read, end); err != nil {
		t.Fatal(err)
	}
	windows := f.pending()
	if len(windows) != 1 || !windows[0].Start.Equal(minute(1)) || windows[0].Shards[0].Name != read[1].Name {
		t.Errorf("pending: %v, want the shard that was written", windows)
	}
}

func TestSettleReportsWhatWentWrong(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	shards := make([]windowstore.Shard, 20)
	for i := range shards {
		shards[i].Name = fmt.Sprint("shard", i)
	}
	f.docs.settle = func(infos []sharded.ShardInfo) []error {
		errs := make([]error, len(infos))
		for i := range errs {
			if i%2 == 1 {
				errs[i] = fmt.Errorf("%w", sharded.ErrPrecondition)
			} else if i > 3 {
				errs[i] = errLost
			}
		}
		return errs
	}
	if err := f.store.Settle(t.Context(), shards[:4], end); err != nil {
		t.Errorf("Settle of changed shards: %v", err)
	}
	err := f.store.Settle(t.Context(), shards, end)
	if !errors.Is(err, errLost) || !strings.Contains(err.Error(), "shard4:") || !strings.Contains(err.Error(), "and 3 more errors") {
		t.Errorf("Settle: %v, want the first errors and how many more", err)
	}
	f.docs.settle = func([]sharded.ShardInfo) []error { return nil }
	if f.store.Settle(t.Context(), shards, end) == nil {
		t.Error("the database did not answer for each shard, and Settle returned no error")
	}
	f.docs.settle = func([]sharded.ShardInfo) []error {
		t.Error("Settle of no shards called the database")
		return nil
	}
	if err := f.store.Settle(t.Context(), nil, end); err != nil {
		t.Errorf("Settle of no shards: %v", err)
	}
}

func TestAWindowMayGoOverPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := map[int]int{0: 250, 1: 700, 2: 250, 3: 1}
	for n, shards := range want {
		for range shards {
			f.mustAdd(n, 0, 1) // the clock stands still, so each Add opens a shard of its own
		}
	}
	pages, first := 0, time.Time{}
	f.docs.queryPending = func(limit int, page []sharded.ShardInfo, readTime time.Time) ([]sharded.ShardInfo, time.Time) {
		if limit > 300 {
			t.Errorf("a page of %d shards, want 300 at most", limit)
		}
		if pages++; pages == 1 {
			first = readTime
		}
		return page, readTime.Add(-time.Duration(pages) * time.Minute) // as if the server's clock went back
	}
	got := map[int]int{}
	seen := map[string]bool{}
	for i, w := range f.pending() {
		if !w.Start.Equal(minute(i)) || !w.ReadTime.Equal(first.Add(-time.Minute)) {
			t.Errorf("window %d: %v, read at %v", i, w.Start, w.ReadTime)
		}
		for _, s := range w.Shards {
			if seen[s.Name] || !s.Window.Equal(w.Start) {
				t.Errorf("window %v has the shard %+v", w.Start, s)
			}
			seen[s.Name] = true
			got[i]++
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || pages != 5 {
		t.Errorf("%d pages, want 5; shards (-want +got):\n%s", pages, diff)
	}
}

func TestPagesThatEndWithAWindowLoseNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for n := range 3 {
		for range 300 {
			f.mustAdd(n, 0, 1)
		}
	}
	windows := f.pending()
	if len(windows) != 3 || len(windows[0].Shards)+len(windows[1].Shards)+len(windows[2].Shards) != 900 {
		t.Errorf("%d windows, want 3 with 300 shards each", len(windows))
	}
}

func TestACallerThatStopsReadsNoFurtherPage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for n := range 1000 {
		f.mustAdd(n, 0, 1)
	}
	pages := 0
	f.docs.queryPending = func(_ int, page []sharded.ShardInfo, readTime time.Time) ([]sharded.ShardInfo, time.Time) {
		pages++
		return page, readTime
	}
	for range f.store.Pending(t.Context(), minute(100), end) {
		break
	}
	if pages != 1 {
		t.Errorf("%d pages were read for one window", pages)
	}
}

func TestPendingEndsAtOnceWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for n := range 3 { // all of them fit into one page
		f.mustAdd(n, 0, 1)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs []error
	for _, err := range f.store.Pending(ctx, time.Time{}, end) {
		errs = append(errs, err)
		cancel()
	}
	if len(errs) != 2 || errs[0] != nil || !errors.Is(errs[1], context.Canceled) {
		t.Errorf("a window and then came %v, want context.Canceled", errs[1:])
	}
}

func TestAWindowOfTooManyKeysIsNotCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustAdd(1, 0, 1_000_000)
	f.wantCount(1, 1_000_000)
	f.mustAdd(1, 1_000_000, 1_000_001)
	if n, err := f.store.Count(t.Context(), minute(1)); !errors.Is(err, windowstore.ErrTooManyKeys) {
		t.Errorf("Count: %d, %v; want ErrTooManyKeys", n, err)
	}
}

// Counts at the same time must not all hold a large window in memory: one of them must
// wait for the other.
func TestOneLargeWindowIsCountedAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const batches, batchKeys = 16, 1 << 15
		docs := &largeWindows{Documents: memdocs.New(time.Now).Pipeline("p"), batches: batches, batchKeys: batchKeys}
		store := sharded.New(sharded.Config{Documents: docs, Pipeline: "p", Meaning: meaning("p"), Writer: "w", Now: time.Now})
		began := time.Now()
		var counts sync.WaitGroup
		for n := range 4 {
			counts.Go(func() {
				if n, err := store.Count(t.Context(), minute(n)); err != nil || n != batches*batchKeys {
					t.Errorf("Count: %d, %v", n, err)
				}
			})
		}
		time.Sleep(5 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if n, err := store.Count(ctx, minute(9)); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 15*time.Second {
			t.Errorf("Count within ten seconds: %d, %v, after %v", n, err, time.Since(began))
		}
		counts.Wait()
		// The first nine batches of the four windows are read at the same time. The other
		// seven batches are read for one window after the other.
		if took := time.Since(began); took != (9+4*7)*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// largeWindows returns the same number of batches and keys for every window, and takes
// one second for each batch.
type largeWindows struct {
	sharded.Documents
	batches, batchKeys int
}

func (l *largeWindows) QueryWindow(context.Context, time.Time) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for i := range l.batches {
			time.Sleep(time.Second)
			batch := []byte{1}
			for _, key := range keys(i*l.batchKeys, (i+1)*l.batchKeys) {
				batch = append(batch, key[:]...)
			}
			if !yield(batch, nil) {
				return
			}
		}
	}
}

func TestABatchThatCannotBeReadIsNeverLeftOut(t *testing.T) {
	t.Parallel()
	for _, batch := range [][]byte{{}, {1}, {1, 2}, append([]byte{2}, make([]byte, 16)...)} {
		f := newFixture(t)
		f.docs.queryWindow = [][]byte{append([]byte{1}, make([]byte, 16)...), batch}
		if n, err := f.store.Count(t.Context(), minute(1)); err == nil {
			t.Errorf("batch %x: count is %d, want an error", batch, n)
		}
	}
}
