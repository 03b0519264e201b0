package sqlitetables

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// schemaVersion is the version of the tables and views.
const schemaVersion = 1

// createTables creates the tables, indexes and views that the file does not have, and a
// column for each new field of the event. First it checks that what the file has
// fits. It replaces views with another definition, unless a later version of the
// program created them.
func createTables(ctx context.Context, tx *sql.Tx, l warehouse.Layout) error {
	found, err := inspect(ctx, tx, l)
	if err == nil {
		err = found.refusal()
	}
	if err != nil {
		return err
	}
	for _, statement := range append(found.updates, statements(l)...) {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", firstLine(statement), err)
		}
	}
	return nil
}

// statements returns the statements that create the tables, indexes and views that do
// not exist.
func statements(l warehouse.Layout) []string {
	var all []string
	for _, t := range warehouse.Tables(l) {
		all = append(all, createTable(t))
	}
	all = append(all,
		// CountRaw reads only this index, and the view events has the order of the index.
		"CREATE INDEX IF NOT EXISTS "+quote(indexOf(l.Raw))+" ON "+quote(l.Raw)+" (window_start, event_id, is_late)",
		"CREATE INDEX IF NOT EXISTS "+quote(indexOf(l.AggLog()))+" ON "+quote(l.AggLog())+" (timestamp, "+quote(l.Count)+", written_at)")
	for _, v := range views(l) {
		all = append(all, v.create)
	}
	return all
}

// quote returns a name as an identifier. The name may be a keyword of SQL.
func quote(name string) string { return `"` + name + `"` }

// indexOf returns the name of the table's index, if it has one.
func indexOf(table string) string { return table + "_by_window" }

// A view is a view's name and the statement that creates it if it does not exist.
type view struct{ name, create string }

// viewRevision is raised with each change of a view. The first comment in the
// definition of a view has the revision. A definition without such a comment has
// revision 1.
const viewRevision = 2

var revisionOf = regexp.MustCompile(`-- Revision (\d+)\.`)

// foundRevision returns the revision of a view's definition.
func foundRevision(definition string) int {
	revision := 1
	if found := revisionOf.FindStringSubmatch(definition); found != nil {
		revision, _ = strconv.Atoi(found[1])
	}
	return revision
}

func views(l warehouse.Layout) []view {
	return []view{{l.Events(), createEvents(l)}, {l.Agg, createAgg(l)}, {l.DeadLetters(), createDeadLetters(l)}}
}

// differs reports whether the definition found in the file is another one.
func (v view) differs(found string) bool {
	return found != strings.Replace(v.create, "IF NOT EXISTS ", "", 1) // SQLite does not keep these words
}

// createTable returns the statement that creates a table. SQLite keeps the text with
// its comments, and the sqlite3 shell shows it as the schema.
func createTable(t warehouse.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s (\n  -- %s\n", quote(t.Name), t.Description)
	for i, c := range t.Columns {
		definition := quote(c.Name) + " " + sqliteType(c.Type)
		// A later pipeline file may leave out a field of the event.
		if !c.Nullable && !c.OfEvent {
			definition += " NOT NULL"
		}
		if i < len(t.Columns)-1 {
			definition += ","
		}
		fmt.Fprintf(&b, "  %s\n", strings.TrimRight(fmt.Sprintf("%-36s -- %s", definition, c.Description), " -"))
	}
	b.WriteString(") STRICT")
	return b.String()
}

func createEvents(l warehouse.Layout) string {
	return fmt.Sprintf(`CREATE VIEW IF NOT EXISTS %s AS
-- Revision %d. Each event once: a counted delivery before a late one, then the smallest
-- message id, then the earliest published.
SELECT %s
FROM (
  SELECT *, row_number() OVER (
    PARTITION BY window_start, event_id
    ORDER BY %s) AS "delivery number" -- which is the name of no field
  FROM %s)
WHERE "delivery number" = 1`, quote(l.Events()), viewRevision, columnList(warehouse.RawTable(l).Table), firstDelivery, quote(l.Raw))
}

// firstDelivery is the order of the deliveries of one event. The first one is the event.
const firstDelivery = "is_late, message_id, publish_time, processing_timestamp"

func createAgg(l warehouse.Layout) string {
	return fmt.Sprintf(`CREATE VIEW IF NOT EXISTS %[1]s AS
-- Revision %[4]d. Each window once, with the greatest count published for it; finalized_at is
-- when it was first written as final, and updated_at when it first reached this count.
SELECT timestamp, %[3]s, window_end, is_final, finalized_at,
  (SELECT min(written_at) FROM %[2]s AS log
   WHERE log.timestamp = w.timestamp AND log.%[3]s = w.%[3]s) AS updated_at
FROM (
  SELECT timestamp,
    max(%[3]s) AS %[3]s,
    max(window_end) AS window_end,
    max(is_final) AS is_final,
    min(written_at) FILTER (WHERE is_final = 1) AS finalized_at
  FROM %[2]s
  GROUP BY timestamp) AS w`, quote(l.Agg), quote(l.AggLog()), quote(l.Count), viewRevision)
}

func createDeadLetters(l warehouse.Layout) string {
	return fmt.Sprintf(`CREATE VIEW IF NOT EXISTS %s AS
-- Revision %d. Each message once (each part of it, if it is large): the earliest received.
SELECT %s
FROM (
  SELECT *, row_number() OVER (
    PARTITION BY message_id, part
    ORDER BY received_at) AS delivery
  FROM %s)
WHERE delivery = 1`, quote(l.DeadLetters()), viewRevision, columnList(warehouse.DeadLetterTable(l).Table), quote(l.DeadLetter))
}

func insertInto(t warehouse.Table) string {
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(t.Columns)), ", ")
	return "INSERT INTO " + quote(t.Name) + " (" + columnList(t) + ") VALUES (" + marks + ")"
}

// columnList returns the table's columns separated by commas. A query names them
// because the owner of a table may have added columns.
func columnList(t warehouse.Table) string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = quote(c.Name)
	}
	return strings.Join(names, ", ")
}

// sqliteType returns the SQLite type that stores values of the given type.
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
