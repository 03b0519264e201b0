package shardstore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

const (
	// maxBatchKeys is how many ids fit into an empty document, with a key of the
	// greatest length.
	maxBatchKeys = (maxShardBytes - emptyShardBytes - 16) / keyLen
	// maxCommitBytes is what one commit holds at most.
	maxCommitBytes = 3_500_000
	// maxCommitKeys is how many ids one commit holds at most.
	maxCommitKeys = maxCommitBytes / maxShardBytes * maxBatchKeys
)

// Add implements [windowstore.Store]: one atomic commit for each window, oldest
// first, whatever became of the ones before it. Only a window's part of more than
// 196,000 ids is several commits, each applied whole or not at all.
//
// An Add that brings no new id writes all the same. It does not know that; and a
// window that is still used must not expire.
func (s *Store) Add(ctx context.Context, increments []windowstore.Increment) error {
	merged, err := mergeWindows(increments)
	if err != nil {
		return s.wrap("add to", err)
	}
	if len(merged) == 0 {
		return ctx.Err()
	}
	if err := s.register(ctx); err != nil {
		return s.wrap("add to", err)
	}
	if errs := s.addAll(ctx, merged); len(errs) > 0 {
		return s.wrap("add to", join(errs))
	}
	return nil
}

func (s *Store) addAll(ctx context.Context, increments []windowstore.Increment) (errs []error) {
	for _, inc := range increments {
		for part := range slices.Chunk(inc.Keys, maxCommitKeys) {
			// A commit that is not tried leaves its slots open.
			if err := ctx.Err(); err != nil {
				return append(errs, fmt.Errorf("window %s and later ones: %w", formatWindow(inc.Window), err))
			}
			if err := s.commit(ctx, inc.Window, part); err != nil {
				errs = append(errs, fmt.Errorf("window %s: %w", formatWindow(inc.Window), err))
			}
		}
	}
	return errs
}

// commit adds the keys to the window's set in one atomic write.
func (s *Store) commit(ctx context.Context, window time.Time, keys []windowstore.Key) error {
	var reserved []reservation
	var writes []ShardWrite
	applied := false
	defer func() {
		for _, r := range reserved {
			s.slots.release(r, applied)
		}
	}()
	for batch := range slices.Chunk(keys, maxBatchKeys) {
		r := s.slots.reserve(window.Unix(), len(batch))
		reserved = append(reserved, r)
		writes = append(writes, ShardWrite{
			Name:   r.slot.name,
			Window: window,
			Count:  r.slot.count + r.ids,
			Key:    r.key,
			Batch:  packBatch(batch),
		})
	}
	if err := s.config.Documents.Merge(ctx, writes); err != nil {
		return err
	}
	applied = true
	return nil
}

// mergeWindows returns one increment for each window that has keys, oldest first,
// with its distinct keys in order. It leaves the given ones as they are.
func mergeWindows(increments []windowstore.Increment) ([]windowstore.Increment, error) {
	keysOf := map[int64][]windowstore.Key{}
	for _, inc := range increments {
		if inc.Window.Nanosecond() != 0 {
			return nil, fmt.Errorf("window start %s is not a whole second", inc.Window.Format(time.RFC3339Nano))
		}
		if len(inc.Keys) > 0 {
			start := inc.Window.Unix()
			keysOf[start] = append(keysOf[start], inc.Keys...)
		}
	}
	var merged []windowstore.Increment
	for _, start := range slices.Sorted(maps.Keys(keysOf)) {
		keys := keysOf[start]
		slices.SortFunc(keys, compareKeys)
		merged = append(merged, windowstore.Increment{Window: time.Unix(start, 0).UTC(), Keys: slices.Compact(keys)})
	}
	return merged, nil
}

func compareKeys(a, b windowstore.Key) int { return bytes.Compare(a[:], b[:]) }
