package sqlitecounters

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

const drawVersionsSQL = `UPDATE versions SET last = last + ? RETURNING last`

// writeShardSQL creates a window's shard or marks the shard as written. Its arguments
// are version, pipeline, window and time.
const writeShardSQL = `
INSERT INTO shards (id, version, pipeline, window, created_at, written_at)
VALUES (?1, ?1, ?2, ?3, ?4, ?4)
ON CONFLICT (pipeline, window) DO UPDATE SET
	version = excluded.version,
	created_at = iif(expires_at IS NULL, created_at, excluded.created_at),
	written_at = excluded.written_at,
	expires_at = NULL
RETURNING id`

// insertKeysSQL inserts any number of keys, packed one after the other in a blob. For
// a thousand keys it takes about half the time of one insert for each key.
const insertKeysSQL = `
WITH RECURSIVE offsets (n) AS (SELECT 1 UNION ALL SELECT n + 16 FROM offsets WHERE n + 16 < length(?2))
INSERT OR IGNORE INTO keys (shard, key) SELECT ?1, substr(?2, n, 16) FROM offsets`

const addCountSQL = `UPDATE shards SET keys = keys + ?2 WHERE id = ?1`

// maxPacked is the most bytes of the blob of one insert, far below SQLite's own
// limit.
const maxPacked = 1 << 20

// Add implements [windowstore.Store]. It runs in one transaction, so it is applied
// whole or not at all.
//
// An Add that brings no new key still marks its windows as pending. Without the mark
// no count would be lost. But only redeliveries would save a write, and a shard that
// is still used would expire.
func (s *Store) Add(ctx context.Context, increments []windowstore.Increment) error {
	merged, err := windowstore.Merge(increments)
	if err != nil {
		return s.wrap("add to", err)
	}
	if len(merged) == 0 {
		return ctx.Err()
	}
	return s.writeRegistered(ctx, "add to", func(tx *sql.Tx, pipeline int64) error {
		return s.add(ctx, tx, pipeline, merged)
	})
}

// Register implements [windowstore.Store].
func (s *Store) Register(ctx context.Context) error {
	if s.pipelineID.Load() != 0 {
		return nil
	}
	return s.writeRegistered(ctx, "register with", func(*sql.Tx, int64) error { return nil })
}

// writeRegistered runs f in a transaction, with the id of the pipeline's row.
func (s *Store) writeRegistered(ctx context.Context, action string, f func(tx *sql.Tx, pipeline int64) error) error {
	var pipeline int64
	err := s.write(ctx, action, func(tx *sql.Tx) (err error) {
		if pipeline, err = s.register(ctx, tx); err != nil {
			return err
		}
		return f(tx, pipeline)
	})
	if err == nil {
		s.pipelineID.Store(pipeline)
	}
	return err
}

// register returns the id of the pipeline's row. The first call creates the row.
func (s *Store) register(ctx context.Context, tx *sql.Tx) (int64, error) {
	if id := s.pipelineID.Load(); id != 0 {
		return id, nil
	}
	recorded, err := recordedMeanings(ctx, tx)
	if err != nil {
		return 0, err
	}
	name, m := s.config.Pipeline, s.config.Meaning
	if err := windowstore.CheckMeaning(name, m, recorded); err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT OR IGNORE INTO pipelines (name, window_duration, event_time, event_id, raw_table, agg_table)
		VALUES (?, ?, ?, ?, ?, ?)`,
		name, int64(m.WindowDuration), m.EventTime, m.EventID, m.RawTable, m.AggTable); err != nil {
		return 0, fmt.Errorf("record pipeline %q: %w", name, err)
	}
	var id int64
	if err := tx.QueryRowContext(ctx, "SELECT id FROM pipelines WHERE name = ?", name).Scan(&id); err != nil {
		return 0, fmt.Errorf("read pipeline %q: %w", name, err)
	}
	return id, nil
}

func (s *Store) add(ctx context.Context, tx *sql.Tx, pipeline int64, increments []windowstore.Increment) error {
	var last int64
	if err := tx.StmtContext(ctx, s.statements.drawVersions).QueryRowContext(ctx, len(increments)).Scan(&last); err != nil {
		return fmt.Errorf("draw versions: %w", err)
	}
	written := s.micros()
	for i, inc := range increments {
		window := inc.Window.Unix()
		version := last - int64(i) // a different one for each window, since it may become a shard's id
		var shard int64
		err := tx.StmtContext(ctx, s.statements.writeShard).QueryRowContext(ctx, version, pipeline, window, written).Scan(&shard)
		if err != nil {
			return fmt.Errorf("mark window %s: %w", formatWindow(window), err)
		}
		if err := s.insertKeys(ctx, tx, shard, inc.Keys); err != nil {
			return fmt.Errorf("add to window %s: %w", formatWindow(window), err)
		}
	}
	return nil
}

// insertKeys adds to the shard the keys that the shard does not have, and adds their
// number to the shard's count. The keys are sorted, as the table is: neighbouring keys
// need only one visit to a page.
func (s *Store) insertKeys(ctx context.Context, tx *sql.Tx, shard int64, keys []windowstore.Key) error {
	insert := tx.StmtContext(ctx, s.statements.insertKeys)
	var added int64
	for chunk := range slices.Chunk(keys, maxPacked/len(windowstore.Key{})) {
		packed := make([]byte, 0, len(chunk)*len(windowstore.Key{}))
		for _, key := range chunk {
			packed = append(packed, key[:]...)
		}
		result, err := insert.ExecContext(ctx, shard, packed)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		added += n
	}
	_, err := tx.StmtContext(ctx, s.statements.addCount).ExecContext(ctx, shard, added)
	return err
}

func formatWindow(seconds int64) string {
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}
