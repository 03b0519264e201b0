package sharded

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// maxShardBytes is what a document holds at most, by the store's estimate.
	maxShardBytes = 512 << 10
	// emptyShardBytes estimates a document without batches: its name and the other
	// fields. The estimate is generous.
	emptyShardBytes = 1 << 10
	// reuseAfter is how long the writer waits after a write before it uses the slot
	// again.
	reuseAfter = time.Second
	// quietAfter is for how long a window must be unwritten before its slots are
	// forgotten. sweepEvery is how often the writer looks for such windows.
	quietAfter = 5 * time.Minute
	sweepEvery = time.Minute
)

// slots is what a writer knows of the documents that it may write again, and of the
// numbers that it has used.
type slots struct {
	writer string
	now    func() time.Time

	mu      sync.Mutex
	slots   int64             // given away so far
	batches int64             // given away so far
	open    map[int64][]*slot // by window start in Unix seconds; none is empty
	swept   time.Time         // when quiet windows were last looked for
}

// A slot is a document that may be written again.
type slot struct {
	name    string
	window  int64 // start in Unix seconds
	count   int64 // ids
	bytes   int   // estimated
	writing bool  // reserved and not yet released
	// written is when the slot's last write returned, or when the slot was opened.
	// The time at which the write was sent would not do: two writes could then be
	// applied within one second.
	written time.Time
}

func newSlots(writer string, now func() time.Time) *slots {
	return &slots{writer: writer, now: now, open: map[int64][]*slot{}, swept: now()}
}

// A reservation is a slot for one batch, and the batch's key.
type reservation struct {
	slot *slot
	key  string
	ids  int64
}

// bytes is what the batch adds to the document.
func (r reservation) bytes() int { return len(r.key) + 1 + packedLen(int(r.ids)) }

// reserve takes a slot of the window for a batch of the given number of ids. No other
// batch gets the slot before release, and no other batch ever gets the key.
func (s *slots) reserve(window int64, ids int) reservation {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.sweep(now)
	r := reservation{key: strconv.FormatInt(s.batches, 36), ids: int64(ids)}
	s.batches++
	r.slot = s.pick(window, r.bytes(), now)
	r.slot.writing = true
	return r
}

// pick returns a slot of the window that has room for the given number of bytes.
func (s *slots) pick(window int64, bytes int, now time.Time) *slot {
	// A batch of more than half a document gets a new slot. So a slot that is closed
	// because a batch does not fit is at least half full.
	for bytes <= maxShardBytes/2 {
		resting := s.longestResting(window)
		if resting == nil || now.Sub(resting.written) <= reuseAfter {
			break
		}
		if resting.bytes+bytes <= maxShardBytes {
			return resting
		}
		s.close(resting)
	}
	opened := &slot{
		name:    fmt.Sprintf("%s-%d-%d", s.writer, window, s.slots),
		window:  window,
		bytes:   emptyShardBytes,
		written: now,
	}
	s.slots++
	s.open[window] = append(s.open[window], opened)
	return opened
}

// longestResting returns the least recently written slot of the window that no write
// is using, or nil if there is none.
func (s *slots) longestResting(window int64) (resting *slot) {
	for _, slot := range s.open[window] {
		if !slot.writing && (resting == nil || slot.written.Before(resting.written)) {
			resting = slot
		}
	}
	return resting
}

// release gives a slot back after its write returned. If the write failed, nothing is
// known: the write may have been applied, may be applied later, or never. Then
// release closes the slot, so that the failed write stays the last write to the
// document. In each case count is then the number of ids in the document: the earlier
// count if the write is never applied, and the count that the write set if it is. If
// the slot were written again, the next count would be wrong in one of the two cases.
// The price is at most one document for each failed write.
func (s *slots) release(r reservation, applied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !applied {
		s.close(r.slot)
		return
	}
	r.slot.count += r.ids
	r.slot.bytes += r.bytes()
	r.slot.written = s.now()
	r.slot.writing = false
}

// close forgets a slot. The slot's document is never written again.
func (s *slots) close(closed *slot) {
	open := slices.DeleteFunc(s.open[closed.window], func(slot *slot) bool { return slot == closed })
	if len(open) == 0 {
		delete(s.open, closed.window)
		return
	}
	s.open[closed.window] = open
}

// sweep forgets the slots of windows that were not written for quietAfter.
func (s *slots) sweep(now time.Time) {
	if now.Sub(s.swept) < sweepEvery {
		return
	}
	s.swept = now
	maps.DeleteFunc(s.open, func(_ int64, open []*slot) bool {
		return !slices.ContainsFunc(open, func(slot *slot) bool {
			return slot.writing || now.Sub(slot.written) < quietAfter
		})
	})
}

func (s *slots) held() (windows, slots int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, open := range s.open {
		slots += len(open)
	}
	return len(s.open), slots
}
