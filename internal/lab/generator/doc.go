// Package generator makes the event stream of the streaming lab: users who walk
// a tree of pages, each page view a message as Pub/Sub would deliver it. It
// feeds demonstrations and tests.
//
// # Model
//
// Users are independent of each other. Each one, for ever: waits a gap, uniform
// from zero to twice the mean; takes a step in the page tree; makes the event,
// whose time is now; and publishes it.
//
// With Config.Lag a user is online or offline, and event time and publish time
// part. Online, an event sends the user offline with probability 0.1 and is then
// the first to be held; otherwise it is published after a delay, uniform from
// zero to 250 ms. Offline, each event is held, and with probability 0.25 brings
// the user back, who after such a delay publishes everything held, at once and
// in order. The user does nothing else during a delay, so with lag a stream runs
// a little below its nominal rate.
//
// At its end a stream publishes at once whatever is still held or delayed, and
// makes the redeliveries that are still to come, so nothing that was made is
// lost.
//
// # Two clocks
//
// There is one model: a queue of what is to be done next. [Simulate] works it off
// as fast as it can, and every action happens exactly when it is due. [Run] waits
// until it is, and everything is stamped with the real clock.
package generator
