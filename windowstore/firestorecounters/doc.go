// Package firestorecounters keeps the counters' documents in Firestore: it is
// [sharded.Documents] on the service's own API.
//
// # Documents
//
//	pipelines/<pipeline>                          the pipeline's meaning; least_kept
//	pipelines/<pipeline>/counter_shards/<shard>   a shard: see package sharded
//	tables/<table>                                the claim of a pipeline on a table
//
// [ShardFields] says which fields of a shard need an index, which must have none,
// and which one is the TTL field. Names of pipelines and tables must be valid
// document ids.
//
// # Why the generated client
//
// The store wants single atomic commits without a transaction, batches of writes
// that succeed or fail each on its own, and the time of a query's snapshot. The
// API has all three. Of the client that is made for people the first is deprecated
// (WriteBatch), the second is paced from 500 writes a second in requests of 20
// (BulkWriter), and the third is missing where a query finds nothing.
//
// # Repeats and deadlines
//
// Every call may be repeated, since each of its writes means the same when it is
// applied twice, or has a precondition that refuses the second. So this package
// repeats what failed for a passing reason, plain writes that were aborted too,
// with a pause that grows and is random, until the context ends; the client's own
// repeats, which pass over aborted writes, are off. A call that was given no
// deadline has that of [Config].CallTimeout. Where that ends, the error has both
// the context's and the service's last answer, so that an exhausted quota does
// not read like a slow network.
//
// A connection can die without a sign: then it takes requests and brings no answer.
// So an attempt without an answer is given up after half of the time that is left,
// and later attempts use another connection. Pings find a dead connection under a
// query that has begun to be answered.
//
//	what fails                                what happens
//	---------------------------------------   -------------------------------------------
//	a commit, or its answer is lost           repeated; applied twice it means the same
//	a creation whose answer was lost          the repeat is told that it exists; the store
//	                                          reads and compares
//	a settle whose answer was lost            the repeat is refused, which is no error
//	some writes of a settle                   those are repeated, the others stay settled
//	a connection, without a sign              repeated on another, in the same call
//	a query before its first answer           repeated
//	a query after that                        an error: the next flush asks again
//	a quota, or a request that is too large   repeated until the context ends
//
// # Cost
//
// A busy process writes each window at most five times a second, however many
// events there are; each minute adds five or six documents, which are read twice,
// settled with one write each, and deleted once by TTL. An idle one costs a read a
// minute. Measured, in document writes for 1,000 events: 51 at 100 events a second,
// 68 with the lab's lag, 16 while 64 pushes of one window are always under way. A
// document and an increment for each event would be 2,000. docs/cost.md has the
// rates in between, and the prices.
package firestorecounters
