package simulation

import (
	"maps"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/audit"
	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/test/memdocs"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// checkAcknowledged is called at the instant of an acknowledgement. It checks that
// everything that the acknowledgement stands for is stored, and that the verdict is
// right.
func (w *world) checkAcknowledged(m *message, o outcome, v event.Verdict) {
	if v.Status != o.status || v.Status == event.DeadLetter && v.Reason != o.reason {
		w.violation("%s is answered %s %s, and is %s %s", m.ID, v.Status, v.Reason, o.status, o.reason)
	}
	w.checkStored(m, o)
	if o.status == event.Counted && !w.counted(o.window)[windowstore.KeyOf(w.idSource().String(), m.eventID)] {
		w.violation("%s is acknowledged as counted, and is not", m.ID)
	}
}

// checkStored checks that an acknowledged delivery is in the raw table or, with its
// bytes, in the dead letters.
func (w *world) checkStored(m *message, o outcome) {
	if o.status == event.DeadLetter {
		if !slices.ContainsFunc(w.tables.rows[w.tables.names.DeadLetter], func(row warehouse.Row) bool {
			data, _ := row[letterData].([]byte)
			return row[letterID] == m.ID && string(data) == m.data && row[letterReason] == string(o.reason)
		}) {
			w.violation("%s is acknowledged, and its dead letter is not stored", m.ID)
		}
		return
	}
	if !slices.ContainsFunc(w.tables.rows[w.tables.names.Raw], func(row warehouse.Row) bool {
		return row[rawMessageID] == m.ID && row[rawEventID] == m.eventID && row[rawPublished].(time.Time).Equal(o.published) &&
			row[rawWindow].(time.Time).Equal(o.window) && row[rawLate] == (o.status == event.Late)
	}) {
		w.violation("%s is acknowledged, and its raw row is not stored", m.ID)
	}
}

// shards returns all shards of the counters.
func (w *world) shards() []memdocs.Shard {
	shards, err := w.database.Shards()
	if err != nil {
		w.violation("the counters cannot be read: %v", err)
	}
	return shards
}

// counted returns the keys of the events that are counted in a window.
func (w *world) counted(window time.Time) map[windowstore.Key]bool {
	keys := map[windowstore.Key]bool{}
	for _, shard := range w.shards() {
		if shard.Window.Equal(window) {
			maps.Copy(keys, shard.Keys())
		}
	}
	return keys
}

// maxHeld returns how many windows a store may keep in memory: the windows of the
// traffic, including those of events that lag, and some more.
func (w *world) maxHeld() int { return 20 * max(1, int(time.Minute/w.config.windows.Duration)) }

// checkBounds checks what must hold at all times: every counted event is in the raw
// table, and queues and memory stay within their limits.
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
		if n, _ := p.store.Held(); n > w.maxHeld() {
			w.violation("a store remembers %d windows", n)
		}
	}
}

// onTime returns two sets of event ids for each window. The first set has the events with
// an acknowledged delivery on time. The second set has the events with a stored delivery
// on time. The second set contains the first. It has more events only in one
// case: a row was stored, its count failed, and the message came again and was then late,
// because its publish time differed or the allowed lateness had been lowered.
func (w *world) onTime() (acknowledged, stored map[time.Time]map[string]bool) {
	acknowledged, stored = map[time.Time]map[string]bool{}, map[time.Time]map[string]bool{}
	add := func(to map[time.Time]map[string]bool, window time.Time, id string) {
		if to[window] == nil {
			to[window] = map[string]bool{}
		}
		to[window][id] = true
	}
	for _, m := range w.messages {
		for _, o := range m.answers {
			if o.status == event.Counted {
				add(acknowledged, o.window, m.eventID)
			}
		}
	}
	for _, row := range w.tables.rows[w.tables.names.Raw] {
		if !row[rawLate].(bool) {
			add(stored, row[rawWindow].(time.Time), row[rawEventID].(string))
		}
	}
	return acknowledged, stored
}

// checkRest checks the view of the aggregate when nothing happens any more: each window
// has all events of which a delivery on time was acknowledged, and no event without a
// stored delivery on time.
func (w *world) checkRest() {
	acknowledged, stored := w.onTime()
	view := w.tables.view()
	for window, ids := range stored {
		got, least, most := view[window].pageViews, int64(len(acknowledged[window])), int64(len(ids))
		if got < least || got > most {
			w.violation("%s has %d page views, and %d distinct events on time", clock(window), got, least)
		}
		if most > least {
			w.faults["stored on time and acknowledged as late"]++
			if !w.config.republished && !w.config.relateness {
				w.violation("%s has %d events stored on time, of which %d are acknowledged", clock(window), most, least)
			}
		}
	}
}

// checkAudit checks that the audit found the windows that lack events which were stored
// on time, and no other windows.
func (w *world) checkAudit(report audit.Report, err error) {
	_, stored := w.onTime()
	var lower []string
	for window, got := range w.tables.view() {
		if got.pageViews < int64(len(stored[window])) {
			lower = append(lower, clock(window))
		}
		delete(stored, window)
	}
	for window := range stored {
		lower = append(lower, clock(window))
	}
	slices.Sort(lower)
	var found []string
	for _, d := range report.Lower {
		found = append(found, clock(d.Start))
	}
	slices.Sort(found)
	if err != nil || !slices.Equal(lower, found) || len(report.Higher) > 0 || len(report.Waiting) > 0 {
		w.violation("the audit finds %v lower, %d higher and %d waiting, and %v are lower: %v", found, len(report.Higher), len(report.Waiting), lower, err)
	}
}

// check checks what must hold in the end, after the audit has repaired the windows it
// found.
func (w *world) check() {
	for _, m := range w.messages {
		for _, o := range m.answers {
			w.checkStored(m, o)
		}
	}
	_, stored := w.onTime()
	view := w.tables.view()
	for window, ids := range stored {
		if got := view[window]; got.pageViews != int64(len(ids)) {
			w.violation("%s has %d page views, and %d distinct events stored on time", clock(window), got.pageViews, len(ids))
		} else if !got.final {
			w.violation("%s never became final", clock(window))
		}
	}
	for window, got := range view {
		if stored[window] == nil {
			w.violation("%s has a row of %d page views, and no events", clock(window), got.pageViews)
		}
	}
	windows := w.config.windows
	if w.config.relateness {
		windows.AllowedLateness = latenesses[0]
	}
	for _, row := range w.tables.rows[w.tables.names.AggLog()] {
		due := windows.DueAt(row[logStart].(time.Time), w.config.quiet).Add(-maxSkew)
		if row[logFinal].(bool) && row[logWrittenAt].(time.Time).Before(due) {
			w.violation("%s was written as final before it was due", clock(row[logStart].(time.Time)))
		}
	}
	w.checkBounds()
}
