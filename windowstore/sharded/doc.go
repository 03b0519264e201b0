// Package sharded keeps the counters in a document database ([Documents]), in
// production Firestore. Any number of processes add and flush at the same time
// without a lock, a lease or a transaction.
//
// # Model
//
// Package windowstore explains what a shard is and why flushes lose nothing. Here a
// shard is a document with one writer: the [Store] that created the document.
// Instances of a service never write the same document, so they never contend. An Add
// writes all its windows in one atomic write and reads nothing first.
//
//	pipelines/<pipeline>/counter_shards/<writer>-<window start, unix seconds>-<slot>
//
//	window     timestamp   start of the window
//	pending    timestamp   the same; absent once the shard is settled
//	count      integer     ids in all batches; an id in two batches counts twice: for people, and
//	                       for sums that may be a little too large
//	batches    map         batch key -> bytes: a version byte, then ids of 16 bytes each
//	expire_at  timestamp   set by Settle, removed by every Add; the TTL field
//
// Each store has a random writer, and the writer comes first in the name. So names do
// not sort by time, and neighbours in the index are not written together. One counter
// of the store numbers the slots, and another numbers the batches, in base 36. No
// number is ever used again. A shard's version is the update time of its document in
// microseconds. The update time never repeats, even if a document is deleted and
// created again.
//
// # Why each write is blind, and why it may be repeated
//
// A write names every field that it sets, and puts its ids into the map under a key
// that no other write ever uses. So the write depends on nothing that was read, and
// applying it twice has the same result as applying it once. (A client that loses the
// answer to a commit repeats the commit. If the write incremented a number, a repeat
// would count twice, and Firestore's client repeats by itself.) A repeat changes only
// the update time and pending. This is safe: the next flush counts the window once
// more.
//
// A write raises the count to the number of ids that the document holds with this
// batch. The only writer of the document knows this number. (An increment would count
// a repeat. If the write set the count, a repeat that is applied after a later write
// would lower it again.) An id that came in two batches, as after a redelivery,
// counts twice. No flush uses the count.
//
// # Slots
//
// A document should not be written more than about once a second. So a writer takes
// the least recently written slot of the window if the last write to that slot
// returned more than a second ago. Otherwise it opens a new slot. At five writes a
// second this gives about six slots for a window. A slot is in one write at a time. A
// slot closes before it holds more than 512 KiB, far below the 1 MiB limit of a
// document. A batch that is too large for one document is split over several
// documents of the same atomic commit. A batch of more than six documents (some
// 196,000 ids) is split over several commits, one after the other; each commit is
// applied whole or not at all. The windows of an Add share a commit of up to 3.5 MB
// and 500 documents. The writer forgets the slots of windows that were not written
// for five minutes; the documents of these slots are never written again.
//
// # Failures
//
//	what fails                               what happens
//	--------------------------------------   ------------------------------------------------
//	a commit, nothing applied                the slot closes; Add returns the error; the
//	                                         redelivery's ids go to another slot
//	a commit, but was applied                the same; the ids are in two shards, once in
//	                                         the union
//	a commit is applied after its Add        its slot was closed and had no later write, so
//	gave up                                  its count is right too; the shard turns pending
//	the same after the document expired      the document is created again, with this batch
//	                                         only and a count that is too large; its window is
//	                                         by then so old that a flush counts the raw rows
//	an earlier try of a commit is applied    nothing: its batch is there, and count only
//	after a later write                      rises; the shard turns pending
//	the process dies                         its slots get no more writes; flushes go on
//	a commit of several windows              each window is tried alone; one that fails does not
//	                                         keep the others from being tried
//	an Add between Pending and Settle        the update time differs: not settled, no error
//	an answer to Settle is lost              the repeat is refused, which is no error either
//	two processes record the pipeline        one is told that it exists, reads, and compares
//	two processes lower what was kept        one is refused, reads again, and compares
//	a batch of another format or length      Count returns an error: nothing is published
//	                                         and nothing settled until somebody looks
//
// # Known ceiling
//
// The fields window and pending are indexed, and their values ascend. Firestore
// serves such an index up to about 500 new entries a second, so a pipeline can open
// about 500 shards a second. At five or six slots for each instance and minute this
// is enough for thousands of instances.
//
// Count holds every id that it reads, 16 bytes each, and gives up at 20 million
// (about 320 MB); the warehouse counts such a window. Any number of windows may be
// counted at the same time. But when a count holds more than 2^18 ids (4 MiB), it
// waits until no other such count is under way.
package sharded
