package memdocs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/test/memdocs"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func minute(n int) time.Time { return time.Unix(int64(n)*60, 0).UTC() }

func key(n byte) windowstore.Key { return windowstore.Key{n} }

func write(name string, window int, count int64, batchKey string, keys ...windowstore.Key) sharded.ShardWrite {
	batch := []byte{1}
	for _, k := range keys {
		batch = append(batch, k[:]...)
	}
	return sharded.ShardWrite{Name: name, Window: minute(window), Count: count, Key: batchKey, Batch: batch}
}

// fixture has a database whose clock stands still, and the documents of one pipeline in
// it.
type fixture struct {
	*testing.T
	db   *memdocs.Database
	docs sharded.Documents
}

func newFixture(t *testing.T) fixture {
	db := memdocs.New(func() time.Time { return noon })
	return fixture{t, db, db.Pipeline("p")}
}

func (f fixture) merge(writes ...sharded.ShardWrite) {
	f.Helper()
	if err := f.docs.Merge(f.Context(), writes); err != nil {
		f.Fatal(err)
	}
}

func (f fixture) pending(after sharded.Cursor, through, limit int) ([]sharded.ShardInfo, time.Time) {
	f.Helper()
	page, read, err := f.docs.QueryPending(f.Context(), after, minute(through), limit)
	if err != nil {
		f.Fatal(err)
	}
	return page, read
}

func (f fixture) shards() []memdocs.Shard {
	f.Helper()
	shards, err := f.db.Shards()
	if err != nil {
		f.Fatal(err)
	}
	return shards
}

// at returns noon plus n microseconds, as the database stores it.
func at(n int) time.Time {
	return noon.Truncate(time.Microsecond).Add(time.Duration(n) * time.Microsecond)
}

func TestMergeKeepsOtherBatchesAndRemovesTheExpiry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.merge(write("a", 1, 1, "0", key(1)))
	page, _ := f.pending(sharded.Cursor{}, 9, 9)
	expireAt := at(1000)
	if errs := f.docs.Settle(t.Context(), page, expireAt); errs[0] != nil {
		t.Fatal(errs[0])
	}
	want := memdocs.Shard{
		Pipeline: "p", Name: "a", Window: minute(1), Count: 1, ExpireAt: &expireAt,
		Batches:    map[string][]windowstore.Key{"0": {key(1)}},
		CreateTime: at(0), UpdateTime: at(1),
	}
	if diff := cmp.Diff([]memdocs.Shard{want}, f.shards()); diff != "" {
		t.Errorf("after Settle (-want +got):\n%s", diff)
	}
	f.merge(write("a", 1, 3, "1", key(2), key(3)))
	window := minute(1)
	want.Pending, want.ExpireAt, want.Count, want.UpdateTime = &window, nil, 3, at(2)
	want.Batches["1"] = []windowstore.Key{key(2), key(3)}
	if diff := cmp.Diff([]memdocs.Shard{want}, f.shards()); diff != "" {
		t.Errorf("after Merge (-want +got):\n%s", diff)
	}
}

func TestUpdateTimesRiseEvenIfTheClockStandsStill(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.merge(write("a", 1, 1, "0", key(1)), write("b", 1, 1, "0", key(1)))
	f.merge(write("b", 1, 1, "0", key(1)))
	page, read := f.pending(sharded.Cursor{}, 9, 9)
	want := []sharded.ShardInfo{
		{Name: "a", Window: minute(1), CreateTime: at(0), UpdateTime: at(0)},
		{Name: "b", Window: minute(1), CreateTime: at(0), UpdateTime: at(1)},
	}
	if diff := cmp.Diff(want, page); diff != "" || !read.Equal(at(1)) {
		t.Errorf("read at %v, want %v (-want +got):\n%s", read, at(1), diff)
	}
	// The same holds for a name whose document was deleted.
	f.docs.Settle(t.Context(), page, at(0))
	if n := f.db.Expire(at(0)); n != 2 || f.db.Len() != 0 {
		t.Fatalf("%d shards expired and %d are left, want 2 and 0", n, f.db.Len())
	}
	f.merge(write("a", 1, 1, "0", key(1)))
	if got := f.shards()[0].UpdateTime; !got.After(at(4)) {
		t.Errorf("the shard that was created again has the version %v, want one after its deletion", got)
	}
}

func TestSettleIsForEachShardOnItsOwn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.merge(write("a", 1, 1, "0", key(1)), write("b", 1, 1, "0", key(1)), write("c", 1, 1, "0", key(1)))
	page, _ := f.pending(sharded.Cursor{}, 9, 9)
	f.merge(write("b", 1, 1, "0", key(1))) // writing the same again counts as a change
	page = append(page, sharded.ShardInfo{Name: "gone", UpdateTime: at(0)})
	got := f.docs.Settle(t.Context(), page, at(0))
	want := []error{nil, sharded.ErrPrecondition, nil, sharded.ErrPrecondition}
	for i := range want {
		if !errors.Is(got[i], want[i]) {
			t.Errorf("shard %s: %v, want %v", page[i].Name, got[i], want[i])
		}
	}
	page, _ = f.pending(sharded.Cursor{}, 9, 9)
	if len(page) != 1 || page[0].Name != "b" {
		t.Errorf("pending: %v, want b", page)
	}
}

func TestExpiryLooksAtExpireAtOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.merge(write("a", 1, 1, "0", key(1)), write("b", 2, 1, "0", key(1)))
	page, _ := f.pending(sharded.Cursor{}, 1, 9)
	f.docs.Settle(t.Context(), page, at(5))
	if n := f.db.Expire(at(4)); n != 0 {
		t.Errorf("%d shards expired too soon", n)
	}
	if n := f.db.Expire(at(5)); n != 1 || f.shards()[0].Name != "b" {
		t.Errorf("%d shards expired, want only a", n)
	}
}

func TestPendingComesByWindowAndNameInPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.merge(write("b", 1, 1, "0", key(1)), write("a", 2, 1, "0", key(1)), write("c", 1, 1, "0", key(1)),
		write("z", -1, 1, "0", key(1)), write("d", 3, 1, "0", key(1)))
	var got []string
	var cursor sharded.Cursor
	for {
		page, _ := f.pending(cursor, 2, 2)
		for _, info := range page {
			got = append(got, info.Name)
		}
		if len(page) < 2 {
			break
		}
		cursor = sharded.Cursor{Window: page[1].Window, Name: page[1].Name}
	}
	if diff := cmp.Diff([]string{"z", "b", "c", "a"}, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if page, _ := f.pending(sharded.Cursor{Window: minute(1)}, 2, 9); len(page) != 3 || page[0].Name != "b" {
		t.Errorf("after a cursor without a name came %v, want the window's own documents first", page)
	}
}

func TestQueryWindowIsOneSnapshot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.merge(write("a", 1, 1, "0", key(1)), write("b", 1, 1, "0", key(2)), write("c", 2, 1, "0", key(3)))
	n := 0
	for batch, err := range f.docs.QueryWindow(t.Context(), minute(1)) {
		if err != nil {
			t.Fatal(err)
		}
		clear(batch) // the caller may change its own slice afterwards
		f.merge(write(fmt.Sprint("later", n), 1, 1, "0", key(4)))
		n++
	}
	if n != 2 {
		t.Errorf("%d batches came, want the 2 that were there at the beginning", n)
	}
	f.shards() // checks that the stored batches are whole
}

func TestPipelinesShareTablesAndNothingElse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	record := func(raw, agg string) sharded.PipelineRecord {
		return sharded.PipelineRecord{Meaning: windowstore.Meaning{RawTable: raw, AggTable: agg}}
	}
	other := f.db.Pipeline("q")
	if err := f.docs.CreatePipeline(t.Context(), record("raw", "agg")); err != nil {
		t.Fatal(err)
	}
	for _, refused := range []error{
		f.docs.CreatePipeline(t.Context(), record("raw2", "agg2")),
		other.CreatePipeline(t.Context(), record("raw2", "agg")),
		other.CreatePipeline(t.Context(), record("raw", "agg2")),
	} {
		if !errors.Is(refused, sharded.ErrExists) {
			t.Errorf("CreatePipeline: %v, want ErrExists", refused)
		}
	}
	if err := other.CreatePipeline(t.Context(), record("raw2", "agg2")); err != nil {
		t.Errorf("after refusals, which must not have created anything: %v", err)
	}
	f.merge(write("a", 1, 1, "0", key(1)))
	if page, _, _ := other.QueryPending(t.Context(), sharded.Cursor{}, minute(9), 9); len(page) != 0 {
		t.Errorf("the other pipeline sees %v", page)
	}
	records, err := other.Pipelines(t.Context())
	if err != nil || len(records) != 2 {
		t.Errorf("records: %v, %v; want both", records, err)
	}
}

func TestLeastKeptIsSetInTheVersionThatWasRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := f.docs.LowerLeastKept(t.Context(), time.Hour, at(0)); !errors.Is(err, sharded.ErrPrecondition) {
		t.Errorf("without a record: %v, want ErrPrecondition", err)
	}
	if err := f.docs.CreatePipeline(t.Context(), sharded.PipelineRecord{}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, sharded.ErrPrecondition} {
		if err := f.docs.LowerLeastKept(t.Context(), time.Duration(2-i)*time.Hour, at(0)); !errors.Is(err, want) {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
	}
	if records, _ := f.docs.Pipelines(t.Context()); records["p"].LeastKept != 2*time.Hour || !records["p"].UpdateTime.Equal(at(1)) {
		t.Errorf("record is %+v, want 2h, updated at %v", records["p"], at(1))
	}
}

func TestACallWhoseContextHasEndedDoesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.merge(write("a", 1, 1, "0", key(1)))
	before := f.shards()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	info := sharded.ShardInfo{Name: "a", UpdateTime: at(0)}
	errs := f.docs.Settle(ctx, []sharded.ShardInfo{info}, at(0))
	_, _, pendingErr := f.docs.QueryPending(ctx, sharded.Cursor{}, minute(9), 9)
	_, pipelinesErr := f.docs.Pipelines(ctx)
	errs = append(errs, pendingErr, pipelinesErr,
		f.docs.Merge(ctx, []sharded.ShardWrite{write("b", 1, 1, "0", key(1))}),
		f.docs.CreatePipeline(ctx, sharded.PipelineRecord{}),
		f.docs.LowerLeastKept(ctx, time.Hour, at(0)))
	for _, err := range f.docs.QueryWindow(ctx, minute(1)) {
		errs = append(errs, err)
	}
	for i, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("call %d: %v, want context.Canceled", i, err)
		}
	}
	if diff := cmp.Diff(before, f.shards()); diff != "" {
		t.Errorf("shards have changed:\n%s", diff)
	}
}
