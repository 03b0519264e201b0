package sqlitehouse

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// schemaVersion is the version of the tables and views, which the file keeps in
// PRAGMA user_version. A file of version 0 is new.
const schemaVersion = 1

// migrate makes what the file does not have, once it is known that what it has
// fits.
func migrate(ctx context.Context, db *sql.DB, n warehouse.Names) error {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > schemaVersion {
		return fmt.Errorf("the file has schema version %d, and this program knows versions up to %d: open it with the newer Tidemark that wrote it", version, schemaVersion)
	}
	if err := turnOnWriteAheadLog(ctx, db); err != nil {
		return fmt.Errorf("turn on the write-ahead log: %w", err)
	}

	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing
	if err := check(ctx, tx, n); err != nil {
		return err
	}
	for _, statement := range statements(n) {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", firstLine(statement), err)
		}
	}
	if version != schemaVersion {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
			return fmt.Errorf("set schema version: %w", err)
		}
	}
	return tx.Commit()
}

// turnOnWriteAheadLog does so outside of a transaction, where alone it can be
// done. It stays on with the file.
func turnOnWriteAheadLog(ctx context.Context, db *sql.DB) error {
	// Of two processes that turn it on at once, SQLite tells one that the file is
	// busy without waiting, since each holds a lock that the other wants.
	waiting, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	for {
		var mode string
		err := db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		if err == nil && mode != "wal" {
			return fmt.Errorf("the journal mode stays %q: is the file on a network file system?", mode)
		}
		if err == nil || !isBusy(err) {
			return err
		}
		select {
		case <-waiting.Done():
			return cmp.Or(ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// statements returns what makes the tables, indexes and views where they do not
// exist.
func statements(n warehouse.Names) []string {
	var all []string
	for _, t := range warehouse.Tables(n) {
		all = append(all, createTable(t))
	}
	return append(all,
		// CountRaw reads this and nothing else, and events is in its order.
		"CREATE INDEX IF NOT EXISTS "+n.Raw+"_by_window ON "+n.Raw+" (window_start, event_id, is_late)",
		"CREATE INDEX IF NOT EXISTS "+n.AggLog()+"_by_window ON "+n.AggLog()+" (timestamp, page_views, written_at)",
		createEvents(n), createAgg(n), createDeadLetters(n))
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
	panic("sqlitehouse: no SQLite type for " + string(t))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
