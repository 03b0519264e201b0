package simulation

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// tables is the model of the warehouse: the rows in the order in which they were
// appended, and the queries over them. It never fails by itself: faultyTables adds the
// failures.
type tables struct {
	names   warehouse.Layout
	rows    map[string][]warehouse.Row // by table
	refuses func(warehouse.Row) bool   // reports the rows of the raw table that are refused for their own value
	naming  bool                       // whether a refusal names the rows that are at fault
	fault   func(warehouse.Row) bool   // reports the rows that do not fit the raw table after somebody changed it; nil if the table is right

	last   bool                    // a planted bug: the view takes the last count and not the greatest
	counts func(late []bool) int64 // how much one event adds to the count, given which of its stored deliveries are late
}

func newTables(names warehouse.Layout) *tables {
	return &tables{names: names, rows: map[string][]warehouse.Row{}, counts: onceIfOnTime}
}

// These are the columns that the queries read.
var (
	rawTable     = warehouse.RawTable(accesslog.Layout())
	logTable     = warehouse.AggLogTable(accesslog.Layout())
	letterTable  = warehouse.DeadLetterTable(accesslog.Layout())
	rawEventID   = column(rawTable.Table, "event_id")
	rawMessageID = column(rawTable.Table, "message_id")
	rawPublished = column(rawTable.Table, "publish_time")
	rawWindow    = column(rawTable.Table, "window_start")
	rawLate      = column(rawTable.Table, "is_late")
	rawUserAgent = column(rawTable.Table, "user_agent")
	rawNumBytes  = column(rawTable.Table, "num_bytes")
	logStart     = column(logTable.Table, "timestamp")
	logPageViews = column(logTable.Table, "page_views")
	logFinal     = column(logTable.Table, "is_final")
	logWrittenAt = column(logTable.Table, "written_at")
	letterID     = column(letterTable.Table, "message_id")
	letterData   = column(letterTable.Table, "data")
	letterReason = column(letterTable.Table, "reason")
)

func column(table warehouse.Table, name string) int {
	return slices.IndexFunc(table.Columns, func(c warehouse.Column) bool { return c.Name == name })
}

// These are the faults that the raw table may have: a column is gone, or is too short for
// some rows.
func columnDropped(warehouse.Row) bool      { return true }
func columnNarrowed(row warehouse.Row) bool { return row[rawNumBytes].(int64) >= 500 }

// append appends rows in the way of BigQuery's default stream: all of them or none. A
// refusal does not say whether the table is at fault.
func (t *tables) append(table string, rows []warehouse.Row) error {
	if table == t.names.Raw {
		refusal := &warehouse.RefusedError{Rows: map[int]error{}, Err: errors.New("rows have errors")}
		for i, row := range rows {
			if t.refuses(row) || t.fault != nil && t.fault(row) {
				refusal.Rows[i] = errors.New("value out of range")
			}
		}
		if len(refusal.Rows) > 0 {
			if !t.naming {
				refusal.Rows = nil
			}
			return refusal
		}
	}
	t.rows[table] = append(t.rows[table], rows...)
	return nil
}

// look compares a table with its schema. It returns an error if they differ.
func (t *tables) look(table string) error {
	if table == t.names.Raw && t.fault != nil {
		return &warehouse.TableError{Table: table, Err: errors.New("a column does not fit")}
	}
	return nil
}

// windowValue is a row of the aggregate's view.
type windowValue struct {
	pageViews int64
	final     bool
}

// view returns the aggregate's view: the greatest count of each window.
func (t *tables) view() map[time.Time]windowValue {
	values := map[time.Time]windowValue{}
	for _, row := range t.rows[t.names.AggLog()] {
		start, n := row[logStart].(time.Time), row[logPageViews].(int64)
		v := values[start]
		if n > v.pageViews || t.last {
			v.pageViews = n
		}
		v.final = v.final || row[logFinal].(bool)
		values[start] = v
	}
	return values
}

// onceIfOnTime counts an event once if at least one of its deliveries is on time.
func onceIfOnTime(late []bool) int64 {
	if slices.Contains(late, false) {
		return 1
	}
	return 0
}

func (t *tables) countRaw(start time.Time) (n int64) {
	late := map[string][]bool{} // by event id; the values are in the order of storing
	for _, row := range t.rows[t.names.Raw] {
		if row[rawWindow].(time.Time).Equal(start) {
			id := row[rawEventID].(string)
			late[id] = append(late[id], row[rawLate].(bool))
		}
	}
	for _, deliveries := range late {
		n += t.counts(deliveries)
	}
	return n
}

func (t *tables) audit(from, to time.Time, limit int) []warehouse.Discrepancy {
	starts := map[time.Time]bool{}
	for _, row := range t.rows[t.names.Raw] {
		starts[row[rawWindow].(time.Time)] = true
	}
	view := t.view()
	for start := range view {
		starts[start] = true
	}
	var lower, higher []warehouse.Discrepancy
	for _, start := range slices.SortedFunc(maps.Keys(starts), time.Time.Compare) {
		d := warehouse.Discrepancy{Start: start, PageViews: view[start].pageViews, Raw: t.countRaw(start)}
		if start.Before(from) || !start.Before(to) || d.PageViews == d.Raw {
			continue
		}
		if d.PageViews < d.Raw {
			lower = append(lower, d)
		} else {
			higher = append(higher, d)
		}
	}
	all := append(lower, higher...)
	return all[:min(limit, len(all))]
}

// faultyTables is how a process sees the warehouse: each use is a call, and the scheduler
// decides what becomes of it.
type faultyTables struct {
	bigquerytables.Appender
	warehouse.Archive // not set: the simulation sends no stored messages again
	w                 *world
	p                 *process
}

func (f faultyTables) Close() error { return nil }

// append looks at the table after a refusal, as [warehouse.Ingester] demands. The table
// may change between the refusal and the look.
func (f faultyTables) append(ctx context.Context, table warehouse.Table, rows []warehouse.Row) error {
	rows = slices.Clone(rows)
	err := f.w.call(ctx, f.p, "append "+table.Name, describeRows(table, rows), func() error {
		return f.w.tables.append(table.Name, rows)
	})
	if !errors.As(err, new(*warehouse.RefusedError)) {
		return err
	}
	return cmp.Or(f.w.call(ctx, f.p, "look at "+table.Name, "", func() error {
		return f.w.tables.look(table.Name)
	}), err)
}

func (f faultyTables) CountRaw(ctx context.Context, starts []time.Time) (counts []int64, err error) {
	starts = slices.Clone(starts)
	result, err := query(ctx, f.w, f.p, "count raw", describeTimes(starts), func() ([]int64, error) {
		counts := make([]int64, len(starts))
		for i, start := range starts {
			counts[i] = f.w.tables.countRaw(start)
		}
		return counts, nil
	})
	return result, err
}

func (f faultyTables) Audit(ctx context.Context, from, to time.Time, limit int) ([]warehouse.Discrepancy, error) {
	return query(ctx, f.w, f.p, "audit", "", func() ([]warehouse.Discrepancy, error) {
		return f.w.tables.audit(from, to, limit), nil
	})
}

func (f faultyTables) AuditBytes(context.Context, time.Time, time.Time) (int64, error) { return 0, nil }

// describeRows returns text that tells an append from others, for the trace.
func describeRows(table warehouse.Table, rows []warehouse.Row) string {
	text := ""
	for _, row := range rows {
		switch table.Name {
		case rawTable.Name:
			text += " " + row[rawMessageID].(string)
		case letterTable.Name:
			text += " " + row[letterID].(string) + ":" + row[letterReason].(string)
		case logTable.Name:
			text += " " + clock(row[logStart].(time.Time)) + "=" + itoa(row[logPageViews].(int64))
		}
	}
	return cmp.Or(text, " nothing")
}
