package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tidemark-dev/tidemark/flush"
)

// flushes are the metrics of flush runs.
type flushes struct {
	runs        *prometheus.CounterVec // by outcome
	seconds     prometheus.Histogram
	windows     prometheus.Counter
	held        prometheus.Gauge
	remaining   prometheus.Gauge
	errors      prometheus.Counter
	lastSuccess prometheus.Gauge
}

func newFlushes(auto promauto.Factory) flushes {
	f := flushes{
		runs: auto.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "flushes_total",
			Help: "Flushes that ended, by outcome: ok, or failed where any part did; the next flush repeats that part.",
		}, []string{"outcome"}),
		seconds: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    prefix + "flush_seconds",
			Help:    "Seconds that one flush took. Near FLUSH_TIMEOUT it leaves windows for the next: see tidemark_flush_windows_remaining.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 45, 60},
		}),
		windows: auto.NewCounter(prometheus.CounterOpts{
			Name: prefix + "flush_windows_total",
			Help: "Window counts written to the aggregate. A window that is written again, with a greater count or as final, is here again.",
		}),
		held: auto.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "flush_windows_held",
			Help: "Due windows that the last flush left alone because they were still being written, as while a backlog drains. It ends by itself, within FLUSH_HOLD_MAX for each.",
		}),
		remaining: auto.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "flush_windows_remaining",
			Help: "Due windows that the last flush left to the next because it had reached its limit of windows or time; it looks no further then, so there may be more. " +
				"If it is over 0 for long after a backlog, raise FLUSH_MAX_WINDOWS, or FLUSH_TIMEOUT where flushes take as long as that, or flush more often.",
		}),
		errors: auto.NewCounter(prometheus.CounterOpts{
			Name: prefix + "flush_errors_total",
			Help: "Errors in the reports of flushes. The next flush repeats what failed; if they go on, POST /flush answers them in full, and the log has the first of each flush.",
		}),
		lastSuccess: auto.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "flush_last_success_timestamp_seconds",
			Help: "When this process last ended a flush without an error, in Unix seconds; 0 if it has not yet. " +
				"If the greatest over all instances grows old, counts are no longer published: look at tidemark_flush_errors_total, and, if that stands still, at the scheduler.",
		}),
	}
	for _, outcome := range []string{ok, failed} {
		f.runs.WithLabelValues(outcome)
	}
	return f
}

// Flush returns run, with every run measured when it has ended. The report
// passes unchanged.
func (m *Metrics) Flush(run func(ctx context.Context) flush.Report) func(ctx context.Context) flush.Report {
	return func(ctx context.Context) flush.Report {
		start := m.now()
		report := run(ctx)
		m.flushes.seconds.Observe(m.since(start))
		m.flushes.windows.Add(float64(len(report.Windows)))
		m.flushes.held.Set(float64(report.Held))
		m.flushes.remaining.Set(float64(report.Remaining))
		m.flushes.errors.Add(float64(len(report.Errors)))
		if len(report.Errors) > 0 {
			m.flushes.runs.WithLabelValues(failed).Inc()
			return report
		}
		m.flushes.runs.WithLabelValues(ok).Inc()
		// Last: whoever sees this instant can count on all the rest.
		m.flushes.lastSuccess.Set(float64(m.now().UnixMicro()) / 1e6)
		return report
	}
}
