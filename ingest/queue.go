package ingest

import (
	"container/list"
	"sync"
	"time"
)

// A queue holds the items that wait for a batch. Only one goroutine takes items out.
type queue struct {
	cfg Config // the bounds of the queue and of a batch

	mu     sync.Mutex
	items  list.List // of *item, oldest first
	bytes  int
	closed bool

	// Signals to the taking goroutine, each with room for one.
	arrived chan struct{} // there is an item, or the queue was closed
	full    chan struct{} // there is a full batch, or the queue was closed
}

func newQueue(cfg Config) *queue {
	return &queue{cfg: cfg, arrived: make(chan struct{}, 1), full: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push adds an item, or returns ErrClosed or ErrQueueFull.
func (q *queue) push(it *item) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	// A message that is larger than the whole queue may enter an empty queue.
	if q.items.Len() >= q.cfg.QueueLength || q.items.Len() > 0 && q.bytes+it.size > q.cfg.QueueBytes {
		return ErrQueueFull
	}
	it.waiting = q.items.PushBack(it)
	q.bytes += it.size
	signal(q.arrived)
	if q.isFull() {
		signal(q.full)
	}
	return nil
}

func (q *queue) isFull() bool {
	return q.items.Len() >= q.cfg.BatchRows || q.bytes >= q.cfg.BatchBytes
}

// remove drops an item that nobody waits for any more, if the item is still in the queue.
func (q *queue) remove(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(it)
}

func (q *queue) drop(it *item) {
	if it.waiting != nil {
		q.items.Remove(it.waiting)
		it.waiting = nil
		q.bytes -= it.size
	}
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.items.Len()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	signal(q.arrived)
	signal(q.full)
}

// wait blocks until there is an item. It returns false when the queue is closed
// and empty.
func (q *queue) wait() bool {
	for {
		q.mu.Lock()
		some, closed := q.items.Len() > 0, q.closed
		q.mu.Unlock()
		if some || closed {
			return some
		}
		<-q.arrived
	}
}

// waitUntil blocks until t, or until a batch is full or the queue is closed.
func (q *queue) waitUntil(t time.Time) {
	wait := time.Until(t)
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		q.mu.Lock()
		now := q.isFull() || q.closed
		q.mu.Unlock()
		if now {
			return
		}
		select {
		case <-q.full: // the batch may have become smaller since: check again
		case <-timer.C:
			return
		}
	}
}

// take removes and returns the next batch, oldest first. It drops items whose request does
// not wait any more.
func (q *queue) take() []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []*item
	bytes := 0
	for q.items.Len() > 0 && len(batch) < q.cfg.BatchRows {
		it := q.items.Front().Value.(*item)
		if it.ctx.Err() != nil {
			q.drop(it)
			continue
		}
		if bytes += it.size; len(batch) > 0 && bytes > q.cfg.BatchBytes {
			break
		}
		q.drop(it)
		batch = append(batch, it)
	}
	return batch
}
