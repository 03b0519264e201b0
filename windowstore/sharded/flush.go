package sharded

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// pageSize is how many documents one query for pending shards returns at most.
const pageSize = 300

// Pending implements [windowstore.Store]. It holds one page of shards and one window
// at a time.
//
// The shards of a window may come from two or more pages, each read later than the
// page before. The window's ReadTime is the time of the first page. Each shard comes
// exactly once, because the place of a shard in the order never changes.
func (s *Store) Pending(ctx context.Context, from, through time.Time) iter.Seq2[windowstore.PendingWindow, error] {
	// Windows start at whole seconds.
	from, through = time.Unix(from.Add(-1).Unix()+1, 0).UTC(), time.Unix(through.Unix(), 0).UTC()
	return func(yield func(windowstore.PendingWindow, error) bool) {
		if err := s.eachPending(ctx, from, through, yield); err != nil {
			yield(windowstore.PendingWindow{}, s.wrap("list pending", err))
		}
	}
}

// eachPending calls yield with each pending window until yield returns false. It
// returns an error instead of passing one to yield.
func (s *Store) eachPending(ctx context.Context, from, through time.Time, yield func(windowstore.PendingWindow, error) bool) error {
	var window windowstore.PendingWindow // the last one found; the next page may have more of it
	after := Cursor{Window: from}
	var readTime time.Time
	for {
		page, pageTime, err := s.config.Documents.QueryPending(ctx, after, through, s.config.PageSize)
		if err != nil {
			return err
		}
		if pageTime.After(readTime) {
			readTime = pageTime.UTC()
		}
		for _, info := range page {
			if len(window.Shards) > 0 && !info.Window.Equal(window.Start) {
				if err := ctx.Err(); err != nil {
					return err
				}
				if !yield(window, nil) {
					return nil
				}
				window = windowstore.PendingWindow{}
			}
			if len(window.Shards) == 0 {
				window.Start, window.ReadTime = info.Window.UTC(), readTime
			}
			window.Shards = append(window.Shards, shardOf(info))
		}
		if len(page) < s.config.PageSize {
			if len(window.Shards) > 0 {
				yield(window, nil)
			}
			return nil
		}
		last := page[len(page)-1]
		after = Cursor{Window: last.Window, Name: last.Name}
	}
}

// shardOf returns the document as a [windowstore.Shard]. CreatedAt is when the
// document was created. CreatedAt stays the same if the writer makes a settled
// document pending again, because the writer cannot know that the document was
// settled.
func shardOf(info ShardInfo) windowstore.Shard {
	return windowstore.Shard{
		Window:    info.Window.UTC(),
		Name:      info.Name,
		Version:   info.UpdateTime.UnixMicro(),
		CreatedAt: info.CreateTime.UTC(),
		WrittenAt: info.UpdateTime.UTC(),
	}
}

// Count implements [windowstore.Store]. It reads all documents of the window and
// holds every id that it reads in memory, 16 bytes each. If several counts hold more
// than largeKeys ids, one of them at a time continues.
func (s *Store) Count(ctx context.Context, start time.Time) (int64, error) {
	n, err := s.count(ctx, start)
	if err != nil {
		return 0, s.wrap("count window "+formatWindow(start)+" in", err)
	}
	return n, nil
}

func (s *Store) count(ctx context.Context, start time.Time) (int64, error) {
	var ids keyBag
	large := false
	for batch, err := range s.config.Documents.QueryWindow(ctx, start.UTC()) {
		if err != nil {
			return 0, err
		}
		if err := unpackBatch(batch, ids.add); err != nil {
			return 0, err
		}
		if ids.len > s.config.MaxKeys {
			return 0, fmt.Errorf("more than %d, some perhaps repeated: %w", s.config.MaxKeys, windowstore.ErrTooManyKeys)
		}
		if ids.len > largeKeys && !large {
			select {
			case s.large <- struct{}{}:
			case <-ctx.Done():
				return 0, fmt.Errorf("wait for the count of another large window: %w", ctx.Err())
			}
			large = true
			defer func() { <-s.large }()
		}
	}
	return ids.distinct(), nil
}

// Settle implements [windowstore.Store].
func (s *Store) Settle(ctx context.Context, shards []windowstore.Shard, expireAt time.Time) error {
	if len(shards) == 0 {
		return nil
	}
	infos := make([]ShardInfo, len(shards))
	for i, shard := range shards {
		infos[i] = ShardInfo{
			Name:       shard.Name,
			Window:     shard.Window,
			CreateTime: shard.CreatedAt,
			UpdateTime: time.UnixMicro(shard.Version).UTC(),
		}
	}
	results := s.config.Documents.Settle(ctx, infos, expireAt.UTC())
	if len(results) != len(shards) {
		return s.wrap("settle", fmt.Errorf("%d answers for %d shards", len(results), len(shards)))
	}
	var errs []error
	for i, err := range results {
		// A shard that has changed, or no longer exists, needs no settling.
		if err != nil && !errors.Is(err, ErrPrecondition) {
			errs = append(errs, fmt.Errorf("shard %s: %w", shards[i].Name, err))
		}
	}
	if len(errs) > 0 {
		return s.wrap("settle", join(errs))
	}
	return nil
}
