package sharded_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// written returns the names of the documents of all writes so far, in their order.
func (f *fixture) written() (names []string) {
	for _, writes := range f.docs.merges {
		for _, w := range writes {
			names = append(names, w.Name)
		}
	}
	return names
}

func (f *fixture) wantWritten(want ...string) {
	f.Helper()
	if diff := cmp.Diff(want, f.written()); diff != "" {
		f.Errorf("documents written (-want +got):\n%s", diff)
	}
}

func TestASlotRestsForASecond(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustAdd(1, 0, 1)
	f.now = f.now.Add(time.Second)
	f.mustAdd(1, 1, 2)
	f.now = f.now.Add(1)
	f.mustAdd(1, 2, 3)
	f.wantWritten("w-60-0", "w-60-1", "w-60-0")
	f.shards()
}

func TestTheSecondBeginsWhenTheWriteReturned(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.docs.merge = func(ctx context.Context, writes []sharded.ShardWrite) error {
		defer func() { f.now = f.now.Add(5 * time.Second) }()
		return f.docs.Documents.Merge(ctx, writes)
	}
	f.mustAdd(1, 0, 1)
	f.mustAdd(1, 1, 2)
	f.wantWritten("w-60-0", "w-60-1")
}

func TestTheLeastRecentlyWrittenSlotIsReused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for range 3 {
		f.mustAdd(1, 0, 1)
		f.now = f.now.Add(100 * time.Millisecond)
	}
	f.now = f.now.Add(time.Minute)
	for range 4 {
		f.mustAdd(1, 0, 1)
		f.now = f.now.Add(600 * time.Millisecond)
	}
	f.wantWritten("w-60-0", "w-60-1", "w-60-2", "w-60-0", "w-60-1", "w-60-2", "w-60-0")
}

func TestSlotsAreOfOneWindowAndNumberedForAll(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustAdd(1, 0, 1)
	f.mustAdd(-2, 0, 1)
	f.now = f.now.Add(2 * time.Second)
	f.mustAdd(3, 0, 1)
	f.mustAdd(-2, 1, 2)
	f.wantWritten("w-60-0", "w--120-1", "w-180-2", "w--120-1")
}

func TestASlotIsInOneWriteAtATime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustAdd(1, 0, 1)
	f.now = f.now.Add(time.Minute)
	f.docs.merge = func(ctx context.Context, writes []sharded.ShardWrite) error {
		f.docs.merge = nil
		f.now = f.now.Add(time.Minute)
		f.mustAdd(1, 2, 3) // while the other Add is under way
		return f.docs.Documents.Merge(ctx, writes)
	}
	f.mustAdd(1, 1, 2)
	f.wantWritten("w-60-0", "w-60-0", "w-60-1")
	f.shards()
	f.wantCount(1, 3)
}

func TestCountIsSetToWhatTheDocumentHolds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 5 {
		f.mustAdd(1, 10*i, 10*i+i+1)
		f.now = f.now.Add(2 * time.Second)
	}
	if shards := f.shards(); len(shards) != 1 || shards["w-60-0"].Count != 15 {
		t.Errorf("shards: %+v, want one with a count of 15", shards)
	}
}

func TestARepeatedKeyIsWrittenOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	err := f.store.Add(t.Context(), []windowstore.Increment{
		{Window: minute(1), Keys: append(keys(0, 3), keys(1, 4)...)},
		{Window: minute(1), Keys: keys(3, 5)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if shards := f.shards(); len(shards) != 1 || shards["w-60-0"].Count != 5 {
		t.Errorf("shards: %+v, want one with a count of 5", shards)
	}
}

func TestASlotClosesBeforeItIsTooLarge(t *testing.T) {
	t.Parallel()
	const limit, batch, batches = 512 << 10, 3000, 40
	f := newFixture(t)
	for i := range batches {
		f.mustAdd(1, i*batch, (i+1)*batch)
		f.now = f.now.Add(2 * time.Second)
	}
	shards := f.shards()
	for _, s := range shards {
		if s.Bytes() > limit {
			t.Errorf("shard %s has %d bytes, want %d at most", s.Name, s.Bytes(), limit)
		}
	}
	if want := 1 + batches/10; len(shards) > want {
		t.Errorf("%d documents for %d bytes, want %d at most", len(shards), 16*batch*batches, want)
	}
	if windows, slots := f.store.Held(); windows != 1 || slots != 1 {
		t.Errorf("%d slots of %d windows are held, want only the slot that is open", slots, windows)
	}
	f.wantCount(1, batch*batches)
}

// If ids are added one at a time, the keys of the map take more space than the ids.
func TestTheEstimateCountsMapKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const batches = 30_000
	for i := range batches {
		f.mustAdd(1, i, i+1)
		f.now = f.now.Add(2 * time.Second)
	}
	for _, s := range f.shards() {
		if s.Bytes() > 512<<10 {
			t.Errorf("shard %s has %d bytes in %d batches", s.Name, s.Bytes(), len(s.Batches))
		}
	}
}

func TestALargeBatchIsSplitOverDocumentsOfOneCommit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustAdd(1, 0, 10)
	f.now = f.now.Add(2 * time.Second)
	f.mustAdd(1, 0, 100_000)
	if n := len(f.docs.merges); n != 2 {
		t.Fatalf("%d commits for two Adds, want 2", n)
	}
	// The rest of the batch fits into the slot that was there before.
	f.wantWritten("w-60-0", "w-60-1", "w-60-2", "w-60-3", "w-60-0")
	for _, s := range f.shards() {
		if s.Bytes() > 512<<10 {
			t.Errorf("shard %s has %d bytes", s.Name, s.Bytes())
		}
	}
	f.wantCount(1, 100_000)
}

func TestAVeryLargeBatchIsSeveralCommits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mustAdd(1, 0, 450_000)
	if n := len(f.docs.merges); n != 3 {
		t.Errorf("%d commits, want 3", n)
	}
	for i, writes := range f.docs.merges {
		bytes := 0
		for _, w := range writes {
			bytes += len(w.Name) + len(w.Key) + len(w.Batch) + 200
		}
		if bytes > 3_500_000 {
			t.Errorf("commit %d has %d bytes", i, bytes)
		}
	}
	f.wantCount(1, 450_000)
}

func TestQuietWindowsAreForgotten(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	wantHeld := func(windows, slots int) {
		t.Helper()
		if w, s := f.store.Held(); w != windows || s != slots {
			t.Errorf("%d slots of %d windows are held, want %d of %d", s, w, slots, windows)
		}
	}
	for n := range 100 {
		f.mustAdd(n, 0, 1)
	}
	f.mustAdd(0, 1, 2)
	wantHeld(100, 101)
	f.now = f.now.Add(4 * time.Minute)
	f.mustAdd(7, 1, 2) // this window is not quiet
	wantHeld(100, 101)
	f.now = f.now.Add(2 * time.Minute)
	f.mustAdd(200, 0, 1)
	wantHeld(2, 2)
	// After a slot was forgotten, its document must never be written again.
	f.mustAdd(0, 2, 3)
	before := f.written()
	if last := before[len(before)-1]; slices.Contains(before[:len(before)-1], last) {
		t.Errorf("document %s was written again", last)
	}
	f.wantCount(0, 3)
}

func TestBatchKeysAreNeverUsedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	fail := false
	f.docs.merge = func(ctx context.Context, writes []sharded.ShardWrite) error {
		if fail = !fail; fail {
			return errLost
		}
		return f.docs.Documents.Merge(ctx, writes)
	}
	for i := range 100 {
		f.add(i%3, i, i+1) // every second Add fails
		f.now = f.now.Add(time.Second)
	}
	seen := map[string]bool{}
	for _, writes := range f.docs.merges {
		for _, w := range writes {
			if seen[w.Key] {
				t.Errorf("batch key %s was used again", w.Key)
			}
			seen[w.Key] = true
		}
	}
	if !seen["2r"] || len(seen) != 100 {
		t.Errorf("keys: %v, want 100 numbers in base 36", slices.Sorted(maps.Keys(seen)))
	}
}

func TestTheSameCallsWriteTheSame(t *testing.T) {
	t.Parallel()
	run := func() [][]sharded.ShardWrite {
		f := newFixture(t)
		for i := range 20 {
			var increments []windowstore.Increment
			for n := range 30 {
				increments = append(increments, windowstore.Increment{Window: minute((7 * n) % 30), Keys: keys(i, i+5)})
			}
			if err := f.store.Add(t.Context(), increments); err != nil {
				t.Fatal(err)
			}
			f.now = f.now.Add(300 * time.Millisecond)
		}
		return f.docs.merges
	}
	if diff := cmp.Diff(run(), run()); diff != "" {
		t.Errorf("two runs differ:\n%s", diff)
	}
}

func TestWritersAreRandom(t *testing.T) {
	t.Parallel()
	a, b := sharded.NewWriter(), sharded.NewWriter()
	if a == b || len(a) != 16 {
		t.Errorf("writers %q and %q, want two of 16 characters", a, b)
	}
}
