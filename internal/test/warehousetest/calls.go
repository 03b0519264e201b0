package warehousetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/warehouse"
)

var callTests = []func(*testing.T, fixture){
	anAppendOfNothingWritesNothing,
	appendedRowsAreSeenByTheNextCall,
	concurrentAppendsAllArrive,
	countsAreReadWhileRowsAreAppended,
	aCallOnAnEndedContextFailsWithItsError,
}

func anAppendOfNothingWritesNothing(t *testing.T, f fixture) {
	f.appendRaw(t)
	f.appendDeadLetters(t)
	f.appendCounts(t)
	for _, table := range []string{"raw", "events", "dead_letter", "dead_letters", "windowed_traffic_log", "windowed_traffic"} {
		f.wantRows(t, "SELECT * FROM "+table)
	}
}

func appendedRowsAreSeenByTheNextCall(t *testing.T, f fixture) {
	for i := range 20 {
		f.appendRaw(t, f.raw(minute(0), id(i)))
		f.wantCounts(t, []time.Time{minute(0)}, int64(i+1))
		f.appendCounts(t, f.count(minute(0), int64(i+1), i))
		f.wantRows(t, labQuery, Row{"timestamp": minute(0), "page_views": int64(i + 1)})
		f.appendDeadLetters(t, f.letter(id(i), nil))
		f.wantRows(t, "SELECT COUNT(*) AS n FROM dead_letters", Row{"n": int64(i + 1)})
	}
}

func concurrentAppendsAllArrive(t *testing.T, f fixture) {
	const writers, appends = 8, 10
	var wg sync.WaitGroup
	for writer := range writers {
		wg.Go(func() {
			for i := range appends {
				n := writer*appends + i
				check := func(err error) {
					if err != nil {
						t.Errorf("append %d of writer %d: %v", i, writer, err)
					}
				}
				// Every writer also stores an event with the id "shared", which is the
				// same for all writers.
				check(f.AppendRaw(t.Context(), []warehouse.RawRow{f.raw(minute(0), id(n)), f.raw(minute(0), "shared")}))
				check(f.AppendCounts(t.Context(), []warehouse.WindowCount{f.count(minute(0), int64(n+1), n)}))
				check(f.AppendDeadLetters(t.Context(), []warehouse.DeadLetter{f.letter(id(n), []byte("data"))}))
			}
		})
	}
	wg.Wait()
	const all = int64(writers * appends)
	f.wantCounts(t, []time.Time{minute(0)}, all+1)
	f.wantRows(t, "SELECT COUNT(*) AS n FROM raw", Row{"n": 2 * all})
	f.wantRows(t, "SELECT COUNT(*) AS n FROM windowed_traffic_log", Row{"n": all})
	f.wantRows(t, "SELECT COUNT(*) AS n FROM dead_letters", Row{"n": all})
	f.wantRows(t, labQuery, Row{"timestamp": minute(0), "page_views": all})
}

func countsAreReadWhileRowsAreAppended(t *testing.T, f fixture) {
	const appends = 50
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range appends {
			if err := f.AppendRaw(t.Context(), []warehouse.RawRow{f.raw(minute(0), id(i))}); err != nil {
				t.Errorf("append %d: %v", i, err)
			}
		}
	})
	var last int64
	for range appends {
		counts, err := f.CountRaw(t.Context(), []time.Time{minute(0)})
		if err != nil {
			t.Errorf("CountRaw: %v", err)
			break
		}
		if counts[0] < last {
			t.Errorf("a count fell from %d to %d", last, counts[0])
		}
		last = counts[0]
	}
	wg.Wait()
	f.wantCounts(t, []time.Time{minute(0)}, appends)
}

func aCallOnAnEndedContextFailsWithItsError(t *testing.T, f fixture) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), f.now.Add(-time.Hour))
	defer cancel()
	for _, c := range []struct {
		ctx  context.Context
		want error
	}{{canceled, context.Canceled}, {expired, context.DeadlineExceeded}} {
		for name, call := range map[string]func() error{
			"AppendRaw": func() error { return f.AppendRaw(c.ctx, []warehouse.RawRow{f.raw(minute(0), id(1))}) },
			"AppendDeadLetters": func() error {
				return f.AppendDeadLetters(c.ctx, []warehouse.DeadLetter{f.letter("1", nil)})
			},
			"AppendCounts": func() error {
				return f.AppendCounts(c.ctx, []warehouse.WindowCount{f.count(minute(0), 1, 1)})
			},
			"CountRaw": func() error { _, err := f.CountRaw(c.ctx, []time.Time{minute(0)}); return err },
		} {
			if err := call(); !errors.Is(err, c.want) {
				t.Errorf("%s: error %v, want one that wraps %v", name, err, c.want)
			}
		}
	}
	// The warehouse still works afterwards.
	f.appendRaw(t, f.raw(minute(1), id(1)))
	f.wantCounts(t, []time.Time{minute(1)}, 1)
}

func tablesHaveTheNamesGiven(t *testing.T, f fixture, n warehouse.Names) {
	f.appendRaw(t, f.raw(minute(0), id(1)), f.raw(minute(0), id(1)))
	f.appendCounts(t, f.final(minute(0), 1, 1), f.final(minute(0), 1, 2))
	f.appendDeadLetters(t, f.letter("1", nil), f.letter("1", nil))
	f.wantCounts(t, []time.Time{minute(0)}, 1)
	f.wantAudit(t)
	for name, want := range map[string]int64{
		n.Raw: 2, n.Events(): 1, n.AggLog(): 2, n.Agg: 1, n.DeadLetter: 2, n.DeadLetters(): 1,
	} {
		f.wantRows(t, "SELECT COUNT(*) AS n FROM "+name, Row{"n": want})
	}
}
