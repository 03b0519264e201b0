package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// ackDeadline is the subscription's.
const ackDeadline = time.Minute

// poison, as a user agent, makes the warehouse refuse the row for its own value.
const poison = "poison"

// A message is a published message with what must become of it, worked out here
// and not by the product.
type message struct {
	event.Message
	eventID string
	status  event.Status
	reason  event.Reason // if it is a dead letter
	window  time.Time    // unless it is a dead letter
	data    string

	attempts     int
	underWay     int // attempts that are not answered yet
	acknowledged int
}

// publishAll plans the traffic: events of which some lag, some so much that they
// are late, some that are no events, and some that the warehouse will refuse.
func (w *world) publishAll() {
	for range w.config.messages {
		w.after(time.Duration(w.rng.Int64N(int64(w.config.traffic))), func() {
			now := time.Now().UTC()
			var m *message
			switch x := w.rng.Float64(); {
			case x < 0.05:
				m = w.publish(nil, now)
				m.status, m.reason = event.DeadLetter, event.BadJSON
			case x < 0.08:
				m = w.publish(w.record(now.Add(w.config.maxClockSkew+time.Minute)), now)
				m.status, m.reason, m.window = event.DeadLetter, event.TooFarAhead, time.Time{}
			case x < 0.11:
				record := w.record(now)
				record.UserAgent = poison
				m = w.publish(record, now)
				m.status, m.reason, m.window = event.DeadLetter, event.Rejected, time.Time{}
			default:
				m = w.publish(w.record(now.Add(-w.lag())), now)
			}
			w.deliver(m)
		})
	}
}

// publishEdges plans events that happen at the first or last instant of a window,
// and are published at the last instant that is on time or the first that is late,
// and some as far ahead of their publication as is allowed, or a microsecond more.
func (w *world) publishEdges() {
	first := w.config.windows.Start(time.Now())
	for range 1 + w.rng.IntN(4) {
		window := first.Add(time.Duration(w.rng.Int64N(3)) * time.Minute)
		happens := pick(w.scheduler, window, window.Add(time.Minute-time.Microsecond))
		published := window.Add(time.Minute + w.config.windows.AllowedLateness - pick(w.scheduler, 0, time.Microsecond))
		w.after(time.Until(published), func() { w.deliver(w.publish(w.record(happens), published)) })
	}
	ahead := w.config.maxClockSkew + pick(w.scheduler, 0, time.Microsecond)
	w.after(w.between(0, w.config.traffic), func() {
		now := time.Now().UTC().Truncate(time.Microsecond)
		m := w.publish(w.record(now.Add(ahead)), now)
		if ahead > w.config.maxClockSkew {
			m.status, m.reason, m.window = event.DeadLetter, event.TooFarAhead, time.Time{}
		}
		w.deliver(m)
	})
}

// lag returns how long before its publication an event happened.
func (w *world) lag() time.Duration {
	switch x := w.rng.Float64(); {
	case x < 0.6:
		return w.between(0, time.Second)
	case x < 0.85:
		return w.between(0, time.Minute)
	case x < 0.95:
		return w.between(0, 4*time.Minute)
	default: // an event so late that it is stored only
		return time.Hour
	}
}

func (w *world) record(at time.Time) *event.Event {
	return &event.Event{
		IP: "192.0.2.1", UserID: "1", UserAgent: "simulation", Timestamp: at.UTC().Truncate(time.Microsecond),
		HTTPRequest: fmt.Sprintf("GET /%d HTTP/1.1", w.made), HTTPResponse: 200, NumBytes: w.rng.Int64N(1000),
	}
}

// publish makes a message of an event, or of something that is none, and works out
// what it is.
func (w *world) publish(record *event.Event, now time.Time) *message {
	n := len(w.messages) + 1
	m := &message{Message: event.Message{
		ID: fmt.Sprintf("m%03d", n), PublishTime: now.Truncate(time.Microsecond), PublishTimeSource: event.FromMessage,
	}}
	m.eventID = m.ID
	if w.config.idAttribute {
		// Publishers that published twice: the same id, in another message.
		m.eventID = fmt.Sprintf("e%03d", 1+w.rng.IntN(n))
		m.Attributes = map[string]string{idAttribute: m.eventID}
	}
	m.Data = []byte("{ no event")
	if record != nil {
		data, err := event.Encode(*record)
		if err != nil {
			panic(err)
		}
		m.Data = data
		seconds := record.Timestamp.Unix()
		m.window = time.Unix(seconds-seconds%60, 0).UTC()
		m.status = event.Counted
		if closes := m.window.Add(time.Minute + w.config.windows.AllowedLateness); !m.PublishTime.Before(closes) {
			m.status = event.Late
		}
	}
	m.data = string(m.Data)
	w.messages = append(w.messages, m)
	w.trace.add("%s is published: %s", m.ID, m.describe())
	return m
}

func (m *message) describe() string {
	if m.status == event.DeadLetter || m.window.IsZero() {
		return "no event"
	}
	return fmt.Sprintf("event %s, %s in %s", m.eventID, m.status, clock(m.window))
}

// deliver delivers a message to some process, if one can be reached, and again
// until it is acknowledged.
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
	if m.reason == event.Rejected && m.attempts > 0 && !w.tables.naming {
		w.pushEscorted(m, p)
		return
	}
	w.push(m, p)
}

// push delivers a message to a process.
func (w *world) push(m *message, p *process) {
	m.attempts++
	m.underWay++
	w.deliveries++
	attempt := m.attempts
	w.trace.add("%s is delivered to %s, attempt %d", m.ID, p.name, attempt)
	ctx, cancel := context.WithTimeout(p.ctx, pushTimeout)
	go func() {
		defer cancel()
		v, err := p.ingester.Submit(ctx, m.Message, p.classify(m.Message))
		_ = w.register(context.Background(), &call{process: p, kind: "answer", detail: fmt.Sprintf("%s %d", m.ID, attempt), apply: func() error {
			w.answered(m, attempt, v, err)
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

// answered is what Pub/Sub makes of an answer.
func (w *world) answered(m *message, attempt int, v event.Verdict, err error) {
	m.underWay--
	if err != nil {
		w.trace.add("%s is refused: %v", m.ID, err)
		if m.acknowledged == 0 && m.attempts == attempt {
			w.after(w.between(100*time.Millisecond, 10*time.Second), func() { w.deliver(m) })
		}
		return
	}
	w.trace.add("%s is acknowledged: %s", m.ID, v.Status)
	w.checkAcknowledged(m, v)
	if !w.healing && w.chance(0.05) {
		w.faults["acknowledgement lost"]++
		return // the ack deadline brings it again
	}
	m.acknowledged++
	if !w.healing && w.chance(0.1) {
		w.faults["delivered again after its acknowledgement"]++
		w.after(w.between(time.Second, 2*time.Hour), func() { w.deliver(m) })
	}
}

// pushEscorted delivers a message that the warehouse refuses for its own value, and
// does not name, in the company of late events, since only there can it be told from a
// table at fault. The first of them leaves at once, and keeps the process busy until the
// others have come together.
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

// lastWindow returns the last window of the traffic.
func (w *world) lastWindow() time.Time {
	last := w.trace.began
	for _, m := range w.messages {
		if m.status == event.Counted && m.window.After(last) {
			last = m.window
		}
	}
	return last
}
