package simulation

import (
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// An ambush steers the run into a corner that chance alone hardly ever finds: the
// last event of a window arrives at the worst moment of a flush. Any later event of
// the window would mend what the corner broke, since it makes the window pending
// again; so after an ambush the window is left alone.
type ambush struct {
	window    time.Time
	kind      ambushKind
	straggler *message
	sprung    bool
}

// An ambushKind says at which call of a flush the straggler is delivered, and how
// much the call is slowed for it.
type ambushKind struct {
	name  string
	at    string // the kind of the call
	slow  delays
	after time.Duration // from the call to the straggler's delivery
	kills bool          // whether the flushing process is killed once the call is applied
	fails bool          // whether the call fails, after the straggler was delivered like any other
}

// delays are how much later a call is applied, and after that answered.
type delays struct{ before, after time.Duration }

var ambushKinds = []ambushKind{
	{name: "between count and publish", at: "append windowed_traffic_log", slow: delays{before: 3 * time.Second}},
	{name: "a publish that is applied after the next flush's", at: "append windowed_traffic_log", slow: delays{before: 90 * time.Second}},
	{name: "between publish and settle", at: "settle", slow: delays{before: 3 * time.Second}},
	{name: "between read and count", at: "query window", slow: delays{before: 3 * time.Second}},
	{name: "between count and its answer", at: "query window", slow: delays{after: 3 * time.Second}, after: 100 * time.Millisecond},
	{name: "death between publish and settle", at: "append windowed_traffic_log", slow: delays{after: 3 * time.Second}, after: time.Second, kills: true},
	{name: "failure to publish", at: "append windowed_traffic_log", fails: true},
	{name: "after settle", at: "settle", after: time.Second},
	{name: "after expiry", at: "expire"},
}

// layAmbushes publishes the stragglers of some windows, in time to be counted, and
// holds them back.
func (w *world) layAmbushes() {
	duration := w.config.windows.Duration
	for range 1 + w.rng.IntN(3) {
		window := w.someWindow(w.config.traffic)
		if w.quiet[window] || w.ambushed(window) {
			continue
		}
		a := &ambush{window: window, kind: pick(w.scheduler, ambushKinds...)}
		w.ambushes = append(w.ambushes, a)
		happens := window.Add(time.Duration(w.rng.Int64N(int64(duration))))
		published := window.Add(duration + w.config.windows.AllowedLateness - time.Second)
		if published.Before(happens) {
			happens = published
		}
		w.after(time.Until(published), func() {
			a.straggler = w.publish(w.record(happens), time.Now().UTC())
			if a.kind.fails {
				w.deliver(a.straggler)
			}
		})
	}
}

func (w *world) ambushed(window time.Time) bool {
	for _, a := range w.ambushes {
		if a.window.Equal(window) {
			return true
		}
	}
	return false
}

// ambush springs the ambush that the call walks into, if there is one, and returns
// its kind.
func (w *world) ambush(c *call) (ambushKind, bool) {
	for _, a := range w.ambushes {
		if a.kind.at == c.kind && strings.Contains(c.detail, clock(a.window)) && w.ready(a) {
			w.spring(a, c.process)
			return a.kind, true
		}
	}
	return ambushKind{}, false
}

// ready reports whether all of the window but the straggler is counted.
func (w *world) ready(a *ambush) bool {
	if a.sprung || a.straggler == nil || w.healing {
		return false
	}
	for _, m := range w.messages {
		if (m != a.straggler || a.kind.fails) && m.window.Equal(a.window) && (m.acknowledged == 0 || m.underWay > 0) {
			return false
		}
	}
	return true
}

func (w *world) spring(a *ambush, flushing *process) {
	a.sprung = true
	w.quiet[a.window] = true
	w.faults["ambush "+a.kind.name]++
	w.trace.add("ambush %s on %s, with %s", a.kind.name, clock(a.window), a.straggler.ID)
	if a.kind.fails {
		return
	}
	w.expressBy = time.Now().Add(a.kind.after + 3*time.Second)
	w.outageEnds = time.Time{}
	if a.kind.kills {
		w.after(200*time.Millisecond, func() {
			w.kill(flushing)
			w.start()
		})
	}
	w.after(a.kind.after, func() {
		w.deliver(a.straggler)
	})
}

// springExpired springs the ambushes that wait for the expiry of a window.
func (w *world) springExpired() {
	for _, a := range w.ambushes {
		if a.kind.at != "expire" || !w.ready(a) {
			continue
		}
		counted, left := false, false
		for _, m := range w.messages {
			counted = counted || m != a.straggler && m.status == event.Counted && m.window.Equal(a.window)
		}
		for _, shard := range w.shards() {
			left = left || shard.Window.Equal(a.window)
		}
		if counted && !left {
			w.spring(a, nil)
		}
	}
}
