// Package simulation runs the product through bad days: the real classification,
// group commit, counter store, flush and audit, several processes of them, in
// virtual time, on storage that fails in every way it is documented to, under a
// Pub/Sub that delivers again, late, twice and out of order. A seed decides all
// that happens, so a day that breaks a promise can be seen again.
//
// # The world
//
// Messages are published over some minutes: events of which some lag and some are
// late, events at the very edges of windows and lateness, messages that are no
// events, events too far ahead, and events whose row the warehouse refuses.
// Pub/Sub pushes each to some process, again after a refusal or its ack deadline,
// even while the first attempt still runs, and now and then once more after it was
// acknowledged, up to hours later. The publish time of a message may differ between
// its deliveries. There may be an outage of hours, and then the
// backlog. Flushes come about once a minute, sometimes not, sometimes two at once,
// sometimes cut off, sometimes not for hours. Processes start, stall, lose their
// clock by seconds, and die at any step. One that starts may have another allowed
// lateness or retention than those before. Windows are of ten seconds, a minute or an
// hour. Commits of counters and pages of pending shards may be so small that an Add is
// several commits and a flush reads several pages.
//
// # Storage
//
// The counters are documents ([sharded.Documents], modelled by package
// memdocs): merges, atomic commits, preconditions on update times, queries that
// read one snapshot, expiry. The tables are append streams and queries
// ([streamhouse.Streams] and [streamhouse.Queries], modelled here): appends that
// are applied whole or not at all, rows refused for their own value, with or
// without their names, tables that lack a column or have one that is too short for
// some rows, and are repaired at any moment. Every call may be slow, fail
// before it is applied or after, never answer, or be applied after its caller has
// given up or died.
//
// So an implementation for a cloud service is covered by a simulation if it calls
// the service through these interfaces and nothing else: for Firestore one that
// implements Documents, used by package sharded; for BigQuery one that
// implements Streams and Queries, used by package streamhouse. What such an
// implementation retries by itself is a call here that is slow.
//
// # Corners
//
// What chance does not find is steered into: see [ambush]. A window's last event is
// held back until a flush is between two of its steps, and arrives there. Any later
// event of the window would repair the damage, so then the window is left alone.
//
// # Checks
//
// At each acknowledgement: all that it stands for is stored, and the verdict is
// right. At all times: what is counted is in the raw rows, no row of the aggregate
// falls, queues and memory are bounded. In the end, when faults have stopped:
// everything comes to rest and is acknowledged, no due window waits for its flush, each
// window has as many page views as distinct events on time, worked out here and not by
// the product, no row was final before it was due, and the product's own audit is clean.
// An event may have been stored on time and acknowledged as late
// (docs/adr/2026-11-25-publish-times-that-differ.md): then the audit must find its
// window, if it lacks the event, and a repair must add it.
//
// [Bugs] are mistakes that a test plants to see that these checks catch them.
package simulation
