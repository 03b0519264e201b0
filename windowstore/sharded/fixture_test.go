package sharded_test

import (
	"context"
	"encoding/binary"
	"iter"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/test/memdocs"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	end  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

func minute(n int) time.Time { return time.Unix(int64(n)*60, 0).UTC() }

// keys returns the keys of the numbers from, from+1, ..., to-1.
func keys(from, to int) []windowstore.Key {
	ks := make([]windowstore.Key, to-from)
	for i := range ks {
		binary.BigEndian.PutUint64(ks[i][:], uint64(from+i)*0x9e3779b97f4a7c15) // spreads the keys over all values
	}
	return ks
}

func meaning(pipeline string) windowstore.Meaning {
	return windowstore.Meaning{
		WindowDuration: time.Minute, EventTime: "payload", EventID: "message",
		RawTable: "raw_" + pipeline, AggTable: "agg_" + pipeline,
	}
}

// fixture has a store of the writer w and a clock that only the test moves. The test can
// make single calls of the store's documents fail.
type fixture struct {
	*testing.T
	now   time.Time
	db    *memdocs.Database
	docs  *hooked
	store *sharded.Store
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{T: t, now: noon}
	f.db = memdocs.New(func() time.Time { return f.now })
	f.docs = &hooked{Documents: f.db.Pipeline("p")}
	f.store = f.open("w")
	return f
}

func (f *fixture) open(writer string) *sharded.Store {
	return sharded.New(sharded.Config{
		Documents: f.docs, Pipeline: "p", Meaning: meaning("p"), Writer: writer,
		Now: func() time.Time { return f.now }, MaxKeys: 1_000_000,
	})
}

// add adds the keys of the numbers from, from+1, ..., to-1 to the window.
func (f *fixture) add(window, from, to int) error {
	return f.store.Add(f.Context(), []windowstore.Increment{{Window: minute(window), Keys: keys(from, to)}})
}

func (f *fixture) mustAdd(window, from, to int) {
	f.Helper()
	if err := f.add(window, from, to); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) pending() []windowstore.PendingWindow {
	f.Helper()
	var windows []windowstore.PendingWindow
	for w, err := range f.store.Pending(f.Context(), time.Time{}, end) {
		if err != nil {
			f.Fatal(err)
		}
		windows = append(windows, w)
	}
	return windows
}

func (f *fixture) wantCount(window, want int) {
	f.Helper()
	if n, err := f.store.Count(f.Context(), minute(window)); err != nil || n != int64(want) {
		f.Errorf("count of %v is %d, %v; want %d", minute(window), n, err, want)
	}
}

// shards returns the documents by name. It first checks that the count of each shard is
// the number of its ids.
func (f *fixture) shards() map[string]memdocs.Shard {
	f.Helper()
	list, err := f.db.Shards()
	if err != nil {
		f.Fatal(err)
	}
	shards := map[string]memdocs.Shard{}
	for _, s := range list {
		ids := 0
		for _, batch := range s.Batches {
			ids += len(batch)
		}
		if s.Count != int64(ids) {
			f.Errorf("count of shard %s is %d, want %d", s.Name, s.Count, ids)
		}
		shards[s.Name] = s
	}
	return shards
}

// hooked wraps Documents. A call for which there is a hook is passed to the hook.
type hooked struct {
	sharded.Documents
	merges       [][]sharded.ShardWrite // the writes of all Merges
	merge        func(ctx context.Context, writes []sharded.ShardWrite) error
	settle       func(shards []sharded.ShardInfo) []error
	queryPending func(limit int, page []sharded.ShardInfo, readTime time.Time) ([]sharded.ShardInfo, time.Time)
	queryWindow  [][]byte // returned instead, if set
	read         func()   // called after the records were read, before the call returns
	reads        int      // how often the records were read
}

func (h *hooked) Merge(ctx context.Context, writes []sharded.ShardWrite) error {
	h.merges = append(h.merges, writes)
	if h.merge != nil {
		return h.merge(ctx, writes)
	}
	return h.Documents.Merge(ctx, writes)
}

func (h *hooked) Settle(ctx context.Context, shards []sharded.ShardInfo, expireAt time.Time) []error {
	if h.settle != nil {
		return h.settle(shards)
	}
	return h.Documents.Settle(ctx, shards, expireAt)
}

func (h *hooked) QueryPending(ctx context.Context, after sharded.Cursor, through time.Time, limit int) ([]sharded.ShardInfo, time.Time, error) {
	page, readTime, err := h.Documents.QueryPending(ctx, after, through, limit)
	if h.queryPending != nil {
		page, readTime = h.queryPending(limit, page, readTime)
	}
	return page, readTime, err
}

func (h *hooked) QueryWindow(ctx context.Context, start time.Time) iter.Seq2[[]byte, error] {
	if h.queryWindow == nil {
		return h.Documents.QueryWindow(ctx, start)
	}
	return func(yield func([]byte, error) bool) {
		for _, batch := range h.queryWindow {
			if !yield(batch, nil) {
				return
			}
		}
	}
}

func (h *hooked) Pipelines(ctx context.Context) (map[string]sharded.PipelineRecord, error) {
	records, err := h.Documents.Pipelines(ctx)
	h.reads++
	if read := h.read; read != nil {
		h.read = nil
		read()
	}
	return records, err
}
