package sharded

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidemark-dev/tidemark/windowstore"
)

const (
	// maxBatchKeys is how many ids fit into an empty document if the batch's key has
	// the greatest length.
	maxBatchKeys = (maxShardBytes - emptyShardBytes - 16) / keyLen
	// maxCommitBytes is what one commit holds at most.
	maxCommitBytes = 3_500_000
	// maxCommitWrites is how many documents one commit writes at most. Firestore
	// once refused more, and may still.
	maxCommitWrites = 500
	// maxCommitKeys is how many ids one commit holds at most.
	maxCommitKeys = maxCommitBytes / maxShardBytes * maxBatchKeys
)

// Add implements [windowstore.Store]. One atomic commit takes as many windows as fit,
// oldest first. If a shared commit is refused, Add tries each of its windows alone,
// so that no window blocks another. If a window's part has more than 196,000 ids, it
// takes several commits; each is applied whole or not at all.
//
// An Add that brings no new id writes, too: Add does not know which ids are new, and
// a window that is still used must not expire.
func (s *Store) Add(ctx context.Context, increments []windowstore.Increment) error {
	merged, err := windowstore.Merge(increments)
	if err != nil {
		return s.wrap("add to", err)
	}
	if len(merged) == 0 {
		return ctx.Err()
	}
	if err := s.Register(ctx); err != nil {
		return s.wrap("add to", err)
	}
	if errs := s.addAll(ctx, merged); len(errs) > 0 {
		return s.wrap("add to", join(errs))
	}
	return nil
}

func (s *Store) addAll(ctx context.Context, increments []windowstore.Increment) (errs []error) {
	for _, parts := range s.pack(increments) {
		// A commit that is not tried leaves its slots open.
		if err := ctx.Err(); err != nil {
			return append(errs, fmt.Errorf("window %s and later ones: %w", formatWindow(parts[0].Window), err))
		}
		err := s.commit(ctx, parts)
		switch {
		case err == nil:
		case len(parts) > 1 && ctx.Err() == nil:
			errs = append(errs, s.addEach(ctx, parts)...)
		default:
			errs = append(errs, fmt.Errorf("%s: %w", formatWindows(parts), err))
		}
	}
	return errs
}

// addEach adds each part in a commit of its own, after a commit of all parts failed.
// That commit may have been applied, or may be applied later. Adding the keys again
// changes nothing.
func (s *Store) addEach(ctx context.Context, parts []windowstore.Increment) (errs []error) {
	for i := range parts {
		errs = append(errs, s.addAll(ctx, parts[i:i+1])...)
	}
	return errs
}

// pack divides the increments into commits, in order. An increment is in one commit
// unless it is too large for any commit.
func (s *Store) pack(increments []windowstore.Increment) (commits [][]windowstore.Increment) {
	var bytes, writes int // of the last commit
	for _, inc := range increments {
		for keys := range slices.Chunk(inc.Keys, maxCommitKeys) {
			partWrites := (len(keys) + maxBatchKeys - 1) / maxBatchKeys
			partBytes := partWrites*emptyShardBytes + len(keys)*keyLen
			if len(commits) == 0 || bytes+partBytes > maxCommitBytes || writes+partWrites > s.config.MaxCommitWrites {
				commits = append(commits, nil)
				bytes, writes = 0, 0
			}
			bytes += partBytes
			writes += partWrites
			last := len(commits) - 1
			commits[last] = append(commits[last], windowstore.Increment{Window: inc.Window, Keys: keys})
		}
	}
	return commits
}

// commit adds the parts' keys to the sets of their windows in one atomic write.
func (s *Store) commit(ctx context.Context, parts []windowstore.Increment) error {
	var reserved []reservation
	var writes []ShardWrite
	applied := false
	defer func() {
		for _, r := range reserved {
			s.slots.release(r, applied)
		}
	}()
	for _, part := range parts {
		for batch := range slices.Chunk(part.Keys, maxBatchKeys) {
			r := s.slots.reserve(part.Window.Unix(), len(batch))
			reserved = append(reserved, r)
			writes = append(writes, ShardWrite{
				Name:   r.slot.name,
				Window: part.Window,
				Count:  r.slot.count + r.ids,
				Key:    r.key,
				Batch:  packBatch(batch),
			})
		}
	}
	if err := s.config.Documents.Merge(ctx, writes); err != nil {
		return err
	}
	applied = true
	return nil
}

func formatWindows(parts []windowstore.Increment) string {
	first, last := formatWindow(parts[0].Window), formatWindow(parts[len(parts)-1].Window)
	if first == last {
		return "window " + first
	}
	return fmt.Sprintf("%d windows from %s to %s", len(parts), first, last)
}
