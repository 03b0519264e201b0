package firestorecounters_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/internal/lab/generator"
	"github.com/tidemark-dev/tidemark/internal/test/memdocs"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

var wholeTable = flag.Bool("cost", false, "measure every rate of the table in docs/cost.md")

// TestCost measures, in virtual time, the documents that Firestore would charge for. They
// are in a table of docs/cost.md. One instance gets events at the times at which the
// generator publishes them. A flush runs each minute until all windows are settled.
func TestCost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		perSecond float64
		duration  time.Duration
		lag       bool
		maxWrites float64 // for each 1,000 events; 0 if there is no limit
	}{
		{0.1, 6 * time.Hour, false, 0},
		{0.1, 6 * time.Hour, true, 0},
		{2, 2 * time.Hour, false, 0},
		{2, 2 * time.Hour, true, 0},
		{100, 20 * time.Minute, false, 120},
		{100, 20 * time.Minute, true, 300},
		{1000, 10 * time.Minute, false, 0},
		{1000, 10 * time.Minute, true, 0},
	} {
		t.Run(fmt.Sprintf("rate=%v/lag=%t", test.perSecond, test.lag), func(t *testing.T) {
			t.Parallel()
			if test.maxWrites == 0 && !*wholeTable {
				t.Skip("there is no limit for this rate; the flag -cost measures it")
			}
			synctest.Test(t, func(t *testing.T) {
				s := newService()
				s.publish(t, generator.Config{
					Users: max(10, int(test.perSecond*5)), Rate: 60 * test.perSecond, // in the lab, each user sends twelve events a minute
					Lag: test.lag, Seed: 1, Duration: test.duration, Start: time.Now(),
				})
				s.settleAll(t)
				s.report(t, test.maxWrites)
			})
		})
	}
}

// There are always sixty-four open pushes for the same window, as after an outage or in a
// busy minute.
func TestCostOfConcurrentPushes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newService()
		published := time.Now().UTC()
		var pushes sync.WaitGroup
		for c := range 64 {
			pushes.Go(func() {
				for i := range 200 {
					s.events.Add(1)
					s.submit(t, event.Message{ID: fmt.Sprint(c, "-", i), PublishTime: published, PublishTimeSource: event.FromMessage, Data: []byte(payload)})
				}
			})
		}
		pushes.Wait()
		s.settleAll(t)
		s.report(t, 60)
	})
}

const payload = `{"ip": "198.51.100.23", "user_id": "1", "lat": 48.8566, "lng": 2.3522, "timestamp": "2000-01-01T00:00:00Z", "http_request": "\"GET fungi.html HTTP/1.0\"", "http_response": 200, "num_bytes": 287, "user_agent": "Mozilla/5.0"}`

// A service is one instance with the default settings of Google Cloud. Its documents are
// counted, and so are the events that were pushed to it.
type service struct {
	docs       *billed
	committer  *ingest.Committer
	flusher    *flush.Flusher
	classifier *event.Classifier
	aggregate  *counts
	events     atomic.Int64
}

func newService() *service {
	docs := &billed{Documents: memdocs.New(time.Now).Pipeline("p"), made: map[string]bool{}}
	store := newStore(docs)
	windows := window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute}
	aggregate := &counts{}
	return &service{
		docs: docs, aggregate: aggregate,
		classifier: event.NewClassifier(event.Rules{Schema: accesslog.Schema(), Windows: windows, MaxClockSkew: 5 * time.Minute}),
		committer: ingest.New(ingest.Config{
			Warehouse: rows{}, Counter: store, IDKind: "message",
			Interval: 200 * time.Millisecond, QueueLength: 10_000, QueueBytes: 1 << 30, BatchRows: 1000, BatchBytes: 4 << 20,
			StepTimeout: 10 * time.Second, Now: time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		}),
		flusher: flush.New(flush.Config{
			Counters: store, Aggregate: aggregate, Windows: windows,
			Quiet: 10 * time.Second, HoldMax: 10 * time.Minute, MaxWindows: 1000, Timeout: 50 * time.Second,
			Retention: 192 * time.Hour, Now: time.Now,
		}),
	}
}

// publish pushes the generator's stream of events and runs a flush each minute.
func (s *service) publish(t *testing.T, config generator.Config) {
	deliveries, err := generator.Simulate(t.Context(), config, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var flushes, pushes sync.WaitGroup
	flushes.Go(func() {
		minute := time.NewTicker(time.Minute)
		defer minute.Stop()
		for {
			select {
			case <-minute.C:
				s.flush(t)
			case <-ended:
				return
			}
		}
	})
	for d := range deliveries {
		time.Sleep(time.Until(d.At))
		s.events.Add(1)
		pushes.Go(func() { s.submit(t, d.Message) })
	}
	pushes.Wait()
	close(ended)
	flushes.Wait()
}

func (s *service) submit(t *testing.T, m event.Message) {
	if _, err := s.committer.Submit(t.Context(), m, s.classifier.Classify(m)); err != nil {
		t.Error(err)
	}
}

func (s *service) flush(t *testing.T) {
	if report := s.flusher.Run(t.Context()); len(report.Errors) > 0 {
		t.Error(report.Errors)
	}
}

// settleAll flushes the windows that were not due yet when the stream ended.
func (s *service) settleAll(t *testing.T) {
	if err := s.committer.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for range 5 {
		time.Sleep(time.Minute)
		s.flush(t)
	}
}

// These are the prices of the Standard edition in us-central1, in dollars a document.
const (
	readPrice   = 0.03 / 100_000
	writePrice  = 0.09 / 100_000
	deletePrice = 0.01 / 100_000
)

// report logs how many documents were read, written and deleted for each million events.
// It fails the test if there were too many writes.
func (s *service) report(t *testing.T, maxWrites float64) {
	each := func(n int) float64 { return float64(n) / float64(s.events.Load()) }
	d := s.docs
	reads, writes, deletes := each(d.reads), each(d.writes), each(len(d.made)) // each shard is deleted once
	t.Logf("%s: %d events; for each million %.0f reads, %.0f writes, %.0f deletes: $%.3f",
		t.Name(), s.events.Load(), 1e6*reads, 1e6*writes, 1e6*deletes, 1e6*(reads*readPrice+writes*writePrice+deletes*deletePrice))
	if maxWrites > 0 && 1000*writes > maxWrites {
		t.Errorf("%.0f writes for each 1,000 events, want at most %.0f", 1000*writes, maxWrites)
	}
	for w, err := range d.pending(t.Context()) {
		t.Errorf("window %v is still pending, %v", w, err)
	}
	if s.aggregate.appends == 0 {
		t.Error("nothing was published")
	}
}

// rows is a warehouse that stores nothing, but takes as long as a real one.
type rows struct{}

func (rows) AppendRaw(context.Context, []warehouse.RawRow) error {
	time.Sleep(30 * time.Millisecond)
	return nil
}

func (rows) AppendDeadLetters(context.Context, []warehouse.DeadLetter) error { return nil }

// billed counts the documents for which Firestore charges. These are the documents that a
// write names, also if the write is refused, and the documents that a query returns. A
// query that returns none is charged as one document.
type billed struct {
	sharded.Documents
	mu            sync.Mutex
	reads, writes int
	made          map[string]bool // names of shards
}

func (b *billed) bill(reads, writes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads += reads
	b.writes += writes
}

func (b *billed) Merge(ctx context.Context, writes []sharded.ShardWrite) error {
	time.Sleep(20 * time.Millisecond)
	b.bill(0, len(writes))
	b.mu.Lock()
	for _, w := range writes {
		b.made[w.Name] = true
	}
	b.mu.Unlock()
	return b.Documents.Merge(ctx, writes)
}

func (b *billed) QueryPending(ctx context.Context, after sharded.Cursor, through time.Time, limit int) ([]sharded.ShardInfo, time.Time, error) {
	page, readTime, err := b.Documents.QueryPending(ctx, after, through, limit)
	b.bill(max(1, len(page)), 0)
	return page, readTime, err
}

func (b *billed) QueryWindow(ctx context.Context, start time.Time) iter.Seq2[[]byte, error] {
	// The model returns batches and not documents, so the documents are counted by their
	// names, which contain the window.
	shards := 0
	b.mu.Lock()
	for name := range b.made {
		if windowOf(name) == start.Unix() {
			shards++
		}
	}
	b.mu.Unlock()
	b.bill(max(1, shards), 0)
	return b.Documents.QueryWindow(ctx, start)
}

func (b *billed) Settle(ctx context.Context, shards []sharded.ShardInfo, expireAt time.Time) []error {
	b.bill(0, len(shards))
	return b.Documents.Settle(ctx, shards, expireAt)
}

func (b *billed) Pipelines(ctx context.Context) (map[string]sharded.PipelineRecord, error) {
	records, err := b.Documents.Pipelines(ctx)
	b.bill(max(1, len(records)), 0)
	return records, err
}

func (b *billed) CreatePipeline(ctx context.Context, record sharded.PipelineRecord) error {
	b.bill(0, 3) // the record, and a claim on each of two tables
	return b.Documents.CreatePipeline(ctx, record)
}

func (b *billed) LowerLeastKept(ctx context.Context, keep time.Duration, updateTime time.Time) error {
	b.bill(0, 1)
	return b.Documents.LowerLeastKept(ctx, keep, updateTime)
}

// pending returns the windows that are pending, without counting any charge.
func (b *billed) pending(ctx context.Context) iter.Seq2[windowstore.PendingWindow, error] {
	return newStore(b.Documents).Pending(ctx, time.Time{}, end)
}

func windowOf(shard string) (start int64) {
	fmt.Sscanf(shard[len(sharded.NewWriter()):], "-%d-", &start)
	return start
}
