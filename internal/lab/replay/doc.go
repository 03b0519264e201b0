// Package replay sends stored messages to a push endpoint again, as Pub/Sub would: each
// message at least once, until it is acknowledged.
//
// # Input
//
// The input is text, gzipped or not, with one message a line:
//
//   - A push body is a JSON object whose "message" is an object. It is sent unchanged. The
//     message keeps its id and publish time, so a server that has counted the message does
//     not count it again.
//   - Any other JSON object is a bare event. It becomes the data of a message. The publish
//     time is the time in the event, or now if there is no time that can be read. (By option,
//     it is now for all events.) The option Time says in which field the time is.
//   - Any other line, such as half a line after an interrupted write, also becomes the data
//     of a message, published now. The server keeps this message as a dead letter, so that no
//     line of a file is lost.
//
// Blank lines are skipped. The id of a message that is created from a line is derived from
// the line's bytes ([event.DerivedID]). For the second and each later line of equal bytes, the
// id also depends on the line's number among these lines. So two equal lines of a file are two
// events, and a file that is sent again has the same events. (Counting equal lines takes about
// 30 bytes of memory a line.)
//
// # Wrong files
//
// A line that is not an event becomes a dead letter, which stays in the table. A wrong file
// should not become thousands of dead letters. So nothing is sent until a line is known to be
// a push body or an event: Run asks the server with dry_run=1, which stores nothing. If the
// first hundred lines are neither, Run stops. With Options.Anyway, Run sends the file without
// this check.
//
// # Giving up
//
// If the server does not acknowledge a line within Options.GiveUpAfter, the line is given up.
// If no other line was finished in that time either, Run assumes that the server is down, and
// stops.
//
// # Shifting
//
// With Options.ShiftToNow all times move by the same offset, so that the latest publish time
// becomes now. The times are the publish times, the time in the payload, and the attribute
// TimeAttribute. (For a bare event, or a message without publish time, the payload's time
// counts as the publish time.) The offset is in whole seconds. Of a text, only the date and
// the time of day are rewritten. So the order of events, their lags, their fractions and all other bytes stay.
// A text that cannot be read as a time stays as it is, and so does a payload that is not a
// JSON object. The latest time must be known before the first line is sent, so the input is
// read twice. An input that cannot seek is first copied to a temporary file.
//
// For a server, shifted events are new events: bare events have other bytes and so other ids,
// and push bodies keep their ids but belong to other windows.
package replay
