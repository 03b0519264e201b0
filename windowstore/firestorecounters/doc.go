// Package firestorecounters keeps the counters' documents in Firestore. It implements
// [sharded.Documents] on the Firestore API.
//
// # Documents
//
//	pipelines/<pipeline>                          the pipeline's meaning; least_kept
//	pipelines/<pipeline>/counter_shards/<shard>   a shard: see package sharded
//	tables/<table>                                the claim of a pipeline on a table
//
// [ShardFields] says which fields of a shard need an index, which fields must have
// none, and which field is the TTL field. Names of pipelines and tables must be valid
// document ids.
//
// # Why the generated client
//
// The store needs three things: single atomic commits without a transaction, batches
// of writes that succeed or fail independently, and the time of a query's snapshot.
// The API has all three. The higher-level client does not do: it deprecates the first
// (WriteBatch), limits the second to 500 writes a second in requests of 20
// (BulkWriter), and lacks the third if a query finds nothing.
//
// # Repeats and deadlines
//
// Every call may be repeated: each of its writes has the same result if it is applied
// twice, or has a precondition that refuses the second. So this package repeats a
// call that failed for a passing reason, with a growing random pause, until the
// context ends. It also repeats plain writes that were aborted. The client does not
// repeat those, so the client's own repeats are off. A call without a deadline gets
// that of [Config].CallTimeout. When the time is up, the error has both the context's
// error and the service's last answer, so that an exhausted quota does not read like
// a slow network.
//
// A connection can die without a sign: it accepts requests and brings no answers. So
// an attempt without an answer is given up after half of the remaining time, and
// later attempts use another connection. When a query has begun to bring results,
// pings detect a dead connection.
//
// A query that has begun to bring results is not repeated: the next flush asks again.
//
// docs/cost.md says what the reads and writes cost.
package firestorecounters
