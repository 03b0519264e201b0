package windowstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/internal/durations"
)

// A Key stands for an event id in a window's set: 16 bytes, so that a set is
// small and every id costs the same.
type Key [16]byte

// KeyOf returns the key of the event id of the given kind (the EVENT_ID
// setting): the first half of the SHA-256 of both.
func KeyOf(kind, id string) Key {
	sum := sha256.Sum256([]byte(kind + "\x00" + id))
	return Key(sum[:16])
}

// An Increment adds keys to the set of the window that starts at Window. Keys
// may repeat, within an increment and across increments.
type Increment struct {
	Window time.Time
	Keys   []Key
}

// A Shard is what is known of one shard of a window's counter without its keys,
// as it was at one instant.
type Shard struct {
	Window  time.Time // start of the window, UTC
	Name    string    // unique in the pipeline; means something to the store only
	Version int64     // changed by every write of the shard; never repeats for a name
	// CreatedAt and WrittenAt are by the store's clock: when the shard was made,
	// or, where the store knows that, made pending again after it had been
	// settled; and when it was last added to.
	CreatedAt, WrittenAt time.Time
}

// A PendingWindow is a window with at least one pending shard, as it was at
// ReadTime.
type PendingWindow struct {
	Start    time.Time // UTC
	ReadTime time.Time // by the store's clock; later for later windows, never earlier
	Shards   []Shard   // those that are pending: at least one
}

// LastWritten returns when keys were last added to the window.
func (w PendingWindow) LastWritten() time.Time {
	return slices.MaxFunc(w.Shards, func(a, b Shard) int { return a.WrittenAt.Compare(b.WrittenAt) }).WrittenAt
}

// ErrTooManyKeys is returned by [Store.Count] for a window that holds more keys
// than the store can count within its memory. The warehouse can.
var ErrTooManyKeys = errors.New("window holds more event ids than the counter store can count")

// A Store holds, for one pipeline, a grow-only set of event keys per window. All
// methods may be called concurrently, from any number of goroutines and, where
// the implementation says so, processes.
//
// Every method stays on its context: when that ends, it returns within moments
// with an error. No method retries after the context ended, and the caller may
// repeat any call that failed: see the package comment for why that is safe.
type Store interface {
	// Register records the pipeline's [Meaning] if the pipeline is not on record.
	// Where what is on record does not fit it writes nothing and returns a
	// [*MeaningError]. Once it has succeeded it costs nothing. Whoever stores
	// something for the pipeline elsewhere registers first.
	Register(ctx context.Context) error

	// Add adds the keys of each increment to its window's set and marks the
	// shards it wrote as pending, removing their expiry. When it returns nil all
	// of it is durable. On an error any part of it may have been applied, now or
	// later; each window's part is applied whole or not at all.
	//
	// It registers first, and writes nothing where that fails.
	Add(ctx context.Context, increments []Increment) error

	// Pending yields the windows that start at from or later and at through or
	// before, and have pending shards: oldest first, each once. The zero time as
	// from is before every window; a through before from is an empty range. Every
	// Add that had returned before the sequence was ranged over is seen. Pending
	// holds a bounded number of windows in memory and reads no further ahead than
	// that, so a caller that stops early has not paid for the rest. The caller may
	// use the store between two windows. An error ends the sequence.
	Pending(ctx context.Context, from, through time.Time) iter.Seq2[PendingWindow, error]

	// Count returns how many distinct keys the window that starts at start holds,
	// over all its shards, pending or not. It sees every Add that had returned
	// before it was called, and so at least what any earlier Pending saw. It
	// returns ErrTooManyKeys, perhaps wrapped, where the set is too large.
	Count(ctx context.Context, start time.Time) (int64, error)

	// KeepAtLeast records that from now on no shard is settled to expire sooner
	// than keep after the end of its window, and returns the least that was ever
	// recorded for the pipeline. So it is known of which windows shards may have
	// expired, whatever the settings were when they were settled. A flush calls it
	// before it counts or settles anything. It writes only where keep is less than
	// what is on record.
	KeepAtLeast(ctx context.Context, keep time.Duration) (least time.Duration, err error)

	// Settle unmarks each of the given shards as pending and sets it to expire at
	// expireAt, each on its own and only if its version is still the given one. A
	// shard that was written since, or is already gone, is left as it is, and
	// that is no error. On an error any of them may have been settled.
	Settle(ctx context.Context, shards []Shard, expireAt time.Time) error

	// DeleteExpired deletes settled shards whose expiry is at or before now, as
	// far as the store does not do so by itself, and returns how many. It may
	// leave some of them for the next call.
	DeleteExpired(ctx context.Context, now time.Time) (int, error)

	// Close releases the store's resources. Nothing else may be called during or
	// after it.
	Close() error
}

// A Meaning is what a pipeline's counters mean. It is recorded with the pipeline
// when the pipeline first stores something and never changes: counters of two
// meanings must not mix.
type Meaning struct {
	WindowDuration time.Duration
	EventTime      string // the EVENT_TIME setting
	EventID        string // the EVENT_ID setting
	RawTable       string // the RAW_TABLE setting
	AggTable       string // the AGG_TABLE setting
}

// A MeaningError reports a process whose settings do not fit the pipelines on
// record. It is permanent: nothing was written, and nobody should retry.
type MeaningError struct {
	Pipeline string
	Problems []string // each names the setting, and both values
}

func (e *MeaningError) Error() string {
	return fmt.Sprintf("the settings do not fit pipeline %q: %s; restore the recorded values, or start afresh with a new name in PIPELINE and tables of its own in RAW_TABLE and AGG_TABLE",
		e.Pipeline, strings.Join(e.Problems, "; "))
}

// CheckMeaning returns a [*MeaningError] where a process that gives the pipeline
// the meaning m does not fit the pipelines on record, by name. A pipeline that
// is not on record fits if no other has its tables: the raw table says in which
// windows of one pipeline its rows are, and the aggregate has one count per
// window start, so neither can serve two.
func CheckMeaning(pipeline string, m Meaning, recorded map[string]Meaning) error {
	var problems []string
	if old, ok := recorded[pipeline]; ok {
		compare := func(setting, recorded, configured string) {
			if recorded != configured {
				problems = append(problems, fmt.Sprintf("%s is %s on record and %s in this process", setting, recorded, configured))
			}
		}
		compare("WINDOW_DURATION", durations.Text(old.WindowDuration), durations.Text(m.WindowDuration))
		compare("EVENT_TIME", old.EventTime, m.EventTime)
		compare("EVENT_ID", old.EventID, m.EventID)
		compare("RAW_TABLE", old.RawTable, m.RawTable)
		compare("AGG_TABLE", old.AggTable, m.AggTable)
	}
	for _, other := range slices.Sorted(maps.Keys(recorded)) {
		if other == pipeline {
			continue
		}
		if recorded[other].RawTable == m.RawTable {
			problems = append(problems, fmt.Sprintf("RAW_TABLE %s belongs to pipeline %q", m.RawTable, other))
		}
		if recorded[other].AggTable == m.AggTable {
			problems = append(problems, fmt.Sprintf("AGG_TABLE %s belongs to pipeline %q", m.AggTable, other))
		}
	}
	if problems == nil {
		return nil
	}
	return &MeaningError{Pipeline: pipeline, Problems: problems}
}
