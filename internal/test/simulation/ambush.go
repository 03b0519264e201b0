package simulation

import (
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// An ambush creates a situation that chance hardly ever creates: the last event of a
// window arrives at the worst moment of a flush. After an ambush the window gets no more
// events. Another event would make the window pending again, and the next flush would
// then correct what this flush may have got wrong.
type ambush struct {
	window    time.Time
	kind      ambushKind
	straggler *message
	sprung    bool
}

// An ambushKind says at which call of a flush the straggler (the window's last event) is
// delivered, and how much that call is slowed down.
type ambushKind struct {
	name  string
	at    string // the kind of call, as in call.kind
	slow  delays
	after time.Duration // the time from that call to the delivery of the straggler
	kills bool          // whether the flushing process is killed after the call was applied
	fails bool          // whether the call fails; the straggler was then delivered earlier, like any other message
}

// delays is how much later a call is applied, and how much later its answer then comes.
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

// layAmbushes plans an ambush for some windows. It publishes their stragglers in time to
// be counted, but does not deliver them yet.
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

// ambush checks whether an ambush waits for this call. If so, it starts the ambush and
// returns its kind.
func (w *world) ambush(c *call) (ambushKind, bool) {
	for _, a := range w.ambushes {
		if a.kind.at == c.kind && strings.Contains(c.detail, clock(a.window)) && w.ready(a) {
			w.spring(a, c.process)
			return a.kind, true
		}
	}
	return ambushKind{}, false
}

// ready reports whether all messages of the window, except for the straggler, are
// counted.
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

// springExpired starts the ambushes that wait until all counters of their window have
// expired.
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
