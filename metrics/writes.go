package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// Steps are the kinds of writes.
const (
	raw        = "raw"
	deadLetter = "dead_letter"
	count      = "count"
	aggregate  = "aggregate"
)

// Outcomes of a write or a flush.
const (
	ok            = "ok"
	refused       = "refused"
	misconfigured = "misconfigured"
	failed        = "failed"
)

// writes are the metrics of the writes to the warehouse and the counters.
type writes struct {
	rows    *prometheus.HistogramVec // by step
	seconds *prometheus.HistogramVec // by step and outcome
}

func newWrites(auto promauto.Factory) writes {
	w := writes{
		rows: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "batch_rows",
			Help: "Rows in one write, whatever became of it, by step: raw (events), dead_letter (messages), count (event ids), aggregate (windows). " +
				"Mostly 1 under load means that rows are tried one by one, after a refusal that did not say which row; near BATCH_ROWS means that the batches cannot grow with the load.",
			Buckets: []float64{1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 50_000},
		}, []string{"step"}),
		seconds: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "commit_seconds",
			Help: "Seconds that one write took, by step (see tidemark_batch_rows) and outcome: ok; refused (of rows for their own value: the others are tried without them); " +
				"misconfigured (a table or the settings are not as they must be, and nothing is stored until a person has mended them: the log says what); failed (may pass by itself).",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"step", "outcome"}),
	}
	for _, step := range []string{raw, deadLetter, count, aggregate} {
		w.rows.WithLabelValues(step)
		for _, outcome := range []string{ok, refused, misconfigured, failed} {
			w.seconds.WithLabelValues(step, outcome)
		}
	}
	return w
}

// scanned is the metric of what queries read, by the name of the query.
type scanned struct{ bytes *prometheus.CounterVec }

func newScanned(auto promauto.Factory) scanned {
	s := scanned{auto.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "bigquery_scanned_bytes_total",
		Help: "Bytes that queries of BigQuery read, by query (it bills them, but at least 10 MB for each table of a query): count_raw (windows whose counters may have expired), audit, raw_rows and dead_letters (stored messages that are sent again). " +
			"count_raw in everyday traffic means that COUNTER_RETENTION is too short for how late events come.",
	}, []string{"query"})}
	for _, query := range []string{"count_raw", "audit", "raw_rows", "dead_letters"} {
		s.bytes.WithLabelValues(query)
	}
	return s
}

// Scanned notes that a query of the name has read so many bytes.
func (m *Metrics) Scanned(query string, bytes int64) {
	m.scanned.bytes.WithLabelValues(query).Add(float64(bytes))
}

// Warehouse returns next, with its appends measured. All else passes through.
func (m *Metrics) Warehouse(next warehouse.Warehouse) warehouse.Warehouse {
	return &measuredWarehouse{Warehouse: next, metrics: m}
}

type measuredWarehouse struct {
	warehouse.Warehouse
	metrics *Metrics
}

func (w *measuredWarehouse) AppendRaw(ctx context.Context, rows []warehouse.RawRow) error {
	return w.metrics.write(raw, len(rows), func() error { return w.Warehouse.AppendRaw(ctx, rows) })
}

func (w *measuredWarehouse) AppendDeadLetters(ctx context.Context, letters []warehouse.DeadLetter) error {
	return w.metrics.write(deadLetter, len(letters), func() error { return w.Warehouse.AppendDeadLetters(ctx, letters) })
}

func (w *measuredWarehouse) AppendCounts(ctx context.Context, rows []warehouse.WindowCount) error {
	return w.metrics.write(aggregate, len(rows), func() error { return w.Warehouse.AppendCounts(ctx, rows) })
}

// A Counter adds event keys to windows; a windowstore.Store is one.
type Counter interface {
	Register(ctx context.Context) error
	Add(ctx context.Context, increments []windowstore.Increment) error
}

// Counter returns next, with its Add measured. It has no method of a flush, which
// takes the store itself.
func (m *Metrics) Counter(next Counter) Counter { return &counter{m, next} }

type counter struct {
	metrics *Metrics
	next    Counter
}

func (c *counter) Register(ctx context.Context) error { return c.next.Register(ctx) }

func (c *counter) Add(ctx context.Context, increments []windowstore.Increment) error {
	keys := 0
	for _, increment := range increments {
		keys += len(increment.Keys)
	}
	return c.metrics.write(count, keys, func() error { return c.next.Add(ctx, increments) })
}

// write runs one write and measures it. A panic passes, and only the rows have
// been noted.
func (m *Metrics) write(step string, rows int, run func() error) error {
	m.writes.rows.WithLabelValues(step).Observe(float64(rows))
	start := m.now()
	err := run()
	m.writes.seconds.WithLabelValues(step, outcomeOf(err)).Observe(m.since(start))
	return err
}

func outcomeOf(err error) string {
	switch {
	case err == nil:
		return ok
	case is[*warehouse.RefusedError](err):
		return refused
	case is[*warehouse.TableError](err), is[*windowstore.MeaningError](err):
		return misconfigured
	}
	return failed
}

func is[E error](err error) bool {
	_, found := errors.AsType[E](err)
	return found
}
