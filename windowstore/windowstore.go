package windowstore

import (
	"bytes"
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

// A Key stands for an event id in a window's set. A key has 16 bytes, so that a set
// is small and every id costs the same.
type Key [16]byte

// KeyOf returns the key of an event id: the first half of the SHA-256 of the kind of
// the id (the EVENT_ID setting) and the id.
func KeyOf(kind, id string) Key {
	sum := sha256.Sum256([]byte(kind + "\x00" + id))
	return Key(sum[:16])
}

// Compare orders keys by their bytes.
func (k Key) Compare(other Key) int { return bytes.Compare(k[:], other[:]) }

// An Increment adds keys to the set of the window that starts at Window. Keys
// may repeat, within an increment and across increments.
type Increment struct {
	Window time.Time
	Keys   []Key
}

// Merge returns one increment for each window that has keys, oldest first, with its
// distinct keys in order. It returns an error unless windows start at whole seconds, as
// every store needs it.
func Merge(increments []Increment) ([]Increment, error) {
	keysOf := map[int64][]Key{}
	for _, inc := range increments {
		if inc.Window.Nanosecond() != 0 {
			return nil, fmt.Errorf("window start %s is not a whole second", inc.Window.Format(time.RFC3339Nano))
		}
		if len(inc.Keys) > 0 {
			start := inc.Window.Unix()
			keysOf[start] = append(keysOf[start], inc.Keys...)
		}
	}
	var merged []Increment
	for _, start := range slices.Sorted(maps.Keys(keysOf)) {
		keys := keysOf[start]
		slices.SortFunc(keys, Key.Compare)
		merged = append(merged, Increment{Window: time.Unix(start, 0).UTC(), Keys: slices.Compact(keys)})
	}
	return merged, nil
}

// A Shard describes one shard of a window's counter at one instant, without its keys.
type Shard struct {
	Window  time.Time // start of the window, UTC
	Name    string    // unique in the pipeline; only the store interprets it
	Version int64     // changed by every write of the shard; never repeats for a name
	// CreatedAt and WrittenAt are times of the store's clock. CreatedAt is when the
	// shard was created. If the shard became pending again after it was settled,
	// CreatedAt is the time of that, provided the store knows it. WrittenAt is when
	// keys were last added to the shard.
	CreatedAt, WrittenAt time.Time
}

// A PendingWindow is a window with at least one pending shard, as it was at
// ReadTime.
type PendingWindow struct {
	Start    time.Time // UTC
	ReadTime time.Time // by the store's clock; later for later windows, never earlier
	Shards   []Shard   // the pending ones: at least one
}

// LastWritten returns when keys were last added to the window.
func (w PendingWindow) LastWritten() time.Time {
	return slices.MaxFunc(w.Shards, func(a, b Shard) int { return a.WrittenAt.Compare(b.WrittenAt) }).WrittenAt
}

// ErrTooManyKeys is returned by [Store.Count] if the window holds more keys than the
// store can count within its memory. The warehouse can count such a window.
var ErrTooManyKeys = errors.New("window holds more event ids than the counter store can count")

// A Store holds a grow-only set of event keys for each window of one pipeline. Any
// number of goroutines may call all methods concurrently. If an implementation says
// so, any number of processes may do so, too.
//
// Every method obeys its context: when the context ends, the method returns within
// moments with an error. No method retries after its context ended. The caller may
// repeat any call that failed: the package comment says why this is safe.
type Store interface {
	// Register records the pipeline's [Meaning] if the pipeline is not on record. If
	// the record does not fit the Meaning, Register writes nothing and returns a
	// [*MeaningError]. After the first success Register costs nothing. A caller that
	// stores something for the pipeline elsewhere calls Register first.
	Register(ctx context.Context) error

	// Add adds the keys of each increment to the set of the increment's window. It
	// marks the shards that it wrote as pending and removes their expiry. When Add
	// returns nil, everything is durable. If Add returns an error, any part of the
	// increments may have been applied, or may be applied later; the part of each
	// window is applied whole or not at all.
	//
	// Add calls Register first, and writes nothing if Register fails.
	Add(ctx context.Context, increments []Increment) error

	// Pending yields the windows that start at or after from and at or before through
	// and that have pending shards: oldest first, each once. If from is the zero time,
	// the range has no beginning; if through is before from, the range is empty.
	// Pending sees every Add that returned before the caller began to range over the
	// sequence. Pending holds a bounded number of windows in memory and reads no
	// further ahead, so a caller that stops early does not pay for the rest. The
	// caller may use the store between two windows. An error ends the sequence.
	Pending(ctx context.Context, from, through time.Time) iter.Seq2[PendingWindow, error]

	// Count returns how many distinct keys the window that starts at start holds, over
	// all its shards, pending or not. Count sees every Add that returned before the
	// call, and so at least what any earlier Pending saw. If the set is too large,
	// Count returns ErrTooManyKeys, perhaps wrapped.
	Count(ctx context.Context, start time.Time) (int64, error)

	// KeepAtLeast records that from now on no shard is settled to expire sooner than
	// keep after the end of its window. It returns the smallest value that was ever
	// recorded for the pipeline. This value tells of which windows shards may have
	// expired, whatever the settings were when the shards were settled. A flush calls
	// KeepAtLeast before it counts or settles anything. KeepAtLeast writes only if
	// keep is smaller than the recorded value.
	KeepAtLeast(ctx context.Context, keep time.Duration) (least time.Duration, err error)

	// Settle removes the pending mark of each given shard and sets the shard to expire
	// at expireAt. Each shard is settled on its own, and only if its version is still
	// the given version. A shard that was written since, or that no longer exists, is
	// left alone without an error. If Settle returns an error, any of the shards may
	// have been settled.
	Settle(ctx context.Context, shards []Shard, expireAt time.Time) error

	// DeleteExpired deletes settled shards whose expiry is at or before now, and
	// returns how many it deleted. A store that deletes such shards by itself need not
	// do so here. DeleteExpired may leave some shards for the next call.
	DeleteExpired(ctx context.Context, now time.Time) (int, error)

	// Close releases the store's resources. No other method may be called during or
	// after Close.
	Close() error
}

// A Meaning says what a pipeline's counters mean. The Meaning is recorded when the
// pipeline first stores something. It never changes after that, since counters with
// different meanings must not mix.
type Meaning struct {
	WindowDuration time.Duration
	EventTime      string // the EVENT_TIME setting
	EventID        string // the EVENT_ID setting
	RawTable       string // the RAW_TABLE setting
	AggTable       string // the AGG_TABLE setting
}

// A MeaningError reports that the settings of a process do not fit the pipelines on
// record. The error is permanent: nothing was written, and no caller should retry.
type MeaningError struct {
	Pipeline string
	Problems []string // each names the setting and both values
}

func (e *MeaningError) Error() string {
	return fmt.Sprintf("the settings do not fit pipeline %q: %s; restore the recorded values, or start afresh with a new name in PIPELINE and tables of its own in RAW_TABLE and AGG_TABLE",
		e.Pipeline, strings.Join(e.Problems, "; "))
}

// CheckMeaning returns a [*MeaningError] if the meaning m of the pipeline does not
// fit the pipelines on record, which are given by name. A pipeline that is not on
// record fits if no other pipeline has its tables. Two pipelines cannot share a
// table: the raw table says in which windows of one pipeline its rows are, and the
// aggregate has one count for each window start.
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
