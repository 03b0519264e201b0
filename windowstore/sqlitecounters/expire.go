package sqlitecounters

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Limits of DeleteExpired. In one transaction it deletes so few rows that an Add
// waits for some milliseconds at most. In one call it deletes so few that a flush is
// not held up. One call each minute deletes more keys than the file can take in.
const (
	deleteShards   = 100
	deleteKeys     = 10_000
	deleteKeysCall = 1_000_000
)

// DeleteExpired implements [windowstore.Store]. It first deletes the row of a shard.
// So a later Add begins a new shard with a new id, and an earlier Add has removed the
// expiry. Nothing can reach the keys of a deleted shard any more. They are deleted
// afterwards, in this call or in later ones, and those of other pipelines, too.
func (s *Store) DeleteExpired(ctx context.Context, now time.Time) (int, error) {
	deleted, budget := 0, int64(deleteKeysCall)
	for budget > 0 {
		n, err := s.deleteKeys(ctx)
		if err != nil {
			return deleted, err
		}
		if n > 0 {
			budget -= n
			continue
		}
		shards, err := s.deleteShards(ctx, now)
		if err != nil {
			return deleted, err
		}
		if shards == 0 {
			break
		}
		deleted += shards
	}
	return deleted, nil
}

// deleteShards deletes some expired shards and leaves their keys to deleteKeys.
func (s *Store) deleteShards(ctx context.Context, now time.Time) (int, error) {
	// Most calls find nothing. They must not take the write lock for that.
	const expiredSQL = `SELECT id FROM shards INDEXED BY settled_shards
		WHERE pipeline = ` + pipelineSQL + ` AND expires_at <= ? ORDER BY expires_at LIMIT ?`
	var id int64
	err := s.file.Reader.QueryRowContext(ctx, expiredSQL, s.config.Pipeline, now.UnixMicro(), 1).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, s.wrap("find expired", err)
	}
	var n int64
	err = s.write(ctx, "delete expired", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO deleted_shards "+expiredSQL,
			s.config.Pipeline, now.UnixMicro(), deleteShards); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, "DELETE FROM shards WHERE id IN (SELECT id FROM deleted_shards)")
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	return int(n), err
}

// deleteKeys deletes some keys of deleted shards and returns how many rows it
// deleted. It returns 0 only if nothing is left to delete.
func (s *Store) deleteKeys(ctx context.Context) (int64, error) {
	var left bool
	if err := s.file.Reader.QueryRowContext(ctx, "SELECT EXISTS (SELECT * FROM deleted_shards)").Scan(&left); err != nil {
		return 0, s.wrap("find deleted", err)
	}
	if !left {
		return 0, nil
	}
	var total int64
	err := s.write(ctx, "delete expired keys of", func(tx *sql.Tx) error {
		for total < deleteKeys {
			var shard int64
			err := tx.QueryRowContext(ctx, "SELECT id FROM deleted_shards LIMIT 1").Scan(&shard)
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			n, err := deleteKeysOf(ctx, tx, shard, deleteKeys-total)
			if err != nil {
				return err
			}
			total += n
		}
		return nil
	})
	return total, err
}

// deleteKeysOf deletes up to limit keys of the shard, lowest first. With the last key
// it deletes the shard's row in deleted_shards.
func deleteKeysOf(ctx context.Context, tx *sql.Tx, shard, limit int64) (int64, error) {
	result, err := tx.ExecContext(ctx, `
		DELETE FROM keys WHERE shard = ?1 AND key <= (
			SELECT max(key) FROM (SELECT key FROM keys WHERE shard = ?1 ORDER BY key LIMIT ?2))`, shard, limit)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	if err != nil || n == limit {
		return n, err
	}
	result, err = tx.ExecContext(ctx, "DELETE FROM deleted_shards WHERE id = ?", shard)
	if err != nil {
		return n, err
	}
	records, err := result.RowsAffected()
	return n + records, err
}
