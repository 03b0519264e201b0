// Package simulation runs the product through bad days in virtual time. The
// classification, group commit, counter store, flush and audit are the real code, in
// several processes. Their storage fails in every way in which it is documented to fail.
// Pub/Sub delivers messages again, late, twice and out of order. A seed decides
// everything that happens, so a day on which a promise was broken can be repeated.
//
// # The world
//
// Messages are published over some minutes. Among them are events that lag or are late,
// events at the very edges of windows and of lateness, events too far in the future,
// events whose row the warehouse refuses, and messages that are no events. Pub/Sub pushes
// each message to some process. It pushes the message again after a refusal or after the
// ack deadline, even while the first attempt still runs. Now and then it pushes an
// acknowledged message once more, up to hours later. The deliveries of a message may have
// different publish times. There may be an outage of hours, after which all messages that
// waited are delivered. A flush comes about once a minute, but sometimes two come at
// once, one is cut off, or none comes for hours. Processes start, stall, have clocks that
// are wrong by seconds, and die at any step. A new process may have another allowed
// lateness or retention than those before. Windows last ten seconds, a minute or an hour.
// Commits of counters and pages of pending shards may be so small that an Add needs
// several commits and a flush reads several pages.
//
// # Storage
//
// The counters are documents ([sharded.Documents], modelled by package memdocs): merges,
// atomic commits, preconditions on update times, queries that read one snapshot, expiry.
// The tables take appends ([bigquerytables.AppendFunc], modelled in this package) and
// answer queries. An append is applied whole or not at
// all. A row may be refused for its own value, and the refusal may or may not name the
// row. A table may lack a column, or have a column that is too short for some rows, and
// may be repaired at any moment. Every call may be slow, fail before or after it is
// applied, never be answered, or be applied after its caller has given up or died.
//
// So the simulation covers an implementation for a cloud service if the implementation
// calls the service only in these ways. For Firestore that is an implementation of
// Documents, which package sharded uses. For BigQuery it is an AppendFunc, which
// [bigquerytables.Appender] uses, and the queries of a warehouse. If such an
// implementation retries a call by itself, then the simulation's model of this is a call
// that is slow.
//
// # Corners
//
// Some situations hardly ever happen by chance, so the simulation creates them: see
// [ambush]. The last event of a window is held back until a flush is between two of its
// steps, and is delivered at that moment. After that the window gets no more events,
// since any later event would repair the damage.
//
// # Checks
//
// At each acknowledgement: everything that it stands for is stored, and the verdict is
// right.
//
// At all times: every counted event is in the raw table, no row of the aggregate falls,
// queues and memory are bounded.
//
// In the end, when faults have stopped: every message is acknowledged, no due window
// waits for its flush, each window has as many page views as it has distinct events on
// time (counted here and not by the product), no row was final before its window was due,
// and the product's own audit finds nothing. There is one exception. An event may have
// been stored on time and acknowledged as late
// (docs/adr/2026-11-25-publish-times-that-differ.md). If its window lacks the event, the
// audit must find the window, and a repair must add the event.
//
// [Bugs] are mistakes that a test plants to see that these checks catch them.
package simulation
