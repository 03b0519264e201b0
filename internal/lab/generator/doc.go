// Package generator creates the event stream of the streaming lab. Users walk a tree of
// pages, and each page view is a message as Pub/Sub would deliver it. Demonstrations and
// tests use the stream.
//
// # Model
//
// Users are independent of each other. Each user repeats four steps: wait for a gap,
// uniform from zero to twice the mean; take a step in the page tree; create the event, whose
// time is now; publish the event.
//
// With Config.Lag a user is online or offline, and the publish time can be later than the
// event time. While the user is online, each event sends the user offline with probability
// 0.1. This event is then the first event that the user holds. Otherwise the event is
// published after a delay, uniform from zero to 250 ms. While the user is offline, the user
// holds each event, and each event brings the user back with probability 0.25. The user then
// waits for such a delay, and publishes all held events at once and in order. The user does
// nothing else during a delay, so with lag a stream is a little slower than its nominal rate.
//
// At its end a stream at once publishes all events that are held or delayed, and makes the
// remaining redeliveries. So no event is lost.
//
// # Two clocks
//
// Both clocks drive the same model: a queue of future actions. [Simulate] takes the actions
// as fast as it can, each at exactly the instant when it is due. [Run] waits until an action
// is due, and stamps the messages by the real clock.
package generator
