package metrics

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// A stubWarehouse is a warehouse and a counter store that stores nothing. Its writes
// panic, or return err.
type stubWarehouse struct {
	warehouse.Warehouse // nil: for methods that no test calls

	during func(rows int) // called during a write if set
	panics bool
	err    error
	closed bool
}

func (w *stubWarehouse) write(rows int) error {
	if w.panics {
		panic("a bug")
	}
	if w.during != nil {
		w.during(rows)
	}
	return w.err
}

func (w *stubWarehouse) AppendRaw(_ context.Context, rows []warehouse.RawRow) error {
	return w.write(len(rows))
}

func (w *stubWarehouse) AppendDeadLetters(_ context.Context, letters []warehouse.DeadLetter) error {
	return w.write(len(letters))
}

func (w *stubWarehouse) AppendCounts(_ context.Context, rows []warehouse.WindowCount) error {
	return w.write(len(rows))
}

func (w *stubWarehouse) Register(context.Context) error { return nil }

func (w *stubWarehouse) Add(_ context.Context, increments []windowstore.Increment) error {
	rows := 0
	for _, increment := range increments {
		rows += len(increment.Keys)
	}
	return w.write(rows)
}

func (w *stubWarehouse) CountRaw(_ context.Context, starts []time.Time) ([]int64, error) {
	return make([]int64, len(starts)), w.err
}

func (w *stubWarehouse) Close() error {
	w.closed = true
	return w.err
}

func TestWritesAreMeasuredByStepAndOutcome(t *testing.T) {
	t.Parallel()
	steps := []struct {
		step  string
		write func(context.Context, *Metrics, *stubWarehouse) error // writes five rows
	}{
		{"raw", func(ctx context.Context, m *Metrics, w *stubWarehouse) error {
			return m.Warehouse(w).AppendRaw(ctx, make([]warehouse.RawRow, 5))
		}},
		{"dead_letter", func(ctx context.Context, m *Metrics, w *stubWarehouse) error {
			return m.Warehouse(w).AppendDeadLetters(ctx, make([]warehouse.DeadLetter, 5))
		}},
		{"aggregate", func(ctx context.Context, m *Metrics, w *stubWarehouse) error {
			return m.Warehouse(w).AppendCounts(ctx, make([]warehouse.WindowCount, 5))
		}},
		{"count", func(ctx context.Context, m *Metrics, w *stubWarehouse) error {
			return m.Counter(w).Add(ctx, []windowstore.Increment{
				{Keys: make([]windowstore.Key, 2)}, {Keys: make([]windowstore.Key, 3)},
			})
		}},
	}
	outcomes := []struct {
		outcome string
		err     error
	}{
		{"ok", nil},
		{"refused", fmt.Errorf("append: %w", &warehouse.RefusedError{Err: errors.New("out of range")})},
		{"misconfigured", fmt.Errorf("append: %w", &warehouse.TableError{Table: "raw", Err: errors.New("no column ip")})},
		{"misconfigured", fmt.Errorf("add: %w", &windowstore.MeaningError{Pipeline: "default"})},
		{"failed", errors.New("away")},
		{"failed", context.DeadlineExceeded},
	}
	for _, s := range steps {
		for _, o := range outcomes {
			t.Run(fmt.Sprintf("%s: %v", s.step, o.err), func(t *testing.T) {
				t.Parallel()
				m, clock := newMetrics()
				passed := 0
				w := &stubWarehouse{err: o.err, during: func(rows int) {
					clock.advance(250 * time.Millisecond)
					passed += rows
				}}
				if err := s.write(t.Context(), m, w); err != o.err {
					t.Errorf("error %v, want that of the warehouse: %v", err, o.err)
				}
				if passed != 5 {
					t.Errorf("%d rows passed on, want 5", passed)
				}
				series := fmt.Sprintf("{outcome=%q,step=%q}", o.outcome, s.step)
				expect(t, m, map[string]float64{
					fmt.Sprintf("batch_rows_count{step=%q}", s.step): 1,
					fmt.Sprintf("batch_rows_sum{step=%q}", s.step):   5,
					"commit_seconds_count" + series:                  1,
					"commit_seconds_sum" + series:                    0.25,
				})
			})
		}
	}
}

func TestScannedBytesAreSummedByQuery(t *testing.T) {
	t.Parallel()
	m := New(time.Now)
	m.Scanned("audit", 10<<20)
	m.Scanned("audit", 1)
	m.Scanned("count_raw", 7)
	for query, want := range map[string]float64{"audit": 10<<20 + 1, "count_raw": 7, "raw_rows": 0, "dead_letters": 0} {
		if got := samples(t, m)[`bigquery_scanned_bytes_total{query="`+query+`"}`]; got != want {
			t.Errorf("%s: %v bytes, want %v", query, got, want)
		}
	}
}

// BigQuery bills more bytes than a query reads. Whoever sets up an alert must learn this
// from the metric's help.
func TestTheHelpOfScannedBytesNamesTheLeastThatIsBilled(t *testing.T) {
	t.Parallel()
	descriptions := descriptions(t, New(time.Now))
	for _, d := range descriptions {
		if d.Name == prefix+"bigquery_scanned_bytes_total" && strings.Contains(d.Help, "at least 10 MB for each table") {
			return
		}
	}
	t.Errorf("no help says that at least 10 MB are billed: %+v", descriptions)
}

func TestAWriteThatPanicsIsNoSuccess(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was not passed on")
			}
		}()
		_ = m.Warehouse(&stubWarehouse{panics: true}).AppendRaw(t.Context(), make([]warehouse.RawRow, 5))
	}()
	expect(t, m, map[string]float64{`batch_rows_count{step="raw"}`: 1, `batch_rows_sum{step="raw"}`: 5})
}

func TestWhatIsNoAppendPassesThroughUnmeasured(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	next := &stubWarehouse{err: errors.New("away")}
	w := m.Warehouse(next)
	if counts, err := w.CountRaw(t.Context(), make([]time.Time, 3)); len(counts) != 3 || err != next.err {
		t.Errorf("CountRaw returned %v, %v", counts, err)
	}
	if err := w.Close(); !next.closed || err != next.err {
		t.Errorf("Close returned %v; closed: %v", err, next.closed)
	}
	expect(t, m, map[string]float64{})
}
