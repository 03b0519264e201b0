package metrics

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/flush"
)

// flushing returns a flush that takes some time and reports r.
func flushing(m *Metrics, c *clock, takes time.Duration, r *flush.Report) func(context.Context) flush.Report {
	return m.Flush(func(context.Context) flush.Report {
		c.advance(takes)
		return *r
	})
}

func TestFlushesAreMeasuredByTheirReports(t *testing.T) {
	t.Parallel()
	m, clock := newMetrics()
	var report flush.Report
	run := flushing(m, clock, 500*time.Millisecond, &report)

	report = flush.Report{Windows: make([]flush.Window, 3), Held: 2, Remaining: 4}
	if diff := cmp.Diff(report, run(t.Context())); diff != "" {
		t.Errorf("report (-want +got)\n%s", diff)
	}
	first := float64(clock.UnixMilli()) / 1000 // the time when the flush ended
	expect(t, m, map[string]float64{
		`flushes_total{outcome="ok"}`:          1,
		"flush_seconds_count":                  1,
		"flush_seconds_sum":                    0.5,
		"flush_windows_total":                  3,
		"flush_windows_held":                   2,
		"flush_windows_remaining":              4,
		"flush_last_success_timestamp_seconds": first,
	})

	// If a flush fails in part, what it did is counted, but it is not counted as a
	// success.
	report = flush.Report{Windows: make([]flush.Window, 1), Held: 1, Errors: []error{errors.New("one"), errors.New("two")}}
	run(t.Context())
	expect(t, m, map[string]float64{
		`flushes_total{outcome="ok"}`:          1,
		`flushes_total{outcome="failed"}`:      1,
		"flush_seconds_count":                  2,
		"flush_seconds_sum":                    1,
		"flush_windows_total":                  4,
		"flush_windows_held":                   1,
		"flush_errors_total":                   2,
		"flush_last_success_timestamp_seconds": first,
	})

	// A flush that has nothing to do is a success.
	report = flush.Report{}
	run(t.Context())
	if got, want := samples(t, m)["flush_last_success_timestamp_seconds"], first+1; got != want {
		t.Errorf("last success at %v, want %v", got, want)
	}
}

func TestAFlushThatPanicsIsNoSuccess(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	run := m.Flush(func(context.Context) flush.Report { panic("a bug") })
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was not passed on")
			}
		}()
		run(t.Context())
	}()
	expect(t, m, map[string]float64{})
}

func TestFlushPassesTheContextOn(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	type key struct{}
	var got any
	run := m.Flush(func(ctx context.Context) flush.Report {
		got = ctx.Value(key{})
		return flush.Report{}
	})
	run(context.WithValue(t.Context(), key{}, "here"))
	if got != "here" {
		t.Errorf("the flush did not get the caller's context")
	}
}
