// Package windowstore holds the counters: for each window, the set of the ids of
// the events counted in it.
//
// # Model
//
// A window's counter is a grow-only set of event keys ([Key]). The set is kept in
// shards, and each shard holds a part of the set. The window's count is the size of
// the union of all its shards. A shard is pending from the moment it is written until
// a flush settles it. A settled version of a shard means: everything that this
// version holds has reached the aggregate. Only settled shards expire.
//
//	Add      S[shard] ∪= keys; pending; no expiry
//	Pending  windows of a range with a pending shard, with the version of each such shard
//	Count    | ∪ S[shard] | over all shards of the window
//	publish  append (window, count) to the aggregate, whose value is the greatest
//	Settle   if version unchanged: not pending; expires
//
// # Why no lock is needed
//
// Adding a key that is already in the set changes nothing. So an Add may be repeated,
// whether or not an earlier try was applied, and Adds commute. The aggregate is a
// max-register: publishing a smaller or equal count changes nothing. So publishes may
// be repeated and commute, too. What remains is that no count may be lost. For this
// it is enough that a shard never stops being pending before a count that covers the
// shard is published:
//
//  1. A flush reads the versions of a window's pending shards, then counts. The
//     sets only grow, so the count covers every version it read.
//  2. It publishes the count, and settles only after that has succeeded.
//  3. A shard is settled only in the version that was read. If keys were added to
//     the shard after the read, its version differs: the shard stays pending, and
//     the next flush counts it.
//
// Two flushes at the same time each follow these steps. Whichever flush settles a
// shard has itself published a count that covers the shard. So there is no lease and
// no leader, and two flushes cost only a superfluous row.
//
// A version must never repeat for the name of a shard. Otherwise step 3 could settle
// a shard that was deleted and created again between the read and the settle.
//
// # Failures
//
//	what fails                                 what happens
//	----------------------------------------   ------------------------------------------------
//	Add fails, nothing applied                 the caller answers 503; redelivery adds the keys
//	Add fails, but was applied                 the same; adding the keys again changes nothing
//	Add is applied after its caller gave up    the shard turns pending; the next flush counts it
//	flush dies before it published             the shards are pending; the next flush repeats all
//	flush dies between publish and settle      the same; the row appended twice is one value
//	Settle fails for some shards               they stay pending; the next flush repeats them
//	an Add between a flush's read and settle   Settle is refused for that shard; next flush
//	an Add after the window became final       the shard turns pending; the next flush appends
//	                                           the greater count
//	a window of which shards may have expired  the flush counts the raw rows too, and the
//	                                           greater count is right; which windows these are
//	                                           is on record, so that changed settings cannot
//	                                           hide it
//	a store that lost its shards altogether    nothing is pending, nothing is published: the
//	                                           aggregate keeps its values; repair finds what
//	                                           the raw rows have more
//	two processes of different settings        the second is refused: see Meaning
//
// Package windowstoretest tests this contract. Every implementation runs its tests.
package windowstore
