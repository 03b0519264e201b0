package windowstoretest

import (
	"math/rand/v2"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

var modelTests = []promise{
	{"any sequence of calls does what the model does", func(f *fixture) {
		seed := f.h.Seed
		if seed == 0 {
			seed = uint64(time.Now().UnixNano())
		}
		f.Logf("seed %d", seed)
		m := &model{fixture: f, rand: rand.New(rand.NewPCG(seed, 0)), windows: map[int]*modelWindow{}}
		for step := range 400 {
			m.step()
			m.check()
			if f.Failed() {
				f.Fatalf("seed %d, step %d", seed, step)
			}
		}
	}},
}

// model keeps in maps what a store should hold.
type model struct {
	*fixture
	rand    *rand.Rand
	windows map[int]*modelWindow    // by the number of the minute
	read    [][]windowstore.Shard   // the shards that earlier flushes have read and not settled yet
	covers  []map[int]modelSnapshot // what the windows held when those flushes read them
}

type modelWindow struct {
	keys    map[int]bool
	writes  int // the number of Adds so far
	pending bool
	expires time.Time
}

// modelSnapshot is the state of a window when a flush read it.
type modelSnapshot struct {
	window *modelWindow
	writes int
}

const (
	modelWindows   = 12
	modelKeys      = 40
	modelRetention = time.Hour
)

func (m *model) step() {
	switch n := m.rand.IntN(20); {
	case n < 10:
		m.addSome()
	case n < 13:
		m.readSome()
	case n < 16:
		m.settleOldest()
	case n < 18:
		m.clock.advance(time.Duration(m.rand.Int64N(int64(modelRetention))).Truncate(time.Microsecond))
	case n < 19:
		m.expireSome()
	default:
		m.reopen()
	}
}

func (m *model) addSome() {
	var increments []windowstore.Increment
	for range m.rand.IntN(4) {
		n := m.rand.IntN(modelWindows) - modelWindows/2
		inc := windowstore.Increment{Window: minute(n)}
		for range m.rand.IntN(5) {
			key := m.rand.IntN(modelKeys)
			inc.Keys = append(inc.Keys, keys(key, key+1)...)
			if m.windows[n] == nil {
				m.windows[n] = &modelWindow{keys: map[int]bool{}}
			}
			w := m.windows[n]
			w.keys[key], w.pending = true, true
			w.writes++
		}
		increments = append(increments, inc)
	}
	m.add(increments...)
}

// readSome is the first half of a flush: it reads some of the pending windows.
func (m *model) readSome() {
	through := m.rand.IntN(modelWindows) - modelWindows/2
	var shards []windowstore.Shard
	for _, w := range m.pending(minute(through)) {
		shards = append(shards, w.Shards...)
	}
	covers := map[int]modelSnapshot{}
	for n, w := range m.windows {
		if n <= through && w.pending {
			covers[n] = modelSnapshot{w, w.writes}
		}
	}
	m.read, m.covers = append(m.read, shards), append(m.covers, covers)
}

// settleOldest is the second half of a flush: it settles what the oldest unfinished flush
// has read. A window that was written since then stays pending.
func (m *model) settleOldest() {
	if len(m.read) == 0 {
		return
	}
	at := m.clock.Now().Add(modelRetention)
	m.settle(m.read[0], at)
	for n, read := range m.covers[0] {
		if w := m.windows[n]; w == read.window && w.writes == read.writes {
			// If another flush settled the same version before, the later expiry holds.
			w.pending, w.expires = false, at
		}
	}
	m.read, m.covers = m.read[1:], m.covers[1:]
}

// expireSome deletes what has expired. If a window can have many shards that were settled
// at different times, they expire one by one, which the model does not follow. For such a
// store, expireSome first settles all shards and then lets all of them expire.
func (m *model) expireSome() {
	now := m.clock.Now()
	if !m.h.OneShard {
		for _, w := range m.pending(end) {
			m.settle(w.Shards, now)
		}
		now = m.clock.advance(2 * modelRetention)
		clear(m.windows)
		m.read, m.covers = nil, nil
	}
	m.expire(now)
	for n, w := range m.windows {
		if !w.pending && !w.expires.After(now) {
			delete(m.windows, n)
		}
	}
}

func (m *model) check() {
	m.Helper()
	var want []time.Time
	for n := -modelWindows; n < modelWindows; n++ {
		w := m.windows[n]
		if w == nil {
			m.wantCount(minute(n), 0)
			continue
		}
		m.wantCount(minute(n), len(w.keys))
		if w.pending {
			want = append(want, minute(n))
		}
	}
	m.wantPending(want...)
}
