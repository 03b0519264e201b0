package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// The steps: one for each kind of write.
const (
	raw        = "raw"
	deadLetter = "dead_letter"
	count      = "count"
	aggregate  = "aggregate"
)

// The outcomes of a write or a flush.
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
			Help: "Rows in one write, whatever its outcome, by step: raw (events), dead_letter (messages), count (event ids), aggregate (windows). " +
				"If most are 1 under load, rows are written one by one, after a refusal that did not name the row. If most are near BATCH_ROWS, the batches cannot grow with the load.",
			Buckets: []float64{1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 50_000},
		}, []string{"step"}),
		seconds: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "commit_seconds",
			Help: "Seconds that one write took, by step (see tidemark_batch_rows) and outcome: ok; refused (rows were refused for their own values: the other rows are written without them); " +
				"misconfigured (a table or a setting is wrong, and nothing is stored until an operator corrects it: the log says what is wrong); failed (the next attempt may succeed).",
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

// newScanned returns the metric of how much queries read, by the name of the query.
func newScanned(auto promauto.Factory) *prometheus.CounterVec {
	scanned := auto.NewCounterVec(prometheus.CounterOpts{
		Name: prefix + "bigquery_scanned_bytes_total",
		Help: "Bytes that queries of BigQuery read, by query: count_raw (windows whose counters may have expired), audit, raw_rows and dead_letters (stored messages that are sent again). BigQuery bills these bytes, but at least 10 MB for each table of a query. " +
			"If count_raw grows in everyday traffic, raise COUNTER_RETENTION: events come later than it allows for.",
	}, []string{"query"})
	for _, query := range []string{"count_raw", "audit", "raw_rows", "dead_letters"} {
		scanned.WithLabelValues(query)
	}
	return scanned
}

// Scanned adds the bytes that the named query has read.
func (m *Metrics) Scanned(query string, bytes int64) {
	m.scanned.WithLabelValues(query).Add(float64(bytes))
}

// Warehouse returns next with its appends measured. All other calls pass through.
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

// Counter returns next with its Add measured. A flush has no need of it: its methods of
// the counter store are not measured.
func (m *Metrics) Counter(next ingest.Counter) ingest.Counter { return &measuredCounter{next, m} }

type measuredCounter struct {
	ingest.Counter
	metrics *Metrics
}

func (c *measuredCounter) Add(ctx context.Context, increments []windowstore.Increment) error {
	keys := 0
	for _, increment := range increments {
		keys += len(increment.Keys)
	}
	return c.metrics.write(count, keys, func() error { return c.Counter.Add(ctx, increments) })
}

// write runs one write and measures it. A panic passes; then only the rows are measured.
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
