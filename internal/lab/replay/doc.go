// Package replay sends stored messages to a push endpoint again, as Pub/Sub
// would: each at least once, until it is acknowledged.
//
// # Input
//
// Text, gzipped or not, one message a line:
//
//   - A push body, which is a JSON object whose "message" is an object, is sent
//     byte for byte. Its message id and publish time stay what they were, so a
//     server that has seen it counts it no second time.
//   - Any other JSON object is a bare event. It becomes the data of a message
//     whose publish time is the event's timestamp, or now where it has none that
//     can be read. (By option, now for all.)
//   - Anything else, such as half a line that an interrupted writer left, becomes
//     the data of a message too, published now. The server keeps it as a dead
//     letter, so that nothing of a file vanishes.
//
// Blank lines are skipped. A message made from a line has an id derived from its
// bytes ([event.DerivedID]) and, for the second and each later line of equal bytes,
// from its number among them. So two equal lines of a file are two events, and the
// same file sent again is the same events. (To count its equals costs about 30 bytes
// of memory a line.)
//
// # Files of something else
//
// What is no event becomes a dead letter, which stays. So that a wrong file does not
// become thousands of them, nothing is sent before a line is known to be a push body,
// or an event: the server is asked with dry_run=1, which stores nothing. If the first
// hundred lines are neither, Run stops. Options.Anyway sends the file without that.
//
// # Giving up
//
// A line that the server does not acknowledge within Options.GiveUpAfter is given up.
// If no other line was finished in that time either, the server is taken for dead and
// Run stops.
//
// # Shifting
//
// With Options.ShiftToNow every time moves by one offset, so that the latest
// publish time is now: publish times, the payload's timestamp, and an attribute
// named timestamp. (A line without publish time, and a bare event, enters with
// its timestamp.) The offset is in whole seconds and only the date and time of
// day are rewritten, so the order of events, their lags, their fractions and
// every other byte stay. What cannot be read as a time, and payloads that are no
// JSON object, stay as they are. The latest time is needed before the first line
// can be sent, so the input is read twice; one that cannot seek is copied to a
// temporary file first.
//
// Shifted events are new ones to a server: bare events have other bytes and so
// other ids, and push bodies keep their ids but fall into other windows.
package replay
