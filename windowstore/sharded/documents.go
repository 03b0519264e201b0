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
	// ErrPrecondition means that a write was refused, and not applied, because the
	// document is not as the write's precondition requires, or does not exist.
	ErrPrecondition = errors.New("precondition failed")
	// ErrExists means that a document was not created because it exists already.
	ErrExists = errors.New("document exists")
)

// Documents is what the store needs of a document database, for one pipeline. In
// production the database is Firestore; in a test it is a model of Firestore. The
// comments say in Firestore's words what each call must do. A model need not know
// more of Firestore than these comments.
//
// Any call may fail before or after it was applied, or get no answer. In the last
// case the call returns when ctx ends, and may be applied even later. Unless an error
// is one of the errors above, the store does not know whether the call was applied.
// The store retries no call. The implementation repeats what may be repeated (the
// same write with the same meaning) until ctx's deadline.
//
// All times are the server's, in UTC and in microseconds.
type Documents interface {
	// Merge applies the writes in one atomic commit. Each write creates its document
	// if the document does not exist. It sets the fields window and pending, both to
	// the window's start. It adds its batch to the map batches and leaves the other
	// keys of the map alone. It raises the field count to the given count if count is
	// less, and removes the field expire_at. There is no precondition. Every commit
	// that changes a document gives the document a new, greater update time.
	Merge(ctx context.Context, writes []ShardWrite) error

	// QueryPending returns up to limit documents, from one snapshot, that have a field
	// pending at or before through. The documents are ordered by pending and then by
	// name, both ascending, and begin after the given place. They come without their
	// batches, and with the time of the snapshot. Fewer documents than limit mean that
	// there are no more. The snapshot has every commit that returned before the call.
	QueryPending(ctx context.Context, after Cursor, through time.Time, limit int) (page []ShardInfo, readTime time.Time, err error)

	// QueryWindow yields the batches of every document whose field window is start,
	// pending or not. All batches come from one snapshot, which has every commit that
	// returned before the call. An error ends the sequence.
	QueryWindow(ctx context.Context, start time.Time) iter.Seq2[[]byte, error]

	// Settle removes the field pending from each document and sets its field
	// expire_at, on condition that the update time of the document is still the given
	// one. Each document is written on its own, as by BatchWrite, and not in one
	// commit. Settle returns an error for each document: ErrPrecondition if the
	// document has changed or does not exist.
	Settle(ctx context.Context, shards []ShardInfo, expireAt time.Time) []error

	// Pipelines returns the records of all pipelines, by name.
	Pipelines(ctx context.Context) (map[string]PipelineRecord, error)

	// CreatePipeline creates, in one atomic commit, the pipeline's record and a
	// document for each of its tables, which no other pipeline may have. If any of
	// these documents exists, CreatePipeline creates nothing and returns ErrExists.
	CreatePipeline(ctx context.Context, record PipelineRecord) error

	// LowerLeastKept sets the record's LeastKept to keep, on condition that the update
	// time of the record is still the given one. If not, it returns ErrPrecondition.
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

// A Cursor is a place in the order of QueryPending: the place of a document or, if
// Name is empty, the place before every document of the window. The zero Cursor is
// before all documents.
type Cursor struct {
	Window time.Time
	Name   string
}

// A PipelineRecord is what the database has on record of a pipeline.
type PipelineRecord struct {
	Meaning    windowstore.Meaning
	LeastKept  time.Duration // 0 before the first flush
	UpdateTime time.Time
}
