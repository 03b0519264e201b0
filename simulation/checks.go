package simulation

import (
	"maps"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/memdocs"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// checkAcknowledged checks, at the instant of an acknowledgement, that all that it
// stands for is durable, and that the verdict is the right one.
func (w *world) checkAcknowledged(m *message, v event.Verdict) {
	if v.Status != m.status || v.Status == event.DeadLetter && v.Reason != m.reason {
		w.violation("%s is answered %s %s, and is %s %s", m.ID, v.Status, v.Reason, m.status, m.reason)
	}
	w.checkStored(m)
	if m.status == event.Counted && !w.counted(m.window)[windowstore.KeyOf(w.idSource().String(), m.eventID)] {
		w.violation("%s is acknowledged as counted, and is not", m.ID)
	}
}

// checkStored checks that an acknowledged message is in the raw rows or, with its
// bytes, in the dead letters.
func (w *world) checkStored(m *message) {
	if m.status == event.DeadLetter {
		if !slices.ContainsFunc(w.tables.rows[w.tables.names.DeadLetter], func(row warehouse.Row) bool {
			data, _ := row[letterData].([]byte)
			return row[letterID] == m.ID && string(data) == m.data && row[letterReason] == string(m.reason)
		}) {
			w.violation("%s is acknowledged, and its dead letter is not stored", m.ID)
		}
		return
	}
	if !slices.ContainsFunc(w.tables.rows[w.tables.names.Raw], func(row warehouse.Row) bool {
		return row[rawMessageID] == m.ID && row[rawEventID] == m.eventID && row[rawWindow].(time.Time).Equal(m.window) && row[rawLate] == (m.status == event.Late)
	}) {
		w.violation("%s is acknowledged, and its raw row is not stored", m.ID)
	}
}

// shards returns the shards of the counters.
func (w *world) shards() []memdocs.Shard {
	shards, err := w.database.Shards()
	if err != nil {
		w.violation("the counters cannot be read: %v", err)
	}
	return shards
}

// counted returns the keys that are counted in a window.
func (w *world) counted(window time.Time) map[windowstore.Key]bool {
	keys := map[windowstore.Key]bool{}
	for _, shard := range w.shards() {
		if shard.Window.Equal(window) {
			maps.Copy(keys, shard.Keys())
		}
	}
	return keys
}

// maxHeld bounds the windows that a store remembers: those of the traffic, with
// their lags, and some more.
const maxHeld = 20

// checkBounds checks what must hold at any time: what is counted is in the raw
// rows, and queues and memory are bounded.
func (w *world) checkBounds() {
	raw := map[time.Time]map[windowstore.Key]bool{}
	for _, row := range w.tables.rows[w.tables.names.Raw] {
		window := row[rawWindow].(time.Time)
		if raw[window] == nil {
			raw[window] = map[windowstore.Key]bool{}
		}
		if !row[rawLate].(bool) {
			raw[window][windowstore.KeyOf(w.idSource().String(), row[rawEventID].(string))] = true
		}
	}
	for _, shard := range w.shards() {
		var ids int64
		for _, batch := range shard.Batches {
			ids += int64(len(batch))
		}
		if ids != shard.Count {
			w.violation("%s says that it holds %d ids, and holds %d", shard.Name, shard.Count, ids)
		}
		for key := range shard.Keys() {
			if !raw[shard.Window][key] {
				w.violation("an event is counted in %s that is not in the raw rows", clock(shard.Window))
			}
		}
	}
	for _, p := range w.processes {
		if p.dead {
			continue
		}
		if n := p.committer.QueueLength(); n > queueLength {
			w.violation("%d messages wait in a queue of %d", n, queueLength)
		}
		if n, _ := p.store.Held(); n > maxHeld {
			w.violation("a store remembers %d windows", n)
		}
	}
}

// check checks what must hold in the end.
func (w *world) check() {
	expected := map[time.Time]map[string]bool{}
	for _, m := range w.messages {
		if m.acknowledged > 0 {
			w.checkStored(m)
		}
		if m.status == event.Counted {
			if expected[m.window] == nil {
				expected[m.window] = map[string]bool{}
			}
			expected[m.window][m.eventID] = true
		}
	}
	view := w.tables.view()
	for window, ids := range expected {
		if got := view[window]; got.pageViews != int64(len(ids)) {
			w.violation("%s has %d page views, and %d distinct events on time", clock(window), got.pageViews, len(ids))
		} else if !got.final {
			w.violation("%s never became final", clock(window))
		}
	}
	for window, got := range view {
		if expected[window] == nil {
			w.violation("%s has a row of %d page views, and no events", clock(window), got.pageViews)
		}
	}
	for _, row := range w.tables.rows[w.tables.names.AggLog()] {
		due := w.config.windows.DueAt(row[logStart].(time.Time), w.config.quiet).Add(-maxSkew)
		if row[logFinal].(bool) && row[logWrittenAt].(time.Time).Before(due) {
			w.violation("%s was written as final before it was due", clock(row[logStart].(time.Time)))
		}
	}
	w.checkBounds()
}
