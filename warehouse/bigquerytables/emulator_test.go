package bigquerytables_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/internal/test/emulator"
	"github.com/tidemark-dev/tidemark/internal/test/membigquery"
	"github.com/tidemark-dev/tidemark/internal/test/warehousetest"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// A place is a BigQuery that only one test uses.
type place struct {
	rest, grpc, project string
	memory              *membigquery.Server // nil if it is the emulator
}

// onEach runs the test on BigQuery's APIs in memory, and also on the emulator if there is
// one.
func onEach(t *testing.T, test func(t *testing.T, on func(testing.TB) place)) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, func(t testing.TB) place {
			server := membigquery.New(t)
			rest, grpc := server.Start(t)
			return place{rest, grpc, "p", server}
		})
	})
	t.Run("emulator", func(t *testing.T) {
		t.Parallel()
		emulator.BigQuery(t) // skips the test once, if there is no emulator
		test(t, func(t testing.TB) place {
			rest, grpc := emulator.BigQuery(t)
			return place{rest, grpc, emulator.Project(), nil}
		})
	})
}

func (on place) config(method bigquerytables.Method) bigquerytables.Config {
	return bigquerytables.Config{
		Project: on.project, Dataset: "logs", Location: "US", Layout: accesslog.Layout(), Method: method,
		AppendTimeout: 30 * time.Second, QueryTimeout: 5 * time.Minute, Now: time.Now, RESTHost: on.rest, GRPCHost: on.grpc,
	}
}

func TestConformance(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		for _, method := range methods {
			if on(t).memory != nil && method == bigquerytables.InsertAll {
				continue // would take as long again, and TestWhatIsAppendedIsRead tests it
			}
			t.Run(string(method), func(t *testing.T) {
				t.Parallel()
				warehousetest.Run(t, warehousetest.Harness{
					Open: func(t *testing.T, l warehouse.Layout) (warehouse.Warehouse, warehousetest.Query) {
						cfg := on(t).config(method)
						cfg.Layout = l
						tables := open(t, cfg)
						if err := tables.Create(t.Context()); err != nil {
							t.Fatal(err)
						}
						return tables, query(cfg)
					},
				})
			})
		}
	})
}

// What is read is the same as what was appended, by each method of appending.
func TestWhatIsAppendedIsRead(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		for _, method := range methods {
			cfg := on(t).config(method)
			w := open(t, cfg)
			now := time.Now().UTC().Truncate(time.Microsecond)
			lat := 48.8566
			raw := warehouse.RawRow{
				Event: accesslog.Record{
					IP: "198.51.100.23", UserID: "-6120394857710293846", UserAgent: `Mozilla/5.0 <"é\">`, Lat: &lat, Timestamp: time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC),
					HTTPRequest: "GET fungi.html HTTP/1.0", HTTPResponse: math.MinInt64, NumBytes: math.MaxInt64,
				}.Event(),
				ProcessingTime: now, EventID: "event", MessageID: "message", PublishTime: now.Add(2 * time.Second), WindowStart: now.Truncate(time.Minute), Late: true,
			}
			letter := warehouse.DeadLetter{
				ReceivedAt: now, Reason: event.BadJSON, Err: "no JSON",
				Message: event.Message{
					ID: "message", PublishTime: now.Add(-time.Hour), PublishTimeSource: event.FromMessage, Subscription: "orders",
					Data: []byte{0, 0xff, 'x'}, Attributes: map[string]string{"a": "1", "b": ""},
				},
			}
			count := warehouse.WindowCount{Start: raw.WindowStart, End: raw.WindowStart.Add(time.Minute), PageViews: 1 << 60, Final: true, WrittenAt: now}
			for _, err := range []error{
				w.AppendRaw(t.Context(), []warehouse.RawRow{raw}),
				w.AppendDeadLetters(t.Context(), []warehouse.DeadLetter{letter}),
				w.AppendCounts(t.Context(), []warehouse.WindowCount{count}),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff([]warehouse.RawRow{raw}, all(t, w.RawRows(t.Context(), time.Time{}, time.Time{}))); diff != "" {
				t.Errorf("%s: raw rows (-want +got):\n%s", method, diff)
			}
			if diff := cmp.Diff([]warehouse.DeadLetter{letter}, all(t, w.DeadLetters(t.Context(), time.Time{}, time.Time{}))); diff != "" {
				t.Errorf("%s: dead letters (-want +got):\n%s", method, diff)
			}
			got, err := query(cfg)(t.Context(), "SELECT timestamp, window_end, page_views, is_final, written_at FROM windowed_traffic_log")
			want := []warehousetest.Row{{"timestamp": count.Start, "window_end": count.End, "page_views": count.PageViews, "is_final": true, "written_at": now}}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%s: %v, count (-want +got):\n%s", method, err, diff)
			}
		}
	})
}

// all returns the values of a sequence that does not fail.
func all[T any](t *testing.T, values iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for v, err := range values {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// If some parts of a dead letter are missing, its message was never acknowledged. So this
// delivery is left out, and the first complete delivery counts.
func TestALetterThatLacksAPartIsPassedOver(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		cfg := on(t).config(bigquerytables.StorageWrite)
		tables := open(t, cfg)
		table := letterTable
		now := time.Now().UTC().Truncate(time.Microsecond)
		part := func(id string, second, n int64) warehouse.Row {
			at := now.Add(time.Duration(second) * time.Second)
			return warehouse.Row{at, id, now, nil, nil, []byte{'a' + byte(n)}, n, int64(2), "bad_json", nil}
		}
		for _, rows := range [][]warehouse.Row{
			{part("1", 1, 1), part("1", 1, 1)}, // the first part was repeated, and the second never came
			{part("1", 2, 1), part("1", 2, 2)},
			{part("1", 3, 2), part("1", 3, 1)},
			{part("2", 1, 2)},
		} {
			if err := tables.Append(t.Context(), table, rows); err != nil {
				t.Fatal(err)
			}
		}
		want := []warehouse.DeadLetter{{
			ReceivedAt: now.Add(2 * time.Second), Reason: event.BadJSON,
			Message: event.Message{ID: "1", PublishTime: now, PublishTimeSource: event.FromMessage, Data: []byte("bc")},
		}}
		if diff := cmp.Diff(want, all(t, tables.DeadLetters(t.Context(), time.Time{}, time.Time{}))); diff != "" {
			t.Errorf("letters (-want +got):\n%s", diff)
		}
	})
}

// A row of a window is processed at most MaxAhead before the window's start, but may be
// processed at any time after it. So a query leaves out exactly the rows that are older.
func TestPruningIsExactAtItsBound(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		cfg := on(t).config(bigquerytables.StorageWrite)
		cfg.MaxAhead = time.Hour
		w := open(t, cfg)
		start := time.Now().UTC().Truncate(time.Minute)
		bound := start.Add(-time.Hour)
		var rows []warehouse.RawRow
		for i, at := range []time.Time{bound.Add(-time.Microsecond), bound, bound.Add(time.Microsecond), start, start.Add(48 * time.Hour)} {
			for n := range 2 { // of each of two windows
				rows = append(rows, warehouse.RawRow{Event: accesslog.Record{}.Event(), ProcessingTime: at.Add(time.Duration(n) * time.Minute), EventID: fmt.Sprint(i), WindowStart: start.Add(time.Duration(n) * time.Minute)})
			}
		}
		if err := w.AppendRaw(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
		second := start.Add(time.Minute)
		for _, tc := range []struct {
			starts []time.Time
			want   []int64
		}{
			{[]time.Time{start}, []int64{4}},
			{[]time.Time{second}, []int64{4}},
			{[]time.Time{second, start}, []int64{5, 4}}, // the bound is that of the earliest window
		} {
			counts, err := w.CountRaw(t.Context(), tc.starts)
			if err != nil || !slices.Equal(counts, tc.want) {
				t.Errorf("CountRaw of %v: %v, %v, want %v", tc.starts, counts, err, tc.want)
			}
		}
		for from, want := range map[time.Time][]warehouse.Discrepancy{
			start:  {{Start: start, Raw: 4}, {Start: second, Raw: 5}},
			second: {{Start: second, Raw: 4}},
		} {
			found, err := w.Audit(t.Context(), from, start.Add(time.Hour), 10)
			if diff := cmp.Diff(want, found); err != nil || diff != "" {
				t.Errorf("audit from %v: %v (-want +got):\n%s", from, err, diff)
			}
		}
	})
}

// A query must read only the rows that it needs. For this it has conditions on the
// columns of partitions and clusters. It must not be answered from a cache, which may
// lack rows that were streamed since. It must not run for longer than the caller waits
// for it.
func TestQueriesReadWhatTheyNeed(t *testing.T) {
	t.Parallel()
	server := membigquery.New(t)
	rest, grpc := server.Start(t)
	cfg := place{rest, grpc, "p", server}.config(bigquerytables.StorageWrite)
	cfg.MaxAhead, cfg.QueryTimeout = time.Hour, time.Minute
	tables := open(t, cfg)
	if err := tables.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)
	to := from.Add(time.Hour)
	const first, end, earliest = "2026-03-14T09:26:00.000000Z", "2026-03-14T10:26:00.000000Z", "2026-03-14T08:26:00.000000Z"
	for name, tc := range map[string]struct {
		run        func() error
		conditions []string
		parameters map[string]any
	}{
		"count_raw": {func() error {
			_, err := tables.CountRaw(t.Context(), []time.Time{from})
			return err
		}, []string{"window_start IN UNNEST(@starts)", "processing_timestamp >= @earliest"}, map[string]any{"starts": []any{first}, "earliest": earliest}},
		"audit": {func() error {
			_, err := tables.Audit(t.Context(), from, to, 10)
			return err
		}, []string{"window_start >= @from AND window_start < @to AND processing_timestamp >= @earliest", "timestamp >= @from AND timestamp < @to"},
			map[string]any{"from": first, "to": end, "earliest": earliest, "limit": int64(10)}},
		"raw_rows": {func() error {
			all(t, tables.RawRows(t.Context(), from, to))
			return nil
		}, []string{"processing_timestamp >= @from AND processing_timestamp < @to"}, map[string]any{"from": first, "to": end}},
		"dead_letters": {func() error {
			all(t, tables.DeadLetters(t.Context(), from, to))
			return nil
		}, []string{"received_at >= @from AND received_at < @to"}, map[string]any{"from": first, "to": end}},
	} {
		if err := tc.run(); err != nil {
			t.Fatal(err)
		}
		queries := server.Queries()
		q := queries[len(queries)-1]
		for _, condition := range tc.conditions {
			if !strings.Contains(q.SQL, condition) {
				t.Errorf("%s: no condition %s:\n%s", name, condition, q.SQL)
			}
		}
		if diff := cmp.Diff(tc.parameters, q.Parameters); diff != "" {
			t.Errorf("%s: parameters (-want +got):\n%s", name, diff)
		}
		if q.UseCache || q.DryRun || q.Timeout <= 0 || q.Timeout > time.Minute {
			t.Errorf("%s: from the cache: %v, dry run: %v, timeout %v, want neither, and a timeout of a minute at most", name, q.UseCache, q.DryRun, q.Timeout)
		}
	}
}

// A query may have 10 MB, parameters included, so a count of very many windows takes
// several queries.
func TestManyWindowsAreCountedInSeveralQueries(t *testing.T) {
	t.Parallel()
	server := membigquery.New(t)
	rest, grpc := server.Start(t)
	tables := open(t, place{rest, grpc, "p", server}.config(bigquerytables.StorageWrite))
	if err := tables.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	starts := make([]time.Time, 20_001)
	for i := range starts {
		starts[i] = time.Unix(int64(i)*60, 0).UTC()
	}
	counts, err := tables.CountRaw(t.Context(), starts)
	if err != nil || len(counts) != len(starts) {
		t.Fatalf("%d counts, %v, want %d", len(counts), err, len(starts))
	}
	var counted []int
	for _, q := range server.Queries() {
		counted = append(counted, len(q.Parameters["starts"].([]any)))
	}
	if !slices.Equal(counted, []int{20_000, 1}) {
		t.Errorf("queries of %v windows, want 20000 and 1", counted)
	}
}

// emulated returns settings for a new project on the emulator.
func emulated(t *testing.T, method bigquerytables.Method) bigquerytables.Config {
	t.Helper()
	rest, grpc := emulator.BigQuery(t)
	return place{rest, grpc, emulator.Project(), nil}.config(method)
}

func open(t *testing.T, cfg bigquerytables.Config) *bigquerytables.Warehouse {
	t.Helper()
	tables, err := bigquerytables.New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tables.Close(); err != nil {
			t.Error(err)
		}
	})
	return tables
}

// query returns the function by which the suite queries the tables.
func query(cfg bigquerytables.Config) warehousetest.Query {
	return func(ctx context.Context, sql string) (all []warehousetest.Row, err error) {
		rows, err := emulator.QueryBigQuery(ctx, cfg.RESTHost, cfg.Project, cfg.Dataset, sql)
		for _, row := range rows {
			all = append(all, row)
		}
		return all, err
	}
}

// The service learns how much each query has read.
func TestQueriesTellWhatTheyScanned(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		cfg := on(t).config(bigquerytables.InsertAll)
		var scanned []string
		cfg.Scanned = func(query string, _ int64) { scanned = append(scanned, query) }
		tables := open(t, cfg)
		if err := tables.Append(t.Context(), rawTable, rawRows(2)); err != nil {
			t.Fatal(err)
		}
		start := time.Now().UTC().Truncate(time.Minute)
		if _, err := tables.CountRaw(t.Context(), []time.Time{start}); err != nil {
			t.Fatal(err)
		}
		if _, err := tables.Audit(t.Context(), start, start.Add(time.Minute), 10); err != nil {
			t.Fatal(err)
		}
		if _, err := tables.AuditBytes(t.Context(), start, start.Add(time.Minute)); err != nil {
			t.Errorf("a dry run: %v", err)
		}
		if diff := cmp.Diff([]string{"count_raw", "audit"}, scanned); diff != "" {
			t.Errorf("queries (-want +got)\n%s", diff)
		}
	})
}

// The columns are those of the pipeline file, even if their names are keywords of SQL.
func TestTheColumnsOfAPipelineFileAreStoredAndRead(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		for _, method := range methods {
			cfg := on(t).config(method)
			cfg.Layout = warehouse.Layout{
				Names: warehouse.Names{Raw: "orders_raw", Agg: "orders", DeadLetter: "orders_dead_letter"}, ProcessingAt: 1, Count: "select",
				Schema: event.Schema{Time: "when", Rest: "payload", Fields: []event.Field{
					{Name: "when", Type: event.Timestamp, Required: true, Path: []string{"when"}, Format: event.RFC3339},
					{Name: "order", Type: event.String, Required: true, Path: []string{"order"}},
					{Name: "group", Type: event.Integer, Path: []string{"group"}},
					{Name: "ms", Type: event.Float, Path: []string{"ms"}},
					{Name: "is_new", Type: event.Boolean, Path: []string{"is_new"}},
				}},
			}
			w := open(t, cfg)
			now := time.Now().UTC().Truncate(time.Microsecond)
			start := now.Truncate(time.Minute)
			row := func(id string, values ...any) warehouse.RawRow {
				return warehouse.RawRow{
					Event: event.Event{Values: event.Values(append([]any{now}, values...)...), Rest: `{"tags":["` + id + `"]}`}, ProcessingTime: now,
					EventID: id, MessageID: "m" + id, PublishTime: now, WindowStart: start,
				}
			}
			full, null := row("1", "o-1", int64(-7), 2.5, true), row("2", "", nil, nil, nil)
			count := warehouse.WindowCount{Start: start, End: start.Add(time.Minute), PageViews: 1, Final: true, WrittenAt: now}
			if err := errors.Join(w.AppendRaw(t.Context(), []warehouse.RawRow{full, null, full}), w.AppendCounts(t.Context(), []warehouse.WindowCount{count})); err != nil {
				t.Fatalf("%s: %v", method, err)
			}
			var got []warehouse.RawRow
			for r, err := range w.RawRows(t.Context(), time.Time{}, time.Time{}) {
				if err != nil {
					t.Fatalf("%s: %v", method, err)
				}
				got = append(got, r)
			}
			if diff := cmp.Diff([]warehouse.RawRow{full, null}, got); diff != "" {
				t.Errorf("%s: rows (-want +got)\n%s", method, diff)
			}
			found, err := w.Audit(t.Context(), start, start.Add(time.Minute), 10)
			if diff := cmp.Diff([]warehouse.Discrepancy{{Start: start, PageViews: 1, Raw: 2}}, found); err != nil || diff != "" {
				t.Errorf("%s: audit %v (-want +got)\n%s", method, err, diff)
			}
			rows, err := query(cfg)(t.Context(), "SELECT `select`, (SELECT COUNT(*) FROM orders_raw_events) AS n FROM orders")
			if diff := cmp.Diff([]warehousetest.Row{{"select": int64(1), "n": int64(2)}}, rows); err != nil || diff != "" {
				t.Errorf("%s: views %v (-want +got)\n%s", method, err, diff)
			}
		}
	})
}
