package sqlitecounters

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// schemaVersion is raised with each change of the schema.
const schemaVersion = 1

// applicationID distinguishes a file of counters from other SQLite files.
const applicationID = 0x54494445 // "TIDE"

const schema = `
CREATE TABLE pipelines (
	id INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE,
	window_duration INTEGER NOT NULL, -- nanoseconds
	event_time TEXT NOT NULL,
	event_id TEXT NOT NULL,
	raw_table TEXT NOT NULL,
	agg_table TEXT NOT NULL,
	least_kept INTEGER -- nanoseconds that shards outlive the end of their window; null before the first flush
) STRICT;

-- One row. Versions and shard ids are drawn from it and never given out again,
-- not even when their shard is deleted.
CREATE TABLE versions (last INTEGER NOT NULL) STRICT;
INSERT INTO versions VALUES (0);

-- Instants are microseconds since the Unix epoch, window starts seconds.
CREATE TABLE shards (
	id INTEGER PRIMARY KEY, -- the first of its versions
	pipeline INTEGER NOT NULL,
	window INTEGER NOT NULL,
	version INTEGER NOT NULL,
	keys INTEGER NOT NULL DEFAULT 0, -- how many rows of the table keys it has
	created_at INTEGER NOT NULL,
	written_at INTEGER NOT NULL,
	expires_at INTEGER, -- null while the shard is pending
	UNIQUE (pipeline, window)
) STRICT;
CREATE INDEX pending_shards ON shards (pipeline, window) WHERE expires_at IS NULL;
CREATE INDEX settled_shards ON shards (pipeline, expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE keys (
	shard INTEGER NOT NULL,
	key BLOB NOT NULL,
	PRIMARY KEY (shard, key)
) STRICT, WITHOUT ROWID;

-- Shards that were deleted while they still have rows in keys.
CREATE TABLE deleted_shards (id INTEGER PRIMARY KEY) STRICT;
`

var fileSchema = sqlitefile.Schema{Version: schemaVersion, ApplicationID: applicationID, Create: createTables}

// createTables creates the schema in a new file.
func createTables(ctx context.Context, tx *sql.Tx, found int) error {
	if found == schemaVersion {
		return nil
	}
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("create the tables: %w", err)
	}
	return nil
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// recordedMeanings returns the meaning of every pipeline on record.
func recordedMeanings(ctx context.Context, db querier) (map[string]windowstore.Meaning, error) {
	rows, err := db.QueryContext(ctx, "SELECT name, window_duration, event_time, event_id, raw_table, agg_table FROM pipelines")
	if err != nil {
		return nil, fmt.Errorf("read the pipelines on record: %w", err)
	}
	defer rows.Close()
	recorded := map[string]windowstore.Meaning{}
	for rows.Next() {
		var name string
		var duration int64
		var m windowstore.Meaning
		if err := rows.Scan(&name, &duration, &m.EventTime, &m.EventID, &m.RawTable, &m.AggTable); err != nil {
			return nil, fmt.Errorf("read the pipelines on record: %w", err)
		}
		m.WindowDuration = time.Duration(duration)
		recorded[name] = m
	}
	return recorded, rows.Err()
}

// statements are the frequent statements, prepared once.
type statements struct {
	drawVersions, writeShard, insertKeys, addCount, settle *sql.Stmt // on the writer
	pending, count                                         *sql.Stmt // on the reader
}

func (s *statements) prepare(ctx context.Context, file *sqlitefile.File) error {
	return sqlitefile.Prepare(ctx,
		sqlitefile.Prepared{Statement: &s.drawVersions, DB: file.Writer, SQL: drawVersionsSQL},
		sqlitefile.Prepared{Statement: &s.writeShard, DB: file.Writer, SQL: writeShardSQL},
		sqlitefile.Prepared{Statement: &s.insertKeys, DB: file.Writer, SQL: insertKeysSQL},
		sqlitefile.Prepared{Statement: &s.addCount, DB: file.Writer, SQL: addCountSQL},
		sqlitefile.Prepared{Statement: &s.settle, DB: file.Writer, SQL: settleSQL},
		sqlitefile.Prepared{Statement: &s.pending, DB: file.Reader, SQL: pendingSQL},
		sqlitefile.Prepared{Statement: &s.count, DB: file.Reader, SQL: countSQL},
	)
}
