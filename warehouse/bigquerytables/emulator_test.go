package bigquerytables_test

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/test/emulator"
	"github.com/tidemark-dev/tidemark/internal/test/membigquery"
	"github.com/tidemark-dev/tidemark/internal/test/warehousetest"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
	"github.com/tidemark-dev/tidemark/warehouse/streamhouse"
)

// A place is a BigQuery that a test has for itself.
type place struct {
	rest, grpc, project string
	memory              *membigquery.Server // nil where it is the emulator
}

// onEach runs the test on BigQuery's APIs in memory, and on the emulator if there is
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
		emulator.BigQuery(t) // or skip once
		test(t, func(t testing.TB) place {
			rest, grpc := emulator.BigQuery(t)
			return place{rest, grpc, emulator.Project(), nil}
		})
	})
}

func (on place) config(method bigquerytables.Method) bigquerytables.Config {
	return bigquerytables.Config{
		Project: on.project, Dataset: "logs", Names: warehouse.DefaultNames, Method: method, RESTHost: on.rest, GRPCHost: on.grpc,
	}
}

func TestConformance(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		for _, method := range methods {
			if on(t).memory != nil && method == bigquerytables.InsertAll {
				continue // it takes as long again: see TestWhatIsAppendedIsRead
			}
			t.Run(string(method), func(t *testing.T) {
				t.Parallel()
				warehousetest.Run(t, warehousetest.Harness{
					Open: func(t *testing.T, names warehouse.Names) (warehouse.Warehouse, warehousetest.Query) {
						cfg := on(t).config(method)
						cfg.Names = names
						tables := open(t, cfg)
						if err := tables.Make(t.Context()); err != nil {
							t.Fatal(err)
						}
						return streamhouse.New(names, tables, tables), query(cfg)
					},
				})
			})
		}
	})
}

// Rows come back as they were, by whichever method they were appended.
func TestWhatIsAppendedIsRead(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		for _, method := range methods {
			cfg := on(t).config(method)
			tables := open(t, cfg)
			w := streamhouse.New(cfg.Names, tables, tables)
			now := time.Now().UTC().Truncate(time.Microsecond)
			lat := 48.8566
			raw := warehouse.RawRow{
				Event: event.Event{
					IP: "198.51.100.23", UserID: "-6120394857710293846", UserAgent: `Mozilla/5.0 <"é\">`, Lat: &lat, Timestamp: time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC),
					HTTPRequest: "GET fungi.html HTTP/1.0", HTTPResponse: math.MinInt64, NumBytes: math.MaxInt64,
				},
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

// A row of a window is processed no earlier than MaxAhead before the window's start, and
// as late as may be: what older partitions hold is no part of the answer.
func TestPruningIsExactAtItsBound(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		place := on(t)
		cfg := place.config(bigquerytables.StorageWrite)
		cfg.MaxAhead = time.Hour
		tables := open(t, cfg)
		w := streamhouse.New(cfg.Names, tables, tables)
		start := time.Now().UTC().Truncate(time.Minute)
		bound := start.Add(-time.Hour)
		var rows []warehouse.RawRow
		for i, at := range []time.Time{bound.Add(-time.Microsecond), bound, bound.Add(time.Microsecond), start, start.Add(48 * time.Hour)} {
			for n := range 2 { // windows
				rows = append(rows, warehouse.RawRow{ProcessingTime: at.Add(time.Duration(n) * time.Minute), EventID: fmt.Sprint(i), WindowStart: start.Add(time.Duration(n) * time.Minute)})
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
			{[]time.Time{second, start}, []int64{5, 4}}, // the bound is that of the earliest
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
		if place.memory == nil {
			return
		}
		for _, q := range place.memory.Queries() {
			if !strings.Contains(q.SQL, "processing_timestamp >= @earliest") || q.UseCache {
				t.Errorf("a query that is not pruned, or answered from a cache that may be old: %s", q.SQL)
			}
		}
	})
}

// emulated returns the settings of a project of its own on the emulator.
func emulated(t *testing.T, method bigquerytables.Method) bigquerytables.Config {
	t.Helper()
	rest, grpc := emulator.BigQuery(t)
	return bigquerytables.Config{
		Project: emulator.Project(), Dataset: "logs", Names: warehouse.DefaultNames, Method: method,
		RESTHost: rest, GRPCHost: grpc,
	}
}

func open(t *testing.T, cfg bigquerytables.Config) *bigquerytables.Tables {
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

// query returns the suite's way to read the tables.
func query(cfg bigquerytables.Config) warehousetest.Query {
	return func(ctx context.Context, sql string) (all []warehousetest.Row, err error) {
		rows, err := emulator.QueryBigQuery(ctx, cfg.RESTHost, cfg.Project, cfg.Dataset, sql)
		for _, row := range rows {
			all = append(all, row)
		}
		return all, err
	}
}

// What a query reads can be known.
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
