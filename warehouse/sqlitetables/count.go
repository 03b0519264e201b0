package sqlitetables

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// countRawQuery returns the query of [Warehouse.CountRaw]. Its parameter is a JSON
// array of window starts. So one statement, on one snapshot, counts any number of
// windows.
func countRawQuery(l warehouse.Layout) string {
	return `SELECT (SELECT count(DISTINCT event_id) FROM ` + quote(l.Raw) + `
        WHERE window_start = start.value AND is_late = 0)
FROM json_each(?) AS start ORDER BY start.key`
}

// CountRaw counts the windows in one statement. It reads only the given windows, and
// only from the index on window_start.
func (w *Warehouse) CountRaw(ctx context.Context, starts []time.Time) ([]int64, error) {
	if len(starts) == 0 {
		return nil, nil
	}
	counts, err := w.count(ctx, starts)
	if err != nil {
		return nil, fmt.Errorf("count %d windows of %s in %s: %w", len(starts), w.layout.Raw, w.path, err)
	}
	return counts, nil
}

func (w *Warehouse) count(ctx context.Context, starts []time.Time) ([]int64, error) {
	texts := make([]string, len(starts))
	for i, start := range starts {
		texts[i] = event.FormatTime(start)
	}
	parameter, err := json.Marshal(texts)
	if err != nil {
		return nil, err
	}
	rows, err := w.countRaw.QueryContext(ctx, string(parameter))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := make([]int64, 0, len(starts))
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		counts = append(counts, n)
	}
	return counts, rows.Err()
}
