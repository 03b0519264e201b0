// Package metrics counts and times what a process does, for Prometheus to
// scrape at GET /metrics.
//
// It works from outside: each part is wrapped in a decorator that measures what
// passes through it, and knows nothing of that. What a metric means, in which
// unit, and what to do about it is its help text; [Metrics.Descriptions] has
// them all.
//
// All values are of one process since it started, so queries sum, or take the
// greatest, over instances. Every label value is there from the start, at zero:
// a rate that begins with the first failure would miss it.
package metrics

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// prefix begins the name of every metric of Tidemark's own.
const prefix = "tidemark_"

// Metrics are the metrics of one process, in a registry of their own. It is safe
// for concurrent use, and so is every decorator it returns.
type Metrics struct {
	now      func() time.Time
	registry *prometheus.Registry

	messages messages
	writes   writes
	flushes  flushes
	scanned  scanned
	clock    prometheus.Gauge
	waiting  atomic.Pointer[func() int] // nil until QueueLength
}

// New returns metrics that have measured nothing yet. The clock times what
// passes through the decorators.
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
			Help: "Seconds by which Firestore's clock was ahead of this process's at its last answer, or behind if negative; 0 if they do not differ by more than the call took, or the counters are in SQLite. " +
				"Beyond 60 either way, set this machine's clock: beyond 300 a flush can take the rest of expired counters for all of them.",
		}),
	}
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: prefix + "queue_length",
		Help: "Messages that wait for a batch, now. Near QUEUE_LENGTH pushes are about to be refused: storage is slower than what arrives.",
	}, m.queueLength)
	return m
}

// Handler serves GET /metrics: Tidemark's metrics, the Go runtime's and the
// process's, in whichever of Prometheus's formats the request asks for.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// QueueLength has each scrape ask length how many messages wait. Until it is
// called that is none.
func (m *Metrics) QueueLength(length func() int) { m.waiting.Store(&length) }

func (m *Metrics) queueLength() float64 {
	length := m.waiting.Load()
	if length == nil {
		return 0
	}
	return float64((*length)())
}

// ClockAhead notes how far Firestore's clock is ahead of this process's.
func (m *Metrics) ClockAhead(d time.Duration) { m.clock.Set(d.Seconds()) }

// since returns the seconds since start. They are never negative, though a clock
// may be set back.
func (m *Metrics) since(start time.Time) float64 {
	return max(0, m.now().Sub(start).Seconds())
}

// A Description says what one metric is.
type Description struct {
	Name   string
	Type   string   // counter, gauge or histogram
	Labels []string // names, sorted
	Help   string   // meaning, unit, and what to do about it where there is something
}

// Descriptions returns Tidemark's own metrics, sorted by name, for what
// documents them. It returns an error if they cannot be gathered, which would be
// a bug that every scrape meets too.
func (m *Metrics) Descriptions() ([]Description, error) {
	families, err := m.registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	var descriptions []Description
	for _, family := range families { // sorted by name
		if !strings.HasPrefix(family.GetName(), prefix) {
			continue
		}
		var labels []string
		for _, pair := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		slices.Sort(labels)
		descriptions = append(descriptions, Description{
			Name:   family.GetName(),
			Type:   strings.ToLower(family.GetType().String()),
			Labels: labels,
			Help:   family.GetHelp(),
		})
	}
	return descriptions, nil
}
