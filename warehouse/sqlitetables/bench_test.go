package sqlitetables_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/sqlitetables"
)

// labRows returns n rows of the lab's size. Their ids are numbers from first on, and 120
// of them are in each window.
func labRows(first, n int) []warehouse.RawRow {
	lat, lng := 48.8566, 2.3522
	rows := make([]warehouse.RawRow, n)
	for i := range rows {
		id := fmt.Sprint(8_000_000_000_000_000 + first + i)
		start := time.Unix(int64((first+i)/120)*60, 0).UTC()
		rows[i] = warehouse.RawRow{
			Event: accesslog.Record{
				IP: "198.51.100.23", UserID: "-6120394857710293846",
				UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/534.18.4 (KHTML",
				Lat:       &lat, Lng: &lng, Timestamp: start.Add(26 * time.Second),
				HTTPRequest: `"GET fungi.html HTTP/1.0"`, HTTPResponse: 200, NumBytes: 287,
			}.Event(),
			ProcessingTime: start.Add(27 * time.Second), EventID: id, MessageID: id,
			PublishTime: start.Add(27 * time.Second), WindowStart: start,
		}
	}
	return rows
}

// filled returns a warehouse with n rows of the lab's size.
func filled(b *testing.B, n int) *sqlitetables.Warehouse {
	b.Helper()
	w := open(b, filepath.Join(b.TempDir(), "warehouse.db"), accesslog.Layout())
	if err := w.AppendRaw(context.Background(), labRows(0, n)); err != nil {
		b.Fatal(err)
	}
	return w
}

func BenchmarkAppendRaw(b *testing.B) {
	for _, rows := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			w := filled(b, 0)
			next := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				batch := labRows(next, rows)
				next += rows
				b.StartTimer()
				if err := w.AppendRaw(context.Background(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
		})
	}
}

func BenchmarkAppendDeadLetters(b *testing.B) {
	for _, size := range []int{300, warehouse.MaxPart, 10_000_000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			w := filled(b, 0)
			letter := []warehouse.DeadLetter{{Message: event.Message{ID: "1", Data: make([]byte, size)}}}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.AppendDeadLetters(context.Background(), letter); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCountRaw(b *testing.B) {
	const rows = 240_000
	for _, windows := range []int{1, 100, 2000} {
		b.Run(fmt.Sprintf("rows=%d/windows=%d", rows, windows), func(b *testing.B) {
			w := filled(b, rows)
			starts := make([]time.Time, windows)
			for i := range starts {
				starts[i] = time.Unix(int64(i)*60, 0)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.CountRaw(context.Background(), starts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
