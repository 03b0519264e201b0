package simulation

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"
	"time"
)

// A scheduler runs a simulation one event at a time, in virtual time. It must run in a
// bubble of testing/synctest.
//
// Between two events the product's goroutines run freely, until all of them wait.
// Whatever they want from the outside world is a call, and is registered by then. The
// scheduler sorts the calls, so that their order is the same in every run, and decides by
// the seed what becomes of each. Everything else that happens by chance is decided by the
// seed too, and no two events happen at the same instant. Therefore two runs of one seed
// are identical.
type scheduler struct {
	rng    *rand.Rand
	events eventQueue
	made   int // the number of events so far
	trace  trace

	mu      sync.Mutex
	arrived []*call
	wake    chan struct{} // wakes run after a call was registered
}

// An occurrence is something that will happen at a given instant.
type occurrence struct {
	at time.Time
	do func()
}

type eventQueue []*occurrence

func (q eventQueue) Len() int           { return len(q) }
func (q eventQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q eventQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)        { *q = append(*q, x.(*occurrence)) }
func (q *eventQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

// A call is what a goroutine of the product wants from the outside world: something from
// storage, or that its answer is carried to Pub/Sub.
type call struct {
	process *process // the process that makes the call
	kind    string   // for example "append raw"
	detail  string   // distinguishes it from other calls of the same kind at the same instant
	apply   func() error
	answer  chan error // has room for one answer
	settled bool       // it was answered, or its process is dead
}

func newScheduler(seed uint64) *scheduler {
	return &scheduler{rng: rand.New(rand.NewPCG(seed, 0)), wake: make(chan struct{}, 1), trace: trace{began: time.Now()}}
}

// after plans do for an instant about d from now, at which nothing else is planned.
func (s *scheduler) after(d time.Duration, do func()) {
	s.made++
	// Events are planned in whole microseconds. The number of the event is added as
	// nanoseconds, so that no two events fall on one instant, and none falls on an
	// instant of the product's own timers.
	at := time.Now().Truncate(time.Microsecond).Add(d.Truncate(time.Microsecond))
	at = at.Add(time.Microsecond + time.Duration(s.made%997)*time.Nanosecond)
	heap.Push(&s.events, &occurrence{at, do})
}

// register passes a call to the scheduler and waits until it is answered or ctx ends.
func (s *scheduler) register(ctx context.Context, c *call) error {
	c.answer = make(chan error, 1)
	s.mu.Lock()
	s.arrived = append(s.arrived, c)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	select {
	case err := <-c.answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run admits calls and runs events until finished returns true.
func (s *scheduler) run(admit func(*call), finished func() bool) {
	for {
		synctest.Wait()
		s.admit(admit)
		if finished() {
			return
		}
		if len(s.events) == 0 {
			panic("simulation: nothing is left to happen, and it is not over")
		}
		next := s.events[0]
		timer := time.NewTimer(time.Until(next.at))
		select {
		case <-s.wake: // one of the product's timers led to a call: look again
			timer.Stop()
		case <-timer.C:
			heap.Pop(&s.events)
			next.do()
		}
	}
}

func (s *scheduler) admit(admit func(*call)) {
	s.mu.Lock()
	calls := s.arrived
	s.arrived = nil
	s.mu.Unlock()
	slices.SortFunc(calls, func(a, b *call) int {
		return cmp.Or(cmp.Compare(a.process.name, b.process.name), cmp.Compare(a.kind, b.kind), cmp.Compare(a.detail, b.detail))
	})
	for _, c := range calls {
		admit(c)
	}
}

// chance returns true with probability p.
func (s *scheduler) chance(p float64) bool { return s.rng.Float64() < p }

// between returns a random duration from low to high. Short ones are more likely.
func (s *scheduler) between(low, high time.Duration) time.Duration {
	x := s.rng.Float64()
	return low + time.Duration(float64(high-low)*x*x)
}

// A trace lists what happened, for a person to read, and has a digest for comparisons.
type trace struct {
	began time.Time
	lines []string
}

func (t *trace) add(format string, args ...any) {
	at := time.Since(t.began)
	t.lines = append(t.lines, fmt.Sprintf("%14s  %s", at.Round(time.Microsecond), fmt.Sprintf(format, args...)))
}

func (t *trace) digest() uint64 {
	h := fnv.New64a()
	for _, line := range t.lines {
		h.Write([]byte(line))
	}
	return h.Sum64()
}
