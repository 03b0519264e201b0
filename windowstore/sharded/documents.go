package sharded

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// Errors of [Documents] that the store tells apart.
var (
	// ErrPrecondition says that a write was refused because the document is not as
	// its precondition says, or is gone. It was not applied.
	ErrPrecondition = errors.New("precondition failed")
	// ErrExists says that a document was not created because it is there.
	ErrExists = errors.New("document exists")
)

// Documents is what the store needs of a document database, for one pipeline: in
// production Firestore's, in a test a model of it. It says in Firestore's words
// what each call must do there; a model need not know more of Firestore than
// this.
//
// Any call may fail before or after it was applied, or never answer; then it
// returns when ctx ends, and may be applied still later. Unless an error is one
// of the above, nothing is known. No call is retried by the store: what may be
// repeated within ctx's deadline (the same write, which then means the same), the
// implementation repeats.
//
// All times are the server's, UTC, in microseconds.
type Documents interface {
	// Merge applies the writes in one atomic commit: each makes its document, or
	// sets in it the fields window and pending (both to the window's start), adds its
	// batch to the map batches, leaving the map's other keys, raises the field count
	// to the given one where it is less, and removes the field expire_at. There is no
	// precondition. Every commit that changes a
	// document gives it a new, greater update time.
	Merge(ctx context.Context, writes []ShardWrite) error

	// QueryPending returns, from one snapshot, up to limit documents in which the
	// field pending is there and not after through, in the order of pending and
	// then of the name, both ascending, beginning after the given place. It returns them without their batches, with the time of the snapshot.
	// Fewer than limit means that there are no more. The snapshot has every commit
	// that had returned before the call.
	QueryPending(ctx context.Context, after Cursor, through time.Time, limit int) (page []ShardInfo, readTime time.Time, err error)

	// QueryWindow yields the batches of every document whose field window is start,
	// pending or not, from one snapshot, which has every commit that had returned
	// before the call. An error ends the sequence.
	QueryWindow(ctx context.Context, start time.Time) iter.Seq2[[]byte, error]

	// Settle removes the field pending from each of the documents and sets
	// expire_at in it, on condition that its update time is still the given one;
	// each on its own, as BatchWrite does, not in one commit. It returns an error
	// for each: ErrPrecondition where the document has changed or is gone.
	Settle(ctx context.Context, shards []ShardInfo, expireAt time.Time) []error

	// Pipelines returns every pipeline's record, by name.
	Pipelines(ctx context.Context) (map[string]PipelineRecord, error)

	// CreatePipeline makes the pipeline's record and, in the same atomic commit, a
	// document for each of its tables, which no other pipeline may have. It returns
	// ErrExists, and has made nothing, if any of these is there.
	CreatePipeline(ctx context.Context, record PipelineRecord) error

	// LowerLeastKept sets the record's LeastKept to keep, on condition that its
	// update time is still the given one; else ErrPrecondition.
	LowerLeastKept(ctx context.Context, keep time.Duration, updateTime time.Time) error
}

// A ShardWrite adds a batch to a shard's document.
type ShardWrite struct {
	Name   string
	Window time.Time
	Count  int64  // ids in the document with this batch
	Key    string // of the batch, in the map batches
	Batch  []byte // as packBatch writes it
}

// A ShardInfo is a shard's document without its batches.
type ShardInfo struct {
	Name                   string
	Window                 time.Time
	CreateTime, UpdateTime time.Time
}

// A Cursor is a place in the order of QueryPending: that of a document or, without
// a name, the place before every document of the window. The zero Cursor is before
// all.
type Cursor struct {
	Window time.Time
	Name   string
}

// A PipelineRecord is what is on record of a pipeline.
type PipelineRecord struct {
	Meaning    windowstore.Meaning
	LeastKept  time.Duration // 0 before the first flush
	UpdateTime time.Time
}
