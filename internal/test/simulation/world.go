package simulation

import (
	"context"
	"errors"
	"fmt"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/tidemark-dev/tidemark/internal/test/memdocs"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// maxEvents is many times the number of events that a run needs.
const maxEvents = 200_000

// A Result is what a run returns.
type Result struct {
	Seed       uint64
	Violations []string // broken promises; empty after a good run
	Trace      []string // what happened, one line for each event
	Digest     uint64   // of the trace
	Simulated  time.Duration
	Events     int            // of the simulation
	Messages   int            // published messages
	Deliveries int            // deliveries of messages
	Faults     map[string]int // injected faults, by kind
}

// Run simulates the world of a seed. If bug is not nil, it is planted in the product. Run
// must be called in a bubble of testing/synctest, and returns when everything that it
// started has ended.
func Run(seed uint64, bug *Bug) Result {
	w := newWorld(seed)
	if bug != nil {
		bug.Plant(&w.hooks)
		w.tables.last = w.hooks.viewTakesLast
		if w.hooks.rawCounts != nil {
			w.tables.counts = w.hooks.rawCounts
		}
	}
	time.Sleep(w.config.windows.Duration - w.config.head)
	w.trace.began = time.Now()
	w.begin()
	w.scheduler.run(w.decide, func() bool {
		if !w.over && w.made > maxEvents {
			w.violation("it does not come to an end: %d events", w.made)
			w.over = true
		}
		return w.over
	})
	w.check()
	for _, p := range w.processes {
		w.kill(p)
	}
	w.scheduler.admit(w.decide) // ends the calls that nobody has answered yet
	synctest.Wait()
	w.scheduler.admit(w.decide)
	return Result{
		Seed: seed, Violations: w.violations, Trace: w.trace.lines, Digest: w.trace.digest(),
		Simulated: time.Since(w.trace.began), Events: w.made,
		Messages: len(w.messages), Deliveries: w.deliveries, Faults: w.faults,
	}
}

// A world is everything outside the product, and the processes that run the product.
type world struct {
	*scheduler
	config   config
	hooks    hooks
	database *memdocs.Database
	tables   *tables

	processes  []*process // including dead ones
	messages   []*message
	companions []*message // late events: see pushEscorted
	ambushes   []*ambush
	quiet      map[time.Time]bool // windows that get no more deliveries
	expressBy  time.Time          // storage calls have no faults until then, so that a straggler gets through

	deliveries int
	outageEnds time.Time // Pub/Sub reaches no process until then
	flushFrom  time.Time // no flush comes until then
	healing    bool      // from now on nothing fails
	healedAt   time.Time
	over       bool

	seen       map[time.Time]windowValue // what the reader saw last
	violations []string
	faults     map[string]int
}

func newWorld(seed uint64) *world {
	w := &world{
		scheduler: newScheduler(seed),
		tables:    newTables(accesslog.Layout()),
		database:  memdocs.New(time.Now),
		quiet:     map[time.Time]bool{},
		seen:      map[time.Time]windowValue{},
		faults:    map[string]int{},
	}
	w.config = drawConfig(w.scheduler)
	w.tables.naming = w.chance(0.5)
	w.tables.refuses = func(row warehouse.Row) bool { return row[rawUserAgent] == poison }
	return w
}

func (w *world) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.trace.add("VIOLATION %s", text)
	if !slices.Contains(w.violations, text) {
		w.violations = append(w.violations, text)
	}
}

// begin plans everything that happens without a cause in the simulation.
func (w *world) begin() {
	w.trace.add("%s", w.config)
	for range w.config.processes {
		w.start()
	}
	w.publishAll()
	w.publishEdges()
	w.layAmbushes()
	w.after(time.Minute, w.flushEachMinute)
	w.after(w.between(time.Second, time.Minute), w.read)
	w.after(w.between(time.Minute, 10*time.Minute), w.expire)
	w.after(w.between(time.Second, time.Minute), w.mishap)
	if w.config.outage > 0 {
		w.after(w.between(0, w.config.traffic), func() {
			w.outageEnds = time.Now().Add(w.config.outage)
			w.faults["outage"]++
			w.trace.add("Pub/Sub reaches nobody for %v", w.config.outage)
		})
	}
	if w.config.noFlush > 0 {
		w.after(w.between(0, w.config.traffic), func() {
			w.flushFrom = time.Now().Add(w.config.noFlush)
			w.faults["no flush"]++
			w.trace.add("no flush comes for %v", w.config.noFlush)
		})
	}
	w.after(w.config.traffic+w.config.outage+w.config.aftermath, w.heal)
}

var (
	errUnavailable = errors.New("unavailable")
	errDead        = errors.New("the process is dead")
)

// call makes a call to storage for a process, and waits for the answer.
func (w *world) call(ctx context.Context, p *process, kind, detail string, apply func() error) error {
	return w.register(ctx, &call{process: p, kind: kind, detail: detail, apply: apply})
}

// decide is told of each call when it is made, and decides what becomes of it. The call
// may be slow. It may fail before or after it was applied. Or it may never be answered,
// whether it was applied or not.
func (w *world) decide(c *call) {
	if c.process.dead {
		c.settle(errDead)
		return
	}
	c.process.calls = append(c.process.calls, c)
	if c.kind == "answer" { // an answer to Pub/Sub: no storage is involved
		w.settleCall(c, c.apply())
		return
	}
	there, back := w.between(time.Millisecond, 20*time.Millisecond), w.between(time.Millisecond, 20*time.Millisecond)
	if stalled := time.Until(c.process.stalledUntil); stalled > 0 {
		there += stalled
	}
	if kind, ok := w.ambush(c); ok {
		w.trace.add("%s %s %s: walks into an ambush", c.process.name, c.kind, strings.TrimSpace(c.detail))
		if kind.fails {
			w.after(there, func() { w.settleCall(c, errUnavailable) })
		} else {
			w.applyIn(c, there+kind.slow.before, back+kind.slow.after)
		}
		return
	}
	fate := "is done"
	if !w.healing && time.Now().After(w.expressBy) && w.chance(w.config.faults) {
		fate = []string{"fails before", "fails after", "never answers", "is lost", "is slow", "answers slowly"}[w.rng.IntN(6)]
		w.faults["call "+fate]++
	}
	w.trace.add("%s %s %s: %s", c.process.name, c.kind, strings.TrimSpace(c.detail), fate)
	switch fate {
	case "is done":
		w.applyIn(c, there, back)
	case "fails before":
		w.after(there, func() { w.settleCall(c, errUnavailable) })
	case "fails after":
		w.after(there, func() {
			_ = w.apply(c)
			w.after(back, func() { w.settleCall(c, errUnavailable) })
		})
	case "never answers":
		w.after(there, func() { _ = w.apply(c) })
	case "is lost":
	case "is slow": // it may be so slow that its caller has given up before it is applied
		w.applyIn(c, w.between(time.Second, 40*time.Second), back)
	case "answers slowly":
		w.applyIn(c, there, w.between(time.Second, 40*time.Second))
	}
}

func (w *world) applyIn(c *call, there, back time.Duration) {
	w.after(there, func() {
		err := w.apply(c)
		w.after(back, func() { w.settleCall(c, err) })
	})
}

// apply applies a call. If the process died in the meantime, the call may have been lost
// with it.
func (w *world) apply(c *call) error {
	if c.process.dead && w.chance(0.5) {
		return errDead
	}
	err := c.apply()
	if err != nil {
		w.trace.add("%s %s: %v", c.process.name, c.kind, err)
	}
	return err
}

// settle answers a call. Only the first answer counts.
func (c *call) settle(err error) {
	if !c.settled {
		c.settled = true
		c.answer <- err
	}
}

func (w *world) settleCall(c *call, err error) {
	c.settle(err)
	c.process.calls = slices.DeleteFunc(c.process.calls, func(other *call) bool { return other == c })
}

// read looks at the aggregate as a person would, and checks that no row ever falls.
func (w *world) read() {
	for start, now := range w.tables.view() {
		before := w.seen[start]
		if now.pageViews < before.pageViews || before.final && !now.final {
			w.violation("the row of %s fell from %+v to %+v", clock(start), before, now)
		}
		w.seen[start] = now
	}
	w.checkBounds()
	if !w.over {
		w.after(w.between(5*time.Second, 5*time.Minute), w.read)
	}
}

// expire deletes expired documents at a random time, as the service itself does.
func (w *world) expire() {
	if n := w.database.Expire(time.Now()); n > 0 {
		w.trace.add("%d documents expire", n)
		w.springExpired()
	}
	w.after(w.between(time.Minute, 30*time.Minute), w.expire)
}

// maxSkew is how far the clock of a process may be off.
const maxSkew = 5 * time.Second

// mishap does one of the things that happen to processes now and then.
func (w *world) mishap() {
	if w.healing {
		return
	}
	defer w.after(w.between(5*time.Second, w.config.mishaps), w.mishap)
	if w.chance(0.1) && w.tables.fault == nil {
		what := "dropped"
		w.tables.fault = columnDropped
		if w.chance(0.5) {
			what, w.tables.fault = "narrowed", columnNarrowed
		}
		w.faults["a column "+what]++
		w.trace.add("a column of the raw table is %s", what)
		w.after(w.between(10*time.Second, 2*time.Minute), func() {
			w.trace.add("the raw table is right again")
			w.tables.fault = nil
		})
		return
	}
	p := w.anyProcess()
	if p == nil {
		w.start()
		return
	}
	switch w.rng.IntN(4) {
	case 0:
		w.faults["process killed"]++
		w.kill(p)
		if w.chance(0.8) {
			w.start()
		}
	case 1:
		w.start()
	case 2:
		w.faults["process stalled"]++
		p.stalledUntil = time.Now().Add(w.between(time.Second, 90*time.Second))
		w.trace.add("%s stalls until %s", p.name, clock(p.stalledUntil))
	case 3:
		w.faults["clock off"]++
		skew := time.Duration(w.rng.Int64N(int64(2*maxSkew))) - maxSkew
		p.skew.Store(int64(skew))
		w.trace.add("%s has its clock off by %v", p.name, skew)
	}
}

// heal ends all faults. From now on the system must come to rest.
func (w *world) heal() {
	w.trace.add("from now on nothing fails")
	w.healing, w.healedAt = true, time.Now()
	w.tables.fault = nil
	w.outageEnds, w.flushFrom = time.Time{}, time.Time{}
	for _, p := range w.processes {
		p.stalledUntil = time.Time{}
	}
	w.start()
	for _, m := range w.messages {
		if m.acknowledged == 0 && m.underWay == 0 {
			w.after(w.between(0, time.Minute), func() { w.deliver(m) })
		}
	}
	w.after(time.Minute, w.rest)
}

// patience returns how long a due window may wait for its flush while nothing fails.
// Flushes come about once a minute, and each writes a limited number of windows.
func (w *world) patience() time.Duration {
	return 5*time.Minute + time.Duration(len(w.tables.view())/w.config.maxWindows)*70*time.Second
}

// rest waits until all messages are acknowledged and all windows published. Then it
// starts the audit.
func (w *world) rest() {
	waiting := slices.IndexFunc(w.messages, func(m *message) bool { return m.acknowledged == 0 })
	windows := w.config.windows
	windows.AllowedLateness = latenesses[len(latenesses)-1]
	pending := 0
	for _, shard := range w.shards() {
		if shard.Pending == nil {
			continue
		}
		pending++
		since := w.healedAt
		for _, t := range []time.Time{shard.UpdateTime, windows.DueAt(shard.Window, w.config.quiet)} {
			if t.After(since) {
				since = t
			}
		}
		if waited := time.Since(since); waited > w.patience() {
			w.violation("%s is due, and %s has not been flushed for %v", clock(shard.Window), shard.Name, waited)
		}
	}
	lastDue := windows.DueAt(w.lastWindow(), w.config.quiet).Add(2 * time.Minute)
	switch {
	case waiting < 0 && pending == 0 && time.Now().After(lastDue):
		w.auditAndEnd()
	case time.Since(w.healedAt) > 3*time.Hour:
		w.violation("it does not come to rest: message waiting: %v, pending shards: %d", waiting >= 0, pending)
		w.over = true
	default:
		w.after(30*time.Second, w.rest)
	}
}

// lastWindow returns the last window that has an event on time.
func (w *world) lastWindow() time.Time {
	last := w.trace.began
	for _, row := range w.tables.rows[w.tables.names.Raw] {
		if window := row[rawWindow].(time.Time); window.After(last) && !row[rawLate].(bool) {
			last = window
		}
	}
	return last
}
