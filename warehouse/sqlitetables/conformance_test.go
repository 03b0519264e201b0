package sqlitetables_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/test/warehousetest"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/sqlitetables"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	warehousetest.Run(t, warehousetest.Harness{
		Open: func(t *testing.T, l warehouse.Layout) (warehouse.Warehouse, warehousetest.Query) {
			path := filepath.Join(t.TempDir(), "warehouse.db")
			return open(t, path, l), query(openFile(t, path), l)
		},
	})
}

// open opens a warehouse that is closed when the test ends.
func open(t testing.TB, path string, l warehouse.Layout) *sqlitetables.Warehouse {
	t.Helper()
	w, err := sqlitetables.Open(context.Background(), sqlitetables.Config{Path: path, Layout: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// openFile opens the database file directly, as another program would.
func openFile(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// query returns the function by which the suite queries the file.
func query(db *sql.DB, l warehouse.Layout) warehousetest.Query {
	types := map[string]warehouse.Type{"finalized_at": warehouse.Timestamp, "updated_at": warehouse.Timestamp}
	for _, table := range warehouse.Tables(l) {
		for _, column := range table.Columns {
			types[column.Name] = column.Type
		}
	}
	return func(ctx context.Context, query string) ([]warehousetest.Row, error) {
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		columns, err := rows.Columns()
		if err != nil {
			return nil, err
		}
		var all []warehousetest.Row
		for rows.Next() {
			values, targets := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				targets[i] = &values[i]
			}
			if err := rows.Scan(targets...); err != nil {
				return nil, err
			}
			row := warehousetest.Row{}
			for i, name := range columns {
				if row[name], err = neutral(types[name], values[i]); err != nil {
					return nil, fmt.Errorf("column %s: %w", name, err)
				}
			}
			all = append(all, row)
		}
		return all, rows.Err()
	}
}

// neutral converts a value of SQLite to the suite's form. It accepts only values that the
// package documents.
func neutral(typ warehouse.Type, value any) (any, error) {
	switch v := value.(type) {
	case string:
		if typ != warehouse.Timestamp {
			return v, nil
		}
		t, err := event.ParseTime(v)
		if err == nil && event.FormatTime(t) != v {
			err = fmt.Errorf("%q is not as event.FormatTime writes it", v)
		}
		return t, err
	case int64:
		if typ != warehouse.Boolean {
			return v, nil
		}
		if v != 0 && v != 1 {
			return nil, fmt.Errorf("%d is not 0 or 1", v)
		}
		return v == 1, nil
	}
	return value, nil
}
