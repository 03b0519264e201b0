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

// A scheduler runs a simulation one event at a time, in virtual time: it must be
// inside a bubble of testing/synctest.
//
// The product's goroutines run freely between two events, until all of them wait.
// Whatever they want of the outside world, each a call, has by then been
// registered; the scheduler sorts the calls, which makes their order the same in
// every run, and draws the fate of each from the seed. So does everything that
// happens by chance, and no two events happen at the same instant. Two runs of one
// seed are therefore identical.
type scheduler struct {
	rng    *rand.Rand
	events eventQueue
	made   int // events so far
	trace  trace

	mu      sync.Mutex
	arrived []*call
	wake    chan struct{} // a call was registered
}

// An occurrence is something that happens at an instant.
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

// A call is what a goroutine of the product wants of the outside world: of
// storage, or to have its answer carried to Pub/Sub.
type call struct {
	process *process // that makes it
	kind    string   // as "append raw"
	detail  string   // what tells it from others of its kind at the same instant
	apply   func() error
	answer  chan error // room for one
	settled bool       // it was answered, or its process is dead
}

func newScheduler(seed uint64) *scheduler {
	return &scheduler{rng: rand.New(rand.NewPCG(seed, 0)), wake: make(chan struct{}, 1), trace: trace{began: time.Now()}}
}

// after has do done in d, at an instant of its own.
func (s *scheduler) after(d time.Duration, do func()) {
	s.made++
	// Events are planned in whole microseconds; the number of the event, in
	// nanoseconds below that, keeps two of them apart, and apart from the timers
	// that the product sets at its own instants.
	at := time.Now().Truncate(time.Microsecond).Add(d.Truncate(time.Microsecond))
	at = at.Add(time.Microsecond + time.Duration(s.made%997)*time.Nanosecond)
	heap.Push(&s.events, &occurrence{at, do})
}

// register hands a call to the scheduler and returns when it is answered, or when
// ctx ends.
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

// run admits calls and runs events until finished says that it is over.
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
		case <-s.wake: // a timer of the product's made it call: look again
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

// chance is true with probability p.
func (s *scheduler) chance(p float64) bool { return s.rng.Float64() < p }

// between returns a duration from low to high, more often a short one.
func (s *scheduler) between(low, high time.Duration) time.Duration {
	x := s.rng.Float64()
	return low + time.Duration(float64(high-low)*x*x)
}

// A trace is what happened, for a person to read, and a digest of it.
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
