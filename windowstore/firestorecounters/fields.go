package firestorecounters

// Names of collections.
const (
	pipelinesCollection = "pipelines"
	tablesCollection    = "tables"
	// ShardsCollection is the collection group of the shards. Field overrides (TTL,
	// index exemptions) are set for this group.
	ShardsCollection = "counter_shards"
)

// Fields of a shard.
const (
	fieldWindow   = "window"
	fieldPending  = "pending"
	fieldCount    = "count"
	fieldBatches  = "batches"
	fieldExpireAt = "expire_at"
)

// Fields of a pipeline's record, and of a table's claim.
const (
	fieldWindowDuration = "window_duration" // in the format of time.ParseDuration, as is least_kept
	fieldEventTime      = "event_time"
	fieldEventID        = "event_id"
	fieldRawTable       = "raw_table"
	fieldAggTable       = "agg_table"
	fieldLeastKept      = "least_kept" // absent before the first flush

	fieldPipeline = "pipeline" // of a claim: the pipeline that owns the table
)

// fieldName is the name of the document's name in queries.
const fieldName = "__name__"

// An Index says what a field's single-field index is for.
type Index string

// The three kinds of fields.
const (
	// IndexNeeded: a query filters or orders by the field, in ascending order.
	IndexNeeded Index = "needed"
	// IndexExempt: an index would do harm. An index of batches would have entries for
	// each batch. An index of expire_at ascends with time, so all writes would go to
	// its end.
	IndexExempt Index = "exempt"
	// IndexUnused: nothing needs the index that Firestore creates by default.
	IndexUnused Index = "unused"
)

// A Field is a field of the documents of the collection group
// [ShardsCollection], and how the database must be set up for it.
type Field struct {
	Name  string
	Index Index
	TTL   bool // the field of the group's TTL policy
}

// ShardFields returns every field of a shard. No query needs a composite index.
func ShardFields() []Field {
	return []Field{
		{Name: fieldWindow, Index: IndexNeeded},
		{Name: fieldPending, Index: IndexNeeded},
		{Name: fieldCount, Index: IndexUnused},
		{Name: fieldBatches, Index: IndexExempt},
		{Name: fieldExpireAt, Index: IndexExempt, TTL: true},
	}
}
