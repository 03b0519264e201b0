package simulation

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// faultyDocuments is how a process sees the counters' documents: each use is a call, and
// the scheduler decides what becomes of it.
type faultyDocuments struct {
	w         *world
	p         *process
	documents sharded.Documents // these never fail; only the scheduler uses them
}

func (f faultyDocuments) Merge(ctx context.Context, writes []sharded.ShardWrite) error {
	writes = slices.Clone(writes)
	var detail strings.Builder
	for _, write := range writes {
		fmt.Fprintf(&detail, " %s %s batch %s of %d", clock(write.Window), write.Name, write.Key, len(write.Batch)/16)
	}
	return f.w.call(ctx, f.p, "merge", detail.String(), func() error {
		return f.documents.Merge(context.Background(), writes)
	})
}

func (f faultyDocuments) QueryPending(ctx context.Context, after sharded.Cursor, through time.Time, limit int) ([]sharded.ShardInfo, time.Time, error) {
	type page struct {
		shards   []sharded.ShardInfo
		readTime time.Time
	}
	result, err := query(ctx, f.w, f.p, "query pending", after.Name, func() (page, error) {
		shards, readTime, err := f.documents.QueryPending(context.Background(), after, through, limit)
		return page{shards, readTime}, err
	})
	return result.shards, result.readTime, err
}

func (f faultyDocuments) QueryWindow(ctx context.Context, start time.Time) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		batches, err := query(ctx, f.w, f.p, "query window", clock(start), func() ([][]byte, error) {
			var batches [][]byte
			for batch, err := range f.documents.QueryWindow(context.Background(), start) {
				if err != nil {
					return nil, err
				}
				batches = append(batches, batch)
			}
			return batches, nil
		})
		if err != nil {
			yield(nil, err)
			return
		}
		for _, batch := range batches {
			if !yield(batch, nil) {
				return
			}
		}
	}
}

// Settle settles each shard in a call of its own, since each of them may succeed or fail
// by itself.
func (f faultyDocuments) Settle(ctx context.Context, shards []sharded.ShardInfo, expireAt time.Time) []error {
	errs := make([]error, len(shards))
	for i, shard := range shards {
		errs[i] = f.w.call(ctx, f.p, "settle", clock(shard.Window)+" "+shard.Name, func() error {
			return f.documents.Settle(context.Background(), []sharded.ShardInfo{shard}, expireAt)[0]
		})
	}
	return errs
}

func (f faultyDocuments) Pipelines(ctx context.Context) (map[string]sharded.PipelineRecord, error) {
	return query(ctx, f.w, f.p, "read pipelines", "", func() (map[string]sharded.PipelineRecord, error) {
		return f.documents.Pipelines(context.Background())
	})
}

func (f faultyDocuments) CreatePipeline(ctx context.Context, record sharded.PipelineRecord) error {
	return f.w.call(ctx, f.p, "create pipeline", "", func() error {
		return f.documents.CreatePipeline(context.Background(), record)
	})
}

func (f faultyDocuments) LowerLeastKept(ctx context.Context, keep time.Duration, updateTime time.Time) error {
	return f.w.call(ctx, f.p, "lower least kept", keep.String(), func() error {
		return f.documents.LowerLeastKept(context.Background(), keep, updateTime)
	})
}

// query makes a call that returns a value.
func query[T any](ctx context.Context, w *world, p *process, kind, detail string, read func() (T, error)) (T, error) {
	results := make(chan T, 1)
	err := w.call(ctx, p, kind, detail, func() error {
		result, err := read()
		if err == nil {
			results <- result
		}
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return <-results, nil
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05") }

func describeTimes(times []time.Time) string {
	texts := make([]string, len(times))
	for i, t := range times {
		texts[i] = clock(t)
	}
	return strings.Join(texts, " ")
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
