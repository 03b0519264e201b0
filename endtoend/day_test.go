package endtoend

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A day is a short run of a pipeline in which the server is killed twice.
type day struct {
	program  string
	settings map[string]string
	port     string
	server   *server
	topic    *topic
	tables   tables
	source   source

	messages []published
}

// These are the number and length of a day's steps, and the numbers of the steps in which
// the server is killed and started again.
const (
	steps          = 75
	step           = 200 * time.Millisecond
	killedPushing  = 20
	back           = 25
	killedFlushing = 45
	backAgain      = 47
)

// run publishes messages in real time for some seconds. Meanwhile it calls flushes and
// kills the server.
func (d *day) run(t *testing.T) {
	t.Helper()
	clock := time.NewTicker(step)
	defer clock.Stop()
	for n := range steps {
		<-clock.C
		d.publishSome(t, n)
		switch {
		case n == killedPushing:
			waitFor(t, "pushes that wait to be stored", func() bool {
				d.publish(t, d.source.event(time.Now()))
				return d.server.pushesWait(t)
			})
			d.server.kill()
		case n == killedFlushing:
			waitFor(t, "two flushes that write at once", func() bool {
				d.publish(t, d.source.event(time.Now()))
				killed := d.server.killFlushing(t)
				if !killed && d.server.killed.Load() { // a flush was answered before the kill
					d.restart(t)
				}
				return killed
			})
		case n == back, n == backAgain:
			d.restart(t)
		case n%5 == 0 && !d.server.killed.Load():
			d.server.schedule(t, 1+n/5%2)
		}
	}
	d.server.flushes.Wait()
}

// restart waits until the open flush calls have ended, and starts the server again on the
// same port.
func (d *day) restart(t *testing.T) {
	t.Helper()
	d.server.flushes.Wait()
	d.server = startServer(t, d.program, d.port, d.settings)
}

// publishSome publishes the messages of one step.
func (d *day) publishSome(t *testing.T, n int) {
	t.Helper()
	now := time.Now()
	event := d.source.event(now)
	d.publish(t, event)
	d.publish(t, d.source.event(now.Add(-time.Duration(n%10)*200*time.Millisecond)))
	switch n % 5 {
	case 0:
		d.publish(t, d.source.event(now.Add(-time.Duration(n)*200*time.Millisecond))) // from the middle of the day on, this event is late
	case 1:
		d.publish(t, d.source.event(now.Add(time.Second))) // from a publisher whose clock is ahead
	case 2:
		d.publish(t, event) // the same event again; a different event if the message id is the event id
	case 3:
		d.publish(t, d.source.spoilt(n/5, now))
	case 4:
		d.publish(t, d.source.event(now.Add(-time.Hour))) // late
	}
}

func (d *day) publish(t *testing.T, m message) {
	t.Helper()
	d.messages = append(d.messages, published{message: m, id: d.topic.publish(t, m)})
}

// end waits until all messages are stored and all windows final, and checks the tables.
// Then it delivers half of the messages again, as a seek does, and checks once more.
func (d *day) end(t *testing.T) {
	t.Helper()
	times := d.topic.publishTimes(t, len(d.messages))
	for i, p := range d.messages {
		d.messages[i].publishTime = times[p.id]
	}
	d.waitForDeliveries(t, d.messages, nil)
	d.waitForWindows(t)
	d.check(t)

	before, again := d.tables.deliveries(t), d.messages[len(d.messages)/2:]
	d.topic.deliverAgain(t, again[0].publishTime.Add(-time.Millisecond))
	d.waitForDeliveries(t, again, before)
	d.waitForWindows(t)
	d.check(t)
	for _, m := range d.topic.unacknowledged(t) {
		t.Errorf("message %s was not acknowledged: attributes %v, data %q", m.MessageId, m.Attributes, m.Data)
	}
}

// waitForDeliveries waits until each of the messages was stored more often than
// before.
func (d *day) waitForDeliveries(t *testing.T, messages []published, before map[string]int64) {
	t.Helper()
	var missing []string
	defer func() { // also if waitFor ends the test
		if len(missing) > 0 {
			t.Errorf("messages that were not stored: %q", missing)
		}
	}()
	waitFor(t, "the messages to be stored", func() bool {
		missing = nil
		stored := d.tables.deliveries(t)
		for _, p := range messages {
			if stored[p.id] <= before[p.id] {
				missing = append(missing, p.id)
			}
		}
		return len(missing) == 0
	})
}

// waitForWindows flushes until every window is final and nothing is left to write.
func (d *day) waitForWindows(t *testing.T) {
	t.Helper()
	windows, _ := recount(d.messages)
	waitFor(t, "the windows to be final", func() bool {
		report, err := d.server.flush(t.Context())
		if errors.Is(err, errPartly) {
			t.Log(err)
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		final := 0
		for _, w := range d.tables.windows(t) {
			if w.Final {
				final++
			}
		}
		return len(report.Windows)+report.Held+report.Remaining == 0 && final >= len(windows)
	})
}

// check compares the tables with the messages that were published, and checks that the
// server's own audit finds nothing.
func (d *day) check(t *testing.T) {
	t.Helper()
	d.tables.check(t, d.messages, d.topic.pushed)
	clean := auditReport{Waiting: []any{}, Lower: []any{}, Higher: []any{}}
	if diff := cmp.Diff(clean, d.server.audit(t)); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}
