package ingest_test

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse/sqlitetables"
	"github.com/tidemark-dev/tidemark/window"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sqlitecounters"
)

const payload = `{"ip": "198.51.100.23", "user_id": "-6120394857710293846", "lat": 48.8566, "lng": 2.3522, "timestamp": "2026-03-14T09:26:53.589793Z", "http_request": "\"GET fungi.html HTTP/1.0\"", "http_response": 200, "num_bytes": 287, "user_agent": "Mozilla/5.0 (KHTML"}`

// BenchmarkSubmit stores and counts events in the SQLite stores, as a server on one
// machine does, with the given number of concurrent callers.
func BenchmarkSubmit(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			dir := b.TempDir()
			house, err := sqlitetables.Open(b.Context(), sqlitetables.Config{Path: filepath.Join(dir, "warehouse.db"), Layout: accesslog.Layout()})
			if err != nil {
				b.Fatal(err)
			}
			defer house.Close()
			store, err := sqlitecounters.Open(b.Context(), sqlitecounters.Config{
				Path: filepath.Join(dir, "counters.db"), Pipeline: "p",
				Meaning: windowstore.Meaning{WindowDuration: time.Minute, EventTime: "payload", EventID: "message", RawTable: "raw", AggTable: "windowed_traffic"},
				Now:     time.Now,
			})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			committer := ingest.New(ingest.Config{
				Warehouse: house, Counter: store, IDKind: "message",
				Interval: time.Millisecond, QueueLength: 10_000, QueueBytes: 1 << 30, BatchRows: 1000, BatchBytes: 4 << 20,
				StepTimeout: 10 * time.Second,
				Now:         time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			})
			classifier := event.NewClassifier(event.Rules{Schema: accesslog.Schema(), Windows: window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute}, MaxClockSkew: 5 * time.Minute})
			published := time.Date(2026, 3, 14, 9, 26, 53, 713_000_000, time.UTC)

			b.ReportAllocs()
			var next atomic.Int64
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						m := event.Message{ID: fmt.Sprintf("%017d", i), PublishTime: published, PublishTimeSource: event.FromMessage, Data: []byte(payload)}
						if _, err := committer.Submit(b.Context(), m, classifier.Classify(m)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.StopTimer()
			if err := committer.Close(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
}
