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
	// maxRedeliveryDelay is the longest time from a message to its second delivery. Pub/Sub
	// delivers again when an acknowledgement was lost and its deadline has passed.
	maxRedeliveryDelay = time.Minute
	// maxCatchUp is how much lost time a stream makes up for: enough for a timer that fires
	// late, but too little for a burst after a stall.
	maxCatchUp = 100 * time.Millisecond
)

// A Delivery is a message that is due to be delivered.
type Delivery struct {
	// At is when the delivery is due, in UTC, truncated to the microsecond. It is the
	// message's publish time, or for a redelivery a later time.
	At      time.Time
	Message event.Message
	// Redelivery reports that the message was delivered before. Both deliveries share the
	// memory of data and attributes.
	Redelivery bool
}

// A model has the users and the queue of future actions. It never reads a clock: its caller
// calls advance at each due instant until the model is over.
type model struct {
	config     Config
	users      []*user
	queue      taskQueue
	scheduled  uint64 // tasks ever put into the queue
	created    int    // number of messages
	nextID     uint64
	malformed  *rand.Rand
	duplicates *rand.Rand
	end        time.Time // the start plus Duration, or lastTime
	last       time.Time // when the latest action was due
	over       bool
}

// newModel returns the model of a valid configuration. The stream starts at start.
func newModel(config Config, start time.Time) *model {
	m := &model{
		config: config,
		// Ids count up from a number that depends on the seed and the start. So two runs to
		// one topic have no id in common, even with the same seed.
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

// due returns the instant of the next action. The last action is due at the end of the
// stream.
func (m *model) due() time.Time {
	switch {
	case m.full():
		return m.last
	case m.queue.Len() == 0 || m.pastEnd(m.queue[0].at):
		return m.end
	}
	return m.queue[0].at
}

// full reports whether the last message was created.
func (m *model) full() bool { return m.config.Count > 0 && m.created >= m.config.Count }

func (m *model) pastEnd(t time.Time) bool { return !t.Before(m.end) }

// advance takes the next action and returns its deliveries. The instant now must not be
// before the action is due. The actions that follow are scheduled from the instant when this
// action was due, so that the delays of late timers do not add up. But that instant is taken
// to be at most maxCatchUp ago.
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
		m.createEvent(t.user, now)
		return nil
	}
}

// finish ends the stream at the instant now and returns the remaining deliveries.
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

// createEvent creates the user's next event and decides when it is published.
func (m *model) createEvent(u *user, now time.Time) {
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
	m.created++
	if m.config.Lag {
		m.lag(u)
		return
	}
	m.schedulePublish(u, m.last)
}

// lag decides whether the user is offline after an event, and schedules the user's next
// action.
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

// publish returns the deliveries of all messages that the user holds. It gives each message
// an id and a publish time.
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
	clear(u.held) // frees the messages
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

// stamp returns t in UTC, with the precision of a message's times.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// A task is an action at an instant: a user's next action, or a redelivery.
type task struct {
	at         time.Time
	number     uint64 // of tasks at the same instant, the one with the lower number is first
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
	(*q)[last] = nil // frees its message
	*q = (*q)[:last]
	return t
}
