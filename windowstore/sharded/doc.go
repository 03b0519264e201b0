// Package sharded keeps the counters in a document database ([Documents]), in
// production Firestore. Any number of processes add and flush at the same time
// without a lock, a lease or a transaction.
//
// # Model
//
// Package windowstore says what a shard is and why flushes lose nothing. Here a
// shard is a document with one writer: the [Store] that made it. Instances of a
// service never write the same document, so they never contend, and an Add is one
// atomic write, of all its windows, that reads nothing before.
//
//	pipelines/<pipeline>/counter_shards/<writer>-<window start, unix seconds>-<slot>
//
//	window     timestamp   start of the window
//	pending    timestamp   the same; absent once the shard is settled
//	count      integer     ids in batches, one that is in two of them twice: for people, and
//	                       for sums that may be a little too great
//	batches    map         batch key -> bytes: a version byte, then ids of 16 bytes each
//	expire_at  timestamp   set by Settle, removed by every Add; the TTL field
//
// The writer is random for each store and comes first in the name, so names do
// not sort by time and neighbours in the index are not written together. Slots
// are numbered by one counter for the store, as are batches, in base 36; no
// number is ever used again. A shard's version is its document's update time in
// microseconds, which never repeats, not even for a document that was deleted
// and made again.
//
// # Why each write is blind, and why it may be repeated
//
// A write names every field that it sets, and puts its ids into the map under a
// key that no other write ever has. So it depends on nothing that was read, and
// applying it twice, as a client does that repeats a commit whose answer was lost,
// leaves what applying it once leaves. (Incrementing a number would count twice,
// and Firestore's client does repeat by itself.) What a repeat does change, the
// update time and pending, errs on the safe side: the next flush counts the
// window once more.
//
// The count is raised to what the document holds with this batch, which its only
// writer knows. (Incremented, it would count a repeat; set, a repeat that is applied
// after a later write would put it back.) It counts an id twice that came in two
// batches, as a redelivery does. No flush uses it.
//
// # Slots
//
// A document should not be written more than about once a second. So a writer
// takes the least recently written of its slots of the window if that write
// returned over a second ago, and opens a new one otherwise: about six slots for
// a window at five writes a second. A slot is in one write at a time. It closes
// before it holds more than 512 KiB, which is far from the 1 MiB that a document
// may have. A batch too large for one document is split over several of the same
// atomic commit, and one of more than six documents (some 196,000 ids) over
// several commits, one after the other, each applied whole or not at all. The
// windows of an Add share a commit of up to 3.5 MB and 500 documents. Slots
// of windows that have not been written for five minutes are forgotten; their
// documents are never written again.
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
//	the same after the document expired      it is made again, with that batch only and a
//	                                         count too great; its window is by then so old
//	                                         that a flush counts it from the raw rows
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
// The fields window and pending are indexed and their values ascend, which
// Firestore serves up to about 500 new index entries a second, so a pipeline can
// open about 500 shards a second. At five or six slots for each instance and
// minute that is thousands of instances.
//
// Count holds every id that it reads, 16 bytes each, and gives up at 20 million
// (about 320 MB); the warehouse counts such a window. Any number of windows may be
// counted at once, but when a count holds more than 2^18 ids (4 MiB) it waits until
// no other such count is under way.
//
// # What Firestore is asked
//
//   - Merge: one Commit without a transaction, with an Update for each document
//     whose update mask is window, pending, batches.<key> and expire_at, the last
//     without a value, which deletes it, and whose transform is maximum of count. No
//     precondition. Keys begin with digits, so the field path needs backquotes.
//   - QueryPending: RunQuery, pending <= through, ordered by pending and __name__,
//     both ascending, which the one index of pending serves, starting before the
//     cursor's window or, from the second page on, after its document; Limit, and
//     Select of window only. Create and update time come with each document, the
//     read time with each response.
//   - QueryWindow: RunQuery, window == start, Select of batches.
//   - Settle: BatchWrite (500 writes a call at most) of Updates whose mask is
//     pending, without a value, and expire_at, each with the precondition
//     update_time. FAILED_PRECONDITION and NOT_FOUND are ErrPrecondition.
//   - CreatePipeline: one Commit of creations, each with the precondition
//     exists=false. ALREADY_EXISTS is ErrExists.
//   - LowerLeastKept: an Update of one field with the precondition update_time.
//
// The fields batches and expire_at are exempt from indexes; expire_at is the TTL
// field of the collection group counter_shards.
package sharded
