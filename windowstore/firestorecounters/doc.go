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
//	what fails                                what happens
//	---------------------------------------   -------------------------------------------
//	a commit, or its answer is lost           repeated; applied twice it means the same
//	a creation whose answer was lost          the repeat is told that the document exists; the
//	                                          store reads and compares
//	a settle whose answer was lost            the repeat is refused, which is no error
//	some writes of a settle                   those are repeated, the others stay settled
//	a connection, without a sign              repeated on another, in the same call
//	a query before its first answer           repeated
//	a query after that                        an error: the next flush asks again
//	a quota, or a request that is too large   repeated until the context ends
//
// # Cost
//
// A busy process writes each window at most five times a second, however many events
// there are. Each minute adds five or six documents. Each document is read twice,
// settled with one write, and deleted once by TTL. An idle process costs one read a
// minute. Measured document writes for 1,000 events: 51 at 100 events a second, 68
// with the lab's lag, 16 while 64 pushes of one window are always under way. With a
// document and an increment for each event there would be 2,000. docs/cost.md has the
// rates in between, and the prices.
package firestorecounters
