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
	// emptyShardBytes is the estimate of a document without batches: its name and
	// the other fields. It is generous.
	emptyShardBytes = 1 << 10
	// reuseAfter is how long a slot rests after a write.
	reuseAfter = time.Second
	// quietAfter is how long a window is unwritten until its slots are forgotten,
	// and sweepEvery how often such windows are looked for.
	quietAfter = 5 * time.Minute
	sweepEvery = time.Minute
)

// slots is what a writer knows of the documents that it may write again, and the
// numbers that it has given away.
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
	// written is when its last write returned, or when it was opened. It is not
	// when that write was sent: then two could be applied within the second.
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

// reserve takes a slot of the window for a batch of so many ids. No other batch
// gets the slot until it is released, and none ever gets the key.
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

// pick returns a slot of the window with room for so many bytes.
func (s *slots) pick(window int64, bytes int, now time.Time) *slot {
	// More than half a document gets one of its own. So a slot that is closed for
	// want of room is at least half full.
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

// longestResting returns the least recently written of the window's slots that
// are not being written, nil if there is none.
func (s *slots) longestResting(window int64) (resting *slot) {
	for _, slot := range s.open[window] {
		if !slot.writing && (resting == nil || slot.written.Before(resting.written)) {
			resting = slot
		}
	}
	return resting
}

// release gives a slot back after its write has returned. Where the write did
// not succeed, nothing is known: it may have been applied, may be applied later,
// or never. Then the slot is closed. The document's last write stays this one, so
// whichever it is, count is the number of ids in it: the one before if the write
// is never applied, the one that it set if it is. Were the slot written again,
// the next count would be wrong in one of the two cases. It costs a document for
// each failed write at most.
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

// close forgets a slot: it is never written again.
func (s *slots) close(closed *slot) {
	open := slices.DeleteFunc(s.open[closed.window], func(slot *slot) bool { return slot == closed })
	if len(open) == 0 {
		delete(s.open, closed.window)
		return
	}
	s.open[closed.window] = open
}

// sweep forgets the slots of windows that have gone quiet.
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
