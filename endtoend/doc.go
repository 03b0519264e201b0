// Package endtoend tests the whole path with the compiled program. Google's Pub/Sub
// emulator pushes messages to the program. The program keeps its counters in Google's
// Firestore emulator and its rows in a BigQuery emulator. The test calls flushes as Cloud
// Scheduler does.
//
// The messages are those of a bad day: some events lag, some are late, some come twice,
// and some messages are no events. The program is killed twice: once while pushes wait to
// be stored, and once while two flushes write. In the end every row and every count in
// the tables must be right. The test computes them itself from the messages that were
// published.
//
// A second test does so with events of a pipeline file, which it pushes itself, on SQLite
// and on the emulators.
package endtoend
