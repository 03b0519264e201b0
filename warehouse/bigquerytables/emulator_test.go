package bigquerytables_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/test/emulator"
	"github.com/tidemark-dev/tidemark/internal/test/warehousetest"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
	"github.com/tidemark-dev/tidemark/warehouse/streamhouse"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			emulator.BigQuery(t) // or skip once
			warehousetest.Run(t, warehousetest.Harness{
				Open: func(t *testing.T, names warehouse.Names) (warehouse.Warehouse, warehousetest.Query) {
					cfg := emulated(t, method)
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

// What a query reads can be known, and a bound on processing times leaves out no row
// that keeps it.
func TestQueriesTellWhatTheyScanned(t *testing.T) {
	t.Parallel()
	cfg := emulated(t, bigquerytables.InsertAll)
	var scanned []string
	cfg.Scanned = func(query string, _ int64) { scanned = append(scanned, query) }
	cfg.MaxAhead = time.Hour
	tables := open(t, cfg)
	rows := rawRows(2)
	if err := tables.Append(t.Context(), rawTable, rows); err != nil {
		t.Fatal(err)
	}
	start := rows[0][13].(time.Time) // window_start
	counts, err := tables.CountRaw(t.Context(), []time.Time{start})
	if err != nil {
		t.Fatal(err)
	}
	found, err := tables.Audit(t.Context(), start, start.Add(time.Minute), 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tables.AuditBytes(t.Context(), start, start.Add(time.Minute)); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	if counts[0] != 2 || len(found) != 1 || found[0].Raw != 2 {
		t.Errorf("counts %v, audit %v, want 2 raw events in one window", counts, found)
	}
	if diff := cmp.Diff([]string{"count_raw", "audit"}, scanned); diff != "" {
		t.Errorf("queries (-want +got)\n%s", diff)
	}
}
