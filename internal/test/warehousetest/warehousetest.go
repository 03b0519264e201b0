// Package warehousetest is the contract of [warehouse.Warehouse] as a test suite, which
// every implementation runs. The tables must hold exactly what was appended. The views
// must return the same, whatever was repeated, reordered or appended at the same time.
package warehousetest

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// A Harness opens the warehouses that the suite tests.
type Harness struct {
	// Open returns a new warehouse whose tables are empty and have the given layout, and
	// a function that queries them. If it cannot, it ends the test. The harness closes
	// the warehouse when the test ends. Sub-tests run in parallel, each with a warehouse
	// of its own.
	Open func(t *testing.T, l warehouse.Layout) (warehouse.Warehouse, Query)
}

// A Query runs one SELECT and returns its rows in order. The suite uses only SQL that
// means the same in GoogleSQL and in SQLite. A table name without a dataset is a table of
// the new warehouse.
type Query func(ctx context.Context, query string) ([]Row, error)

// A Row holds a row's values by column name. The value of NULL is nil. Any other value is
// a string, int64, float64, bool, []byte or time.Time in UTC, as the column's
// [warehouse.Type] says. Columns that only a view has follow the same rule: finalized_at
// and updated_at are times.
type Row map[string]any

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, group := range []struct {
		name  string
		tests []func(*testing.T, fixture)
	}{
		{"Raw", rawTests},
		{"Events", eventsTests},
		{"Counts", countsTests},
		{"DeadLetters", deadLetterTests},
		{"CountRaw", countRawTests},
		{"Audit", auditTests},
		{"Stored", storedTests},
		{"Calls", callTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, test := range group.tests {
				t.Run(promise(test), func(t *testing.T) {
					t.Parallel()
					test(t, h.open(t, accesslog.Layout()))
				})
			}
		})
	}
	t.Run("TablesHaveTheNamesGiven", func(t *testing.T) {
		t.Parallel()
		l := accesslog.Layout()
		l.Names = warehouse.Names{Raw: "Visits", Agg: "hits_2", DeadLetter: "bad"}
		tablesHaveTheNamesGiven(t, h.open(t, l), l.Names)
	})
}

// promise returns the name of a test function, which says what is promised.
func promise(test func(*testing.T, fixture)) string {
	name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
	name = name[strings.LastIndexByte(name, '.')+1:]
	return strings.ToUpper(name[:1]) + name[1:]
}

// A fixture is a new warehouse and a time around which its rows are. The time is near
// now, since a warehouse may refuse rows whose partition is years away.
type fixture struct {
	warehouse.Warehouse
	query Query
	now   time.Time
}

func (h Harness) open(t *testing.T, l warehouse.Layout) fixture {
	w, query := h.Open(t, l)
	return fixture{w, query, time.Now().UTC().Truncate(time.Microsecond)}
}

// minute returns the start of the i-th window of the tests.
func minute(i int) time.Time {
	return time.Date(2026, time.March, 14, 9, 26+i, 0, 0, time.UTC)
}

// raw returns a row of the event with the given id in the given window.
func (f fixture) raw(start time.Time, id string) warehouse.RawRow {
	lat, lng := 48.8566, 2.3522
	return warehouse.RawRow{
		Event: accesslog.Record{
			IP:           "198.51.100.23",
			UserID:       "-6120394857710293846",
			UserAgent:    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/534.18.4 (KHTML",
			Lat:          &lat,
			Lng:          &lng,
			Timestamp:    start.Add(26_589_793 * time.Microsecond),
			HTTPRequest:  `"GET fungi.html HTTP/1.0"`,
			HTTPResponse: 200,
			NumBytes:     287,
		}.Event(),
		ProcessingTime: f.now,
		EventID:        id,
		MessageID:      "message of " + id,
		PublishTime:    start.Add(27 * time.Second),
		WindowStart:    start,
	}
}

// late returns the row as it is for a delivery that was late.
func late(r warehouse.RawRow) warehouse.RawRow {
	r.Late = true
	return r
}

// published returns the row as it is for a delivery with the publish time t.
func published(r warehouse.RawRow, t time.Time) warehouse.RawRow {
	r.PublishTime = t
	return r
}

// edit changes the record of an event.
func edit(r *warehouse.RawRow, change func(*accesslog.Record)) {
	record := accesslog.Of(r.Event)
	change(&record)
	r.Event = record.Event()
}

// rawColumns returns what a query of the raw table must return for the row.
func rawColumns(r warehouse.RawRow) Row {
	a := accesslog.Of(r.Event)
	row := Row{
		"ip": a.IP, "user_id": a.UserID, "user_agent": a.UserAgent,
		"lat": nil, "lng": nil,
		"event_timestamp": a.Timestamp, "processing_timestamp": r.ProcessingTime,
		"http_request": a.HTTPRequest, "http_response": a.HTTPResponse, "num_bytes": a.NumBytes,
		"event_id": r.EventID, "message_id": r.MessageID, "publish_time": r.PublishTime,
		"window_start": r.WindowStart, "is_late": r.Late,
	}
	if a.Lat != nil {
		row["lat"] = *a.Lat
	}
	if a.Lng != nil {
		row["lng"] = *a.Lng
	}
	return row
}

func (f fixture) appendRaw(t *testing.T, rows ...warehouse.RawRow) {
	t.Helper()
	if err := f.AppendRaw(t.Context(), rows); err != nil {
		t.Fatalf("AppendRaw of %d rows: %v", len(rows), err)
	}
}

func (f fixture) appendCounts(t *testing.T, rows ...warehouse.WindowCount) {
	t.Helper()
	if err := f.AppendCounts(t.Context(), rows); err != nil {
		t.Fatalf("AppendCounts of %d rows: %v", len(rows), err)
	}
}

func (f fixture) appendDeadLetters(t *testing.T, letters ...warehouse.DeadLetter) {
	t.Helper()
	if err := f.AppendDeadLetters(t.Context(), letters); err != nil {
		t.Fatalf("AppendDeadLetters of %d letters: %v", len(letters), err)
	}
}

// rows returns the rows that the query finds.
func (f fixture) rows(t *testing.T, query string) []Row {
	t.Helper()
	rows, err := f.query(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return rows
}

// wantRows checks that the query returns exactly these rows, in this order.
func (f fixture) wantRows(t *testing.T, query string, want ...Row) {
	t.Helper()
	if diff := cmp.Diff(want, f.rows(t, query), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", query, diff)
	}
}

// id returns the i-th event id. The ids sort as their numbers do.
func id(i int) string { return fmt.Sprintf("event-%06d", i) }
