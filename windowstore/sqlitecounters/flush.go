package sqlitecounters

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

const pipelineSQL = `(SELECT id FROM pipelines WHERE name = ?)`

const pendingSQL = `
SELECT window, version, created_at, written_at FROM shards INDEXED BY pending_shards
WHERE pipeline = ` + pipelineSQL + ` AND expires_at IS NULL AND window > ? AND window <= ?
ORDER BY window LIMIT ?`

const countSQL = `SELECT keys FROM shards WHERE pipeline = ` + pipelineSQL + ` AND window = ?`

// A version is never given out twice in a file, so the version alone identifies the
// state of a shard. The pipeline and the window are there to find the row.
const settleSQL = `
UPDATE shards SET expires_at = ? WHERE pipeline = ` + pipelineSQL + ` AND window = ? AND version = ?`

// pageWindows is how many windows Pending holds in memory.
const pageWindows = 256

// Pending implements [windowstore.Store]. It reads page by page, so that no read
// transaction is open while the caller handles a window. An open read transaction
// would keep the write-ahead log from being emptied.
func (s *Store) Pending(ctx context.Context, from, through time.Time) iter.Seq2[windowstore.PendingWindow, error] {
	return func(yield func(windowstore.PendingWindow, error) bool) {
		after := from.Add(-1).Unix() // the last second before from
		var readTime time.Time
		for {
			// The clock is read before the page: the page was true at this time or
			// later. If the clock was set back, the earlier ReadTime stays.
			if now := fromMicros(s.micros()); now.After(readTime) {
				readTime = now
			}
			page, err := s.pendingPage(ctx, after, through.Unix(), readTime)
			if err != nil {
				yield(windowstore.PendingWindow{}, s.wrap("list pending", err))
				return
			}
			for _, w := range page {
				if err := ctx.Err(); err != nil {
					yield(windowstore.PendingWindow{}, s.wrap("list pending", err))
					return
				}
				if !yield(w, nil) {
					return
				}
			}
			if len(page) < pageWindows {
				return
			}
			after = page[len(page)-1].Start.Unix()
		}
	}
}

func (s *Store) pendingPage(ctx context.Context, after, through int64, readTime time.Time) ([]windowstore.PendingWindow, error) {
	rows, err := s.statements.pending.QueryContext(ctx, s.config.Pipeline, after, through, pageWindows)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []windowstore.PendingWindow
	for rows.Next() {
		var window, version, created, written int64
		if err := rows.Scan(&window, &version, &created, &written); err != nil {
			return nil, err
		}
		start := time.Unix(window, 0).UTC()
		page = append(page, windowstore.PendingWindow{Start: start, ReadTime: readTime, Shards: []windowstore.Shard{{
			Window:    start,
			Name:      strconv.FormatInt(window, 10),
			Version:   version,
			CreatedAt: fromMicros(created),
			WrittenAt: fromMicros(written),
		}}})
	}
	return page, rows.Err()
}

// Count implements [windowstore.Store]. It reads one row and never returns
// [windowstore.ErrTooManyKeys].
func (s *Store) Count(ctx context.Context, start time.Time) (int64, error) {
	var n int64
	err := s.statements.count.QueryRowContext(ctx, s.config.Pipeline, start.Unix()).Scan(&n)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, s.wrap("count window "+formatWindow(start.Unix())+" of", err)
	}
	return n, nil
}

// KeepAtLeast implements [windowstore.Store]. If the pipeline has stored nothing, it
// records nothing.
func (s *Store) KeepAtLeast(ctx context.Context, keep time.Duration) (time.Duration, error) {
	var least sql.NullInt64
	err := s.file.Reader.QueryRowContext(ctx, "SELECT least_kept FROM pipelines WHERE name = ?", s.config.Pipeline).Scan(&least)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return keep, nil
	case err != nil:
		return 0, s.wrap("read the retention of", err)
	case least.Valid && least.Int64 <= int64(keep):
		return time.Duration(least.Int64), nil
	}
	err = s.write(ctx, "record the retention of", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `
			UPDATE pipelines SET least_kept = min(ifnull(least_kept, ?1), ?1) WHERE name = ?2
			RETURNING least_kept`, int64(keep), s.config.Pipeline).Scan(&least)
	})
	return time.Duration(least.Int64), err
}

// Settle implements [windowstore.Store], in one transaction.
func (s *Store) Settle(ctx context.Context, shards []windowstore.Shard, expireAt time.Time) error {
	if len(shards) == 0 {
		return ctx.Err()
	}
	return s.write(ctx, "settle", func(tx *sql.Tx) error {
		settle := tx.StmtContext(ctx, s.statements.settle)
		for _, shard := range shards {
			_, err := settle.ExecContext(ctx, expireAt.UnixMicro(), s.config.Pipeline, shard.Window.Unix(), shard.Version)
			if err != nil {
				return fmt.Errorf("window %s: %w", formatWindow(shard.Window.Unix()), err)
			}
		}
		return nil
	})
}
