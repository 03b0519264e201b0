package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/window"
)

// ackDeadline is the ack deadline of the subscription.
const ackDeadline = time.Minute

// poison is a user agent that makes the warehouse refuse a row for its own value.
const poison = "poison"

// A message is a published message, together with what must become of it. The latter is
// worked out here and not by the product.
type message struct {
	event.Message             // with the publish time of its publication
	outcome                   // what must become of the message if it is delivered with that publish time
	times         []time.Time // the publish times that its deliveries may have; mostly there is only one
	happens       time.Time   // the time in the payload; zero if the message is no event
	poisoned      bool
	eventID       string
	data          string

	attempts     int
	underWay     int // the number of attempts that are not answered yet
	acknowledged int
	answers      []outcome // what the acknowledged deliveries had to become
}

// An outcome is what a delivery must become.
type outcome struct {
	published time.Time
	status    event.Status
	reason    event.Reason // of a dead letter
	window    time.Time    // the window of the event; not set for a message that can have none
}

// outcomeOf works out what a delivery of a message must become in a process with these
// windows.
func (w *world) outcomeOf(m *message, published time.Time, windows window.Fixed) outcome {
	o := outcome{published: published, status: event.DeadLetter}
	happens := m.happens
	if w.config.byPublish {
		happens = published
	}
	switch {
	case m.happens.IsZero():
		o.reason = event.BadJSON
		return o
	case happens.Sub(published) > w.config.maxClockSkew:
		o.reason = event.TooFarAhead
		return o
	case m.poisoned:
		o.reason = event.Rejected
		return o
	}
	seconds, length := happens.Unix(), int64(windows.Duration/time.Second)
	o.window = time.Unix(seconds-seconds%length, 0).UTC()
	o.status = event.Counted
	if !published.Before(o.window.Add(windows.Duration + windows.AllowedLateness)) {
		o.status = event.Late
	}
	return o
}

// publishAll plans the traffic: events, some of which lag or are late, messages that are
// no events, and events that the warehouse will refuse.
func (w *world) publishAll() {
	for range w.config.messages {
		w.after(time.Duration(w.rng.Int64N(int64(w.config.traffic))), func() {
			now := time.Now().UTC()
			var m *message
			switch x := w.rng.Float64(); {
			case x < 0.05:
				m = w.publish(nil, now)
			case x < 0.08:
				m = w.publish(w.record(now.Add(w.config.maxClockSkew+time.Minute)), now)
			case x < 0.11:
				record := w.record(now)
				record.UserAgent = poison
				m = w.publish(record, now)
			default:
				m = w.publish(w.record(now.Add(-w.lag())), now)
			}
			w.deliver(m)
		})
	}
}

// publishEdges plans events at the edges. Some happen at the first or last instant of a
// window and are published at the last instant that is on time or the first that is late.
// Others happen as far after their publication as is allowed, or a microsecond further.
func (w *world) publishEdges() {
	windows := w.config.windows
	for range 1 + w.rng.IntN(4) {
		start := w.someWindow(3 * time.Minute)
		happens := pick(w.scheduler, start, start.Add(windows.Duration-time.Microsecond))
		published := start.Add(windows.Duration + windows.AllowedLateness - pick(w.scheduler, 0, time.Microsecond))
		w.after(time.Until(published), func() { w.deliver(w.publish(w.record(happens), published)) })
	}
	ahead := w.config.maxClockSkew + pick(w.scheduler, 0, time.Microsecond)
	w.after(w.between(0, w.config.traffic), func() {
		now := time.Now().UTC().Truncate(time.Microsecond)
		w.deliver(w.publish(w.record(now.Add(ahead)), now))
	})
}

// someWindow returns the start of a window: that of the present one, or of one that
// begins within the given time.
func (w *world) someWindow(within time.Duration) time.Time {
	duration := w.config.windows.Duration
	first := time.Now().Add(w.config.head - duration).UTC()
	return first.Add(time.Duration(w.rng.Int64N(int64(within/duration)+1)) * duration)
}

// lag returns how long before its publication an event happened. Mostly this is short.
func (w *world) lag() time.Duration {
	switch x := w.rng.Float64(); {
	case x < 0.6:
		return w.between(0, time.Second)
	case x < 0.85:
		return w.between(0, time.Minute)
	case x < 0.95:
		return w.between(0, 4*time.Minute)
	default: // so long that the event is late, and is stored but not counted
		return time.Hour
	}
}

func (w *world) record(at time.Time) *accesslog.Record {
	return &accesslog.Record{
		IP: "192.0.2.1", UserID: "1", UserAgent: "simulation", Timestamp: at.UTC().Truncate(time.Microsecond),
		HTTPRequest: fmt.Sprintf("GET /%d HTTP/1.1", w.made), HTTPResponse: 200, NumBytes: w.rng.Int64N(1000),
	}
}

// publish publishes a message with the given record, or one that is no event, and works
// out what must become of it.
func (w *world) publish(record *accesslog.Record, now time.Time) *message {
	n := len(w.messages) + 1
	m := &message{Message: event.Message{
		ID: fmt.Sprintf("m%03d", n), PublishTime: now.Truncate(time.Microsecond), PublishTimeSource: event.FromMessage,
	}}
	m.eventID = m.ID
	if w.config.idAttribute {
		// The publisher may publish an event twice: two messages then have the same event
		// id.
		m.eventID = fmt.Sprintf("e%03d", 1+w.rng.IntN(n))
		m.Attributes = map[string]string{idAttribute: m.eventID}
	}
	m.Data = []byte("{ no event")
	if record != nil {
		data, err := record.Data()
		if err != nil {
			panic(err)
		}
		m.Data, m.happens, m.poisoned = data, record.Timestamp, record.UserAgent == poison
	}
	m.data = string(m.Data)
	m.outcome = w.outcomeOf(m, m.PublishTime, w.config.windows)
	m.times = []time.Time{m.PublishTime}
	if w.config.republished && w.chance(0.5) {
		closes := m.window.Add(w.config.windows.Duration + w.config.windows.AllowedLateness)
		m.times = append(m.times, pick(w.scheduler, m.PublishTime.Add(w.between(0, 10*time.Minute).Truncate(time.Microsecond)), closes, closes.Add(-time.Microsecond)))
	}
	w.messages = append(w.messages, m)
	w.trace.add("%s is published: %s", m.ID, m.describe())
	return m
}

func (m *message) describe() string {
	text := fmt.Sprintf("event %s, %s in %s", m.eventID, m.status, clock(m.window))
	if m.status == event.DeadLetter {
		text = string(m.reason)
	}
	for _, other := range m.times[1:] {
		text += ", published at " + clock(other) + " too"
	}
	return text
}

// deliver delivers a message to some process if one can be reached, and tries again until
// it is acknowledged.
func (w *world) deliver(m *message) {
	if m.acknowledged > 0 && w.quiet[m.window] {
		return
	}
	if outage := time.Until(w.outageEnds); outage > 0 {
		w.after(outage+w.between(0, 2*time.Minute), func() { w.deliver(m) })
		return
	}
	p := w.anyProcess()
	if p == nil {
		w.after(10*time.Second, func() { w.deliver(m) })
		return
	}
	if m.poisoned && m.attempts > 0 && !w.tables.naming {
		w.pushEscorted(m, p)
		return
	}
	w.push(m, p)
}

// push delivers a message to the given process.
func (w *world) push(m *message, p *process) {
	m.attempts++
	m.underWay++
	w.deliveries++
	attempt := m.attempts
	sent := m.Message
	sent.PublishTime = pick(w.scheduler, m.times...)
	if !sent.PublishTime.Equal(m.PublishTime) {
		w.faults["another publish time"]++
	}
	expected := w.outcomeOf(m, sent.PublishTime, p.windows)
	w.trace.add("%s is delivered to %s, attempt %d, published at %s", m.ID, p.name, attempt, clock(sent.PublishTime))
	ctx, cancel := context.WithTimeout(p.ctx, pushTimeout)
	go func() {
		defer cancel()
		v, err := p.submitter.Submit(ctx, sent, p.classify(sent))
		_ = w.register(context.Background(), &call{process: p, kind: "answer", detail: fmt.Sprintf("%s %d", m.ID, attempt), apply: func() error {
			w.answered(m, attempt, expected, v, err)
			return nil
		}})
	}()
	if !w.healing && w.chance(0.05) {
		w.faults["delivered twice at once"]++
		w.after(w.between(0, 5*time.Second), func() {
			if m.acknowledged == 0 {
				w.deliver(m)
			}
		})
	}
	w.after(ackDeadline, func() {
		if m.acknowledged == 0 && m.attempts == attempt {
			w.trace.add("%s is past its ack deadline", m.ID)
			w.deliver(m)
		}
	})
}

// answered does what Pub/Sub does when it gets an answer.
func (w *world) answered(m *message, attempt int, expected outcome, v event.Verdict, err error) {
	m.underWay--
	if err != nil {
		w.trace.add("%s is refused: %v", m.ID, err)
		if m.acknowledged == 0 && m.attempts == attempt {
			w.after(w.between(100*time.Millisecond, 10*time.Second), func() { w.deliver(m) })
		}
		return
	}
	w.trace.add("%s is acknowledged: %s", m.ID, v.Status)
	m.answers = append(m.answers, expected)
	w.checkAcknowledged(m, expected, v)
	if !w.healing && w.chance(0.05) {
		w.faults["acknowledgement lost"]++
		return // after the ack deadline the message is delivered again
	}
	m.acknowledged++
	if !w.healing && w.chance(0.1) {
		w.faults["delivered again after its acknowledgement"]++
		w.after(w.between(time.Second, 2*time.Hour), func() { w.deliver(m) })
	}
}

// pushEscorted delivers a message whose row the warehouse refuses for its own value
// without naming the row. It delivers some late events at the same time. Only if other
// rows are in the same append can the product tell this refusal from a table that is at
// fault. The first late event is appended at once. While the process is busy with it, the
// other messages gather into one batch.
func (w *world) pushEscorted(m *message, p *process) {
	for len(w.companions) < 3 {
		w.companions = append(w.companions, w.publish(w.record(time.Now().Add(-24*time.Hour)), time.Now().UTC()))
	}
	for i, company := range []*message{w.companions[0], m, w.companions[1], w.companions[2]} {
		w.after(time.Duration(i)*100*time.Microsecond, func() {
			if !p.dead {
				w.push(company, p)
			} else if company == m {
				w.deliver(m)
			}
		})
	}
}
