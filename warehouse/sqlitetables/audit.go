package sqlitetables

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// auditQuery returns the query of [Warehouse.Audit], with the bounds and the limit as
// parameters. Each of its two parts reads an index in order, and only the index.
func auditQuery(l warehouse.Layout) string {
	return `SELECT start, max(count) AS published, max(raw) AS stored
FROM (
  SELECT window_start AS start, 0 AS count, count(DISTINCT event_id) AS raw
  FROM ` + quote(l.Raw) + `
  WHERE window_start >= ?1 AND window_start < ?2 AND is_late = 0
  GROUP BY window_start
  UNION ALL
  SELECT timestamp, max(` + quote(l.Count) + `), 0
  FROM ` + quote(l.AggLog()) + `
  WHERE timestamp >= ?1 AND timestamp < ?2
  GROUP BY timestamp)
GROUP BY start
HAVING published <> stored
ORDER BY published > stored, start
LIMIT ?3`
}

// AuditBytes implements [warehouse.Comparer]. Nobody is billed for reading a file.
func (w *Warehouse) AuditBytes(context.Context, time.Time, time.Time) (int64, error) { return 0, nil }

// Audit compares the windows in one statement.
func (w *Warehouse) Audit(ctx context.Context, from, to time.Time, limit int) ([]warehouse.Discrepancy, error) {
	found, err := w.discrepancies(ctx, from, to, limit)
	if err != nil {
		return nil, fmt.Errorf("compare %s with %s from %s to %s in %s: %w",
			w.layout.AggLog(), w.layout.Raw, event.FormatFrom(from), event.FormatTime(to), w.path, err)
	}
	return found, nil
}

func (w *Warehouse) discrepancies(ctx context.Context, from, to time.Time, limit int) ([]warehouse.Discrepancy, error) {
	rows, err := w.audit.QueryContext(ctx, event.FormatTime(from), event.FormatTime(to), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []warehouse.Discrepancy
	for rows.Next() {
		var d warehouse.Discrepancy
		var start string
		if err := rows.Scan(&start, &d.PageViews, &d.Raw); err != nil {
			return nil, err
		}
		if d.Start, err = event.ParseTime(start); err != nil {
			return nil, fmt.Errorf("window start: %w", err) // this program did not write the row
		}
		found = append(found, d)
	}
	return found, rows.Err()
}
