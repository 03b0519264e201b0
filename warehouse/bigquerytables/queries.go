package bigquerytables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/iterator"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// maxStarts is how many windows one query counts. Each window takes some 60 bytes of
// the request, so the request stays far below the 10 MB that a query with its
// parameters may have.
const maxStarts = 20_000

// CountRaw implements [warehouse.Aggregate]. Every 20,000 windows need a query, which
// reads its own snapshot.
func (b *Warehouse) CountRaw(ctx context.Context, starts []time.Time) ([]int64, error) {
	var counts []int64
	for chunk := range slices.Chunk(starts, maxStarts) {
		n, err := b.countRaw(ctx, chunk)
		if err != nil {
			return nil, fmt.Errorf("count %d windows of %s: %w", len(chunk), b.tableID(b.cfg.Layout.Raw), err)
		}
		counts = append(counts, n...)
	}
	return counts, nil
}

func (b *Warehouse) countRaw(ctx context.Context, starts []time.Time) ([]int64, error) {
	w := where{}
	w.add("NOT is_late")
	w.add("window_start IN UNNEST(@starts)", param("starts", starts))
	w.addEarliest(slices.MinFunc(starts, time.Time.Compare), b.cfg.MaxAhead)
	rows, err := b.query(ctx, "count_raw", `SELECT window_start, COUNT(DISTINCT event_id)
FROM `+b.from(b.cfg.Layout.Raw)+w.sql()+`
GROUP BY window_start`, w.parameters)
	if err != nil {
		return nil, err
	}
	found := map[int64]int64{} // by microsecond
	for {
		row, err := nextRow(rows)
		if err != nil {
			return nil, err
		}
		if row == nil {
			break
		}
		found[row.time(0).UnixMicro()] = row.int(1)
		if row.err != nil {
			return nil, row.err
		}
	}
	counts := make([]int64, len(starts))
	for i, start := range starts {
		counts[i] = found[start.UnixMicro()]
	}
	return counts, nil
}

// Audit implements [warehouse.Comparer].
func (b *Warehouse) Audit(ctx context.Context, from, to time.Time, limit int) ([]warehouse.Discrepancy, error) {
	found, err := b.discrepancies(ctx, from, to, limit)
	if err != nil {
		return nil, fmt.Errorf("compare %s with %s from %s to %s: %w", b.tableID(b.cfg.Layout.AggLog()),
			b.tableID(b.cfg.Layout.Raw), event.FormatFrom(from), event.FormatTime(to), err)
	}
	return found, nil
}

// AuditBytes implements [warehouse.Comparer] by a dry run of the query, which is
// free. BigQuery prunes by clusters only while it reads. So the audit reads no more
// than the dry run says, and often less:
// https://cloud.google.com/bigquery/docs/best-practices-costs
func (b *Warehouse) AuditBytes(ctx context.Context, from, to time.Time) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.QueryTimeout)
	defer cancel()
	sql, parameters := b.auditQuery(from, to, 1)
	q := b.client.Query(sql)
	q.Parameters = parameters
	q.DryRun, q.DisableQueryCache = true, true
	job, err := q.Run(ctx)
	if isNotFound(err) {
		if err = b.checkDataset(ctx); err == nil || isNotFound(err) {
			return 0, nil // there is no table yet
		}
	}
	if err != nil {
		return 0, fmt.Errorf("estimate an audit of %s: %w", b.tableID(b.cfg.Layout.Raw), err)
	}
	return bytesProcessed(job.LastStatus()), nil
}

// bytesProcessed returns how many bytes a query has read, or would read.
func bytesProcessed(status *bigquery.JobStatus) int64 {
	if status.Statistics == nil {
		return 0
	}
	return status.Statistics.TotalBytesProcessed
}

// auditQuery returns the query of Audit. Of the raw rows it reads only the partitions
// that can hold rows of the windows.
func (b *Warehouse) auditQuery(from, to time.Time, limit int) (sql string, parameters []bigquery.QueryParameter) {
	raw, log := where{}, where{}
	raw.add("NOT is_late")
	raw.addRange("window_start", from, to)
	raw.addEarliest(from, b.cfg.MaxAhead)
	log.addRange("timestamp", from, to) // uses the parameters of raw
	return `SELECT start, published, stored
FROM (
  SELECT start, MAX(published) AS published, MAX(stored) AS stored
  FROM (
    SELECT window_start AS start, 0 AS published, COUNT(DISTINCT event_id) AS stored
    FROM ` + b.from(b.cfg.Layout.Raw) + raw.sql() + `
    GROUP BY window_start
    UNION ALL
    SELECT timestamp AS start, MAX(` + quote(b.cfg.Layout.Count) + `) AS published, 0 AS stored
    FROM ` + b.from(b.cfg.Layout.AggLog()) + log.sql() + `
    GROUP BY timestamp)
  GROUP BY start)
WHERE published <> stored
ORDER BY published > stored, start
LIMIT @limit`, append(raw.parameters, param("limit", limit))
}

func (b *Warehouse) discrepancies(ctx context.Context, from, to time.Time, limit int) ([]warehouse.Discrepancy, error) {
	sql, parameters := b.auditQuery(from, to, limit)
	rows, err := b.query(ctx, "audit", sql, parameters)
	if err != nil {
		return nil, err
	}
	var found []warehouse.Discrepancy
	for {
		row, err := nextRow(rows)
		if err != nil {
			return nil, err
		}
		if row == nil {
			return found, nil
		}
		found = append(found, warehouse.Discrepancy{Start: row.time(0), PageViews: row.int(1), Raw: row.int(2)})
		if row.err != nil {
			return nil, row.err
		}
	}
}

// query runs a query to its end and returns its rows. All rows come from one
// snapshot, and do not change however long reading takes.
func (b *Warehouse) query(ctx context.Context, name, sql string, parameters []bigquery.QueryParameter) (rows *bigquery.RowIterator, err error) {
	err = b.withTables(ctx, func() error {
		rows, err = b.run(ctx, name, sql, parameters)
		return restError(err)
	})
	return rows, err
}

func (b *Warehouse) run(ctx context.Context, name, sql string, parameters []bigquery.QueryParameter) (*bigquery.RowIterator, error) {
	running, cancel := context.WithTimeout(ctx, b.cfg.QueryTimeout)
	defer cancel()
	deadline, _ := running.Deadline()
	q := b.client.Query(sql)
	q.Parameters = parameters
	q.DisableQueryCache = true
	q.JobTimeout = time.Until(deadline) // so that BigQuery stops a query that nobody waits for
	job, err := q.Run(running)
	if err != nil {
		return nil, err
	}
	status, err := job.Wait(running)
	if err == nil {
		err = status.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("query job %s: %w", job.ID(), err)
	}
	if b.cfg.Scanned != nil {
		b.cfg.Scanned(name, bytesProcessed(status))
	}
	return job.Read(ctx)
}

// A where collects the conditions of a query and their parameters.
type where struct {
	conditions []string
	parameters []bigquery.QueryParameter
}

func (w *where) add(condition string, parameters ...bigquery.QueryParameter) {
	w.conditions = append(w.conditions, condition)
	w.parameters = append(w.parameters, parameters...)
}

// lastInstant is the last time that a TIMESTAMP can hold.
var lastInstant = warehouse.StorableTime(time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC))

// addRange adds the condition that the column is at or after from and before to, both
// truncated to the microsecond. A bound that a TIMESTAMP cannot hold is no bound.
func (w *where) addRange(column string, from, to time.Time) {
	w.add(column+" >= @from", param("from", warehouse.StorableTime(from.UTC())))
	if !to.After(lastInstant) {
		w.add(column+" < @to", param("to", to))
	}
}

// addEarliest adds the condition that a row was processed no earlier than a row of
// the window that starts at start can have been. There is no latest time, because old
// logs may be replayed at any time.
func (w *where) addEarliest(start time.Time, maxAhead time.Duration) {
	if maxAhead > 0 && start.Year() > 1 {
		w.add("processing_timestamp >= @earliest", param("earliest", start.Add(-maxAhead)))
	}
}

func (w *where) sql() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return "\nWHERE " + strings.Join(w.conditions, " AND ")
}

// param returns a parameter. Its times are in UTC and truncated to the microsecond,
// as the columns are.
func param(name string, value any) bigquery.QueryParameter {
	switch v := value.(type) {
	case time.Time:
		value = time.UnixMicro(v.UnixMicro()).UTC()
	case []time.Time:
		times := make([]time.Time, len(v))
		for i, t := range v {
			times[i] = time.UnixMicro(t.UnixMicro()).UTC()
		}
		value = times
	}
	return bigquery.QueryParameter{Name: name, Value: value}
}

// A row has the values of a row that was read. err is set by the first value that
// does not have the requested type.
type row struct {
	values []bigquery.Value
	err    error
}

// nextRow returns the next row, or nil after the last.
func nextRow(rows *bigquery.RowIterator) (*row, error) {
	var r row
	switch err := rows.Next(&r.values); {
	case errors.Is(err, iterator.Done):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &r, nil
}

func (r *row) time(i int) time.Time { return value[time.Time](r, i).UTC() }
func (r *row) int(i int) int64      { return value[int64](r, i) }

// value returns the i-th value. For NULL it returns the zero value of the type.
func value[T any](r *row, i int) (v T) {
	if r.values[i] == nil {
		return v
	}
	v, ok := r.values[i].(T)
	if !ok && r.err == nil {
		r.err = fmt.Errorf("column %d of the answer is %T, want %T", i+1, r.values[i], v)
	}
	return v
}
