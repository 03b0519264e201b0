package sqlitetables

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// schemaVersion is the version of the tables and views.
const schemaVersion = 1

// makeTables makes what the file does not have, once it is known that what it has
// fits.
func makeTables(ctx context.Context, tx *sql.Tx, n warehouse.Names) error {
	if err := check(ctx, tx, n); err != nil {
		return err
	}
	for _, statement := range statements(n) {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", firstLine(statement), err)
		}
	}
	return nil
}

// statements returns what makes the tables, indexes and views where they do not
// exist.
func statements(n warehouse.Names) []string {
	var all []string
	for _, t := range warehouse.Tables(n) {
		all = append(all, createTable(t))
	}
	all = append(all,
		// CountRaw reads this and nothing else, and events is in its order.
		"CREATE INDEX IF NOT EXISTS "+indexOf(n.Raw)+" ON "+n.Raw+" (window_start, event_id, is_late)",
		"CREATE INDEX IF NOT EXISTS "+indexOf(n.AggLog())+" ON "+n.AggLog()+" (timestamp, page_views, written_at)")
	for _, v := range views(n) {
		all = append(all, v.create)
	}
	return all
}

// indexOf returns the name of the table's index, if it has one.
func indexOf(table string) string { return table + "_by_window" }

// A view is a view's name and the statement that makes it where it does not exist.
type view struct{ name, create string }

func views(n warehouse.Names) []view {
	return []view{{n.Events(), createEvents(n)}, {n.Agg, createAgg(n)}, {n.DeadLetters(), createDeadLetters(n)}}
}

// createTable returns the statement for a table. SQLite keeps its text, comments
// and all, for whoever asks the shell for the schema.
func createTable(t warehouse.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s (\n  -- %s\n", t.Name, t.Description)
	for i, c := range t.Columns {
		definition := c.Name + " " + sqliteType(c.Type)
		if !c.Nullable {
			definition += " NOT NULL"
		}
		if i < len(t.Columns)-1 {
			definition += ","
		}
		fmt.Fprintf(&b, "  %-36s -- %s\n", definition, c.Description)
	}
	b.WriteString(") STRICT")
	return b.String()
}

func createEvents(n warehouse.Names) string {
	return fmt.Sprintf(`CREATE VIEW IF NOT EXISTS %s AS
-- Each event once: a counted delivery before a late one, then the earliest published.
SELECT %s
FROM (
  SELECT *, row_number() OVER (
    PARTITION BY window_start, event_id
    ORDER BY is_late, publish_time, processing_timestamp, message_id) AS delivery
  FROM %s)
WHERE delivery = 1`, n.Events(), columnList(warehouse.RawTable(n)), n.Raw)
}

func createAgg(n warehouse.Names) string {
	return fmt.Sprintf(`CREATE VIEW IF NOT EXISTS %[1]s AS
-- Each window once, with the greatest count published for it; finalized_at is when it
-- was first written as final, and updated_at when it first reached this count.
SELECT timestamp, page_views, window_end, is_final, finalized_at,
  (SELECT min(written_at) FROM %[2]s AS log
   WHERE log.timestamp = w.timestamp AND log.page_views = w.page_views) AS updated_at
FROM (
  SELECT timestamp,
    max(page_views) AS page_views,
    max(window_end) AS window_end,
    max(is_final) AS is_final,
    min(written_at) FILTER (WHERE is_final = 1) AS finalized_at
  FROM %[2]s
  GROUP BY timestamp) AS w`, n.Agg, n.AggLog())
}

func createDeadLetters(n warehouse.Names) string {
	return fmt.Sprintf(`CREATE VIEW IF NOT EXISTS %s AS
-- Each message once (each part of it, if it is large): the earliest received.
SELECT %s
FROM (
  SELECT *, row_number() OVER (
    PARTITION BY message_id, part
    ORDER BY received_at) AS delivery
  FROM %s)
WHERE delivery = 1`, n.DeadLetters(), columnList(warehouse.DeadLetterTable(n)), n.DeadLetter)
}

func insertInto(t warehouse.Table) string {
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(t.Columns)), ", ")
	return "INSERT INTO " + t.Name + " (" + columnList(t) + ") VALUES (" + marks + ")"
}

// columnList returns the table's columns separated by commas: a table may have
// others that its owner has added.
func columnList(t warehouse.Table) string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// sqliteType returns the type that SQLite keeps a value of the given type in.
func sqliteType(t warehouse.Type) string {
	switch t {
	case warehouse.String, warehouse.Timestamp:
		return "TEXT"
	case warehouse.Integer, warehouse.Boolean:
		return "INTEGER"
	case warehouse.Float:
		return "REAL"
	case warehouse.Bytes:
		return "BLOB"
	}
	panic("sqlitetables: no SQLite type for " + string(t))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
