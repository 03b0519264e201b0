// Package endtoend tests the whole path with nothing of ours that stands in for
// something else: Google's Pub/Sub emulator pushes to the compiled program, which
// keeps its counters in Google's Firestore emulator and its rows in a BigQuery
// emulator, and a caller that looks like Cloud Scheduler has it flush.
//
// What comes is what comes on a bad day: events that lag, that are late, that come
// twice, messages that are no events; and twice the program is killed: at the sight of
// pushes that wait, and within two flushes. In the end the tables must be right to
// the event, as recounted here from what was published.
package endtoend
