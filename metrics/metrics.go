// Package metrics counts and times what a process does, for Prometheus to
// scrape at GET /metrics.
//
// It works from outside: a decorator around each part measures what passes through the
// part, and the part does not know. The help text of a metric says what the metric
// means, in which unit, and what to do about it.
//
// All values are of one process since it started. So a query sums over instances, or
// takes the greatest. Every label value is there from the start, at zero: otherwise a
// rate would miss the first failure.
package metrics

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// prefix begins the name of every metric that is Tidemark's own.
const prefix = "tidemark_"

// Metrics are the metrics of one process, in a registry of their own. They are safe for
// concurrent use, and so is every decorator that a method returns.
type Metrics struct {
	now      func() time.Time
	registry *prometheus.Registry

	messages messages
	writes   writes
	flushes  flushes
	scanned  *prometheus.CounterVec // by query
	clock    prometheus.Gauge
	waiting  atomic.Pointer[func() int] // nil until QueueLength
}

// New returns metrics without any measurement. The decorators read the clock now.
func New(now func() time.Time) *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	auto := promauto.With(registry)
	m := &Metrics{
		now:      now,
		registry: registry,
		messages: newMessages(auto),
		writes:   newWrites(auto),
		flushes:  newFlushes(auto),
		scanned:  newScanned(auto),
		clock: auto.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "firestore_clock_ahead_seconds",
			Help: "Seconds by which Firestore's clock was ahead of this process's clock at its last answer; negative if it was behind. 0 if the clocks differ by less than the call took, or if the counters are in SQLite. " +
				"If it is over 60 or below -60, set this machine's clock. If it is over 300 or below -300, a flush can take the rest of expired counters for all of them.",
		}),
	}
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: prefix + "queue_length",
		Help: "Messages that wait for a batch, now. When the queue has QUEUE_LENGTH messages, pushes are refused: messages arrive faster than storage takes them.",
	}, m.queueLength)
	return m
}

// Handler serves GET /metrics: Tidemark's metrics, the Go runtime's and the
// process's, in whichever of Prometheus's formats the request asks for.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// QueueLength sets the function that each scrape calls for the number of waiting
// messages. Before that the number is 0.
func (m *Metrics) QueueLength(length func() int) { m.waiting.Store(&length) }

func (m *Metrics) queueLength() float64 {
	length := m.waiting.Load()
	if length == nil {
		return 0
	}
	return float64((*length)())
}

// ClockAhead sets how far Firestore's clock is ahead of this process's.
func (m *Metrics) ClockAhead(d time.Duration) { m.clock.Set(d.Seconds()) }

// since returns the seconds since start. It returns 0 if the clock was set back.
func (m *Metrics) since(start time.Time) float64 {
	return max(0, m.now().Sub(start).Seconds())
}
