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
			Help: "Flushes that ended, by outcome: ok, or failed if any part failed. The next flush repeats that part.",
		}, []string{"outcome"}),
		seconds: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    prefix + "flush_seconds",
			Help:    "Seconds that one flush took. A flush that takes about FLUSH_TIMEOUT leaves windows to the next flush: see tidemark_flush_windows_remaining.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 45, 60},
		}),
		windows: auto.NewCounter(prometheus.CounterOpts{
			Name: prefix + "flush_windows_total",
			Help: "Window counts written to the aggregate. A window that is written again, with a greater count or as final, counts again.",
		}),
		held: auto.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "flush_windows_held",
			Help: "Due windows that the last flush held back because events were still being added to them, for example while a backlog drains. No action is needed: a window is held back for FLUSH_HOLD_MAX at most.",
		}),
		remaining: auto.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "flush_windows_remaining",
			Help: "Due windows that the last flush left to the next flush, because it had reached its limit of windows or time. It looks no further then, so there may be more. " +
				"If this is over 0 for long after a backlog, raise FLUSH_MAX_WINDOWS, or flush more often; if flushes take about FLUSH_TIMEOUT, raise FLUSH_TIMEOUT.",
		}),
		errors: auto.NewCounter(prometheus.CounterOpts{
			Name: prefix + "flush_errors_total",
			Help: "Errors in the reports of flushes. The next flush repeats what failed. If errors go on, read them: the answer of POST /flush has all errors of a flush, and the log has the first.",
		}),
		lastSuccess: auto.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "flush_last_success_timestamp_seconds",
			Help: "When this process last ended a flush without an error, in Unix seconds; 0 if there was no such flush yet. " +
				"If the greatest value of all instances is old, counts are no longer published: look at tidemark_flush_errors_total, and if that metric does not grow, at the scheduler.",
		}),
	}
	for _, outcome := range []string{ok, failed} {
		f.runs.WithLabelValues(outcome)
	}
	return f
}

// Flush returns run with every run measured when it ends. The report passes unchanged.
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
		// Set last: a reader of this metric can rely on all others.
		m.flushes.lastSuccess.Set(float64(m.now().UnixMicro()) / 1e6)
		return report
	}
}
