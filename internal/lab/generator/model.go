package generator

import (
	"container/heap"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// The lab's lag model.
const (
	goesOffline     = 0.1  // chance, per event, that an online user goes offline
	comesBack       = 0.25 // chance, per event, that an offline user comes back
	maxPublishDelay = 250 * time.Millisecond
)

const (
	// maxRedeliveryDelay bounds how long after a message its second delivery
	// comes, as when an acknowledgement was lost and a deadline had to pass.
	maxRedeliveryDelay = time.Minute
	// maxCatchUp is how far behind its schedule a stream may catch up: enough for
	// a timer that wakes late, too little for a burst after a stall.
	maxCatchUp = 100 * time.Millisecond
)

// A Delivery is a message that is due to be delivered.
type Delivery struct {
	// At is when: in UTC, cut down to the microsecond. It is the message's
	// publish time, or some time later for a redelivery.
	At      time.Time
	Message event.Message
	// Redelivery is whether the message was delivered before. Both deliveries
	// share the memory of their data and attributes.
	Redelivery bool
}

// A model is the users and the queue of what they and the redeliveries are to do
// next. It never reads a clock: whoever works it off calls advance at each due
// instant until it is over.
type model struct {
	config     Config
	users      []*user
	queue      taskQueue
	scheduled  uint64 // tasks ever put into the queue
	made       int    // messages
	nextID     uint64
	malformed  *rand.Rand
	duplicates *rand.Rand
	end        time.Time // by Duration, or the last time there is
	last       time.Time // when the latest action was due
	over       bool
}

// newModel returns the model of a valid configuration, starting at start.
func newModel(config Config, start time.Time) *model {
	m := &model{
		config: config,
		// Ids run on from a number of the seed and the start, so that two runs into
		// one topic share none, even with the same seed.
		nextID:     1<<60 + newRandom("message ids", config.Seed, uint64(start.UnixNano())).Uint64N(1<<62),
		malformed:  newRandom("malformed", config.Seed, 0),
		duplicates: newRandom("duplicates", config.Seed, 0),
		end:        lastTime,
		last:       start,
	}
	if config.Duration > 0 {
		m.end = start.Add(config.Duration)
	}
	root := newPageTree()
	for n := range config.Users {
		u := newUser(config.Seed, n, root)
		m.users = append(m.users, u)
		m.scheduleEvent(u, start)
	}
	return m
}

// due returns the instant of the next action, which for the last one is the end
// of the stream.
func (m *model) due() time.Time {
	switch {
	case m.full():
		return m.last
	case m.queue.Len() == 0 || m.pastEnd(m.queue[0].at):
		return m.end
	}
	return m.queue[0].at
}

// full tells whether the last message has been made.
func (m *model) full() bool { return m.config.Count > 0 && m.made >= m.config.Count }

func (m *model) pastEnd(t time.Time) bool { return !t.Before(m.end) }

// advance takes the next action, at the instant now, not before it is due, and
// returns the deliveries that it leads to. What follows from it is scheduled from
// when it was due, so that late timers do not add up, but from no longer ago than
// maxCatchUp.
func (m *model) advance(now time.Time) []Delivery {
	if m.full() || m.pastEnd(m.queue[0].at) {
		return m.finish(now)
	}
	t := heap.Pop(&m.queue).(*task)
	m.last = t.at
	if earliest := now.Add(-maxCatchUp); t.at.Before(earliest) {
		m.last = earliest
	}
	switch {
	case t.redelivery != nil:
		return []Delivery{{At: stamp(now), Message: *t.redelivery, Redelivery: true}}
	case t.user.publishing:
		deliveries := m.publish(t.user, now)
		m.scheduleEvent(t.user, m.last)
		return deliveries
	default:
		m.makeEvent(t.user, now)
		return nil
	}
}

// finish ends the stream at the instant now and returns the deliveries that are
// still to be made.
func (m *model) finish(now time.Time) []Delivery {
	m.over = true
	var deliveries []Delivery
	for _, u := range m.users {
		deliveries = append(deliveries, m.publish(u, now)...)
	}
	for m.queue.Len() > 0 {
		if t := heap.Pop(&m.queue).(*task); t.redelivery != nil {
			deliveries = append(deliveries, Delivery{At: stamp(now), Message: *t.redelivery, Redelivery: true})
		}
	}
	return deliveries
}

// makeEvent makes the user's next event and decides when it is published.
func (m *model) makeEvent(u *user, now time.Time) {
	u.page = u.page.step(u.random)
	timestamp := event.FormatTime(now)
	r := record{identity: u.identity, timestamp: timestamp, page: u.page.name, numBytes: 100 + u.random.IntN(400)}
	data := r.encode()
	if m.malformed.Float64() < m.config.Malformed {
		data = spoil(data, m.malformed)
	}
	u.held = append(u.held, event.Message{
		PublishTimeSource: event.FromMessage,
		Attributes:        map[string]string{"timestamp": timestamp},
		Data:              data,
	})
	m.made++
	if m.config.Lag {
		m.lag(u)
		return
	}
	m.schedulePublish(u, m.last)
}

// lag decides whether the user is offline after an event, and schedules what the
// user does next.
func (m *model) lag(u *user) {
	if u.offline {
		u.offline = u.random.Float64() >= comesBack
	} else {
		u.offline = u.random.Float64() < goesOffline
	}
	if u.offline {
		m.scheduleEvent(u, m.last)
		return
	}
	m.schedulePublish(u, m.last.Add(u.upTo(maxPublishDelay)))
}

// publish gives all that the user holds an id and a publish time.
func (m *model) publish(u *user, now time.Time) []Delivery {
	deliveries := make([]Delivery, 0, len(u.held))
	for _, message := range u.held {
		message.ID = strconv.FormatUint(m.nextID, 10)
		m.nextID++
		message.PublishTime = stamp(now)
		deliveries = append(deliveries, Delivery{At: message.PublishTime, Message: message})
		if m.duplicates.Float64() < m.config.Duplicates {
			delay := time.Duration(m.duplicates.Int64N(int64(maxRedeliveryDelay)))
			m.schedule(&task{at: m.last.Add(delay), redelivery: &message})
		}
	}
	clear(u.held) // lets the messages go
	u.held = u.held[:0]
	return deliveries
}

func (m *model) scheduleEvent(u *user, from time.Time) {
	u.publishing = false
	m.schedule(&task{at: from.Add(u.upTo(m.config.maxGap())), user: u})
}

func (m *model) schedulePublish(u *user, at time.Time) {
	u.publishing = true
	m.schedule(&task{at: at, user: u})
}

func (m *model) schedule(t *task) {
	t.number = m.scheduled
	m.scheduled++
	heap.Push(&m.queue, t)
}

// stamp returns t as a message carries it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// A task is something to do at an instant: a user's next action, or a
// redelivery.
type task struct {
	at         time.Time
	number     uint64 // of tasks at the same instant the lower goes first
	user       *user
	redelivery *event.Message
}

// taskQueue is a heap of tasks, the next one first.
type taskQueue []*task

func (q taskQueue) Len() int { return len(q) }
func (q taskQueue) Less(i, j int) bool {
	if c := q[i].at.Compare(q[j].at); c != 0 {
		return c < 0
	}
	return q[i].number < q[j].number
}
func (q taskQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *taskQueue) Push(t any)   { *q = append(*q, t.(*task)) }
func (q *taskQueue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil // lets its message go
	*q = (*q)[:last]
	return t
}
