// Package ingest stores what the push path has classified, in batches: a group
// commit. Concurrent callers of [Committer.Submit] share one append to the raw
// table and one increment of the counters, and none of them is answered before
// the writes that hold its own message are durable.
//
// # Life of a batch
//
//  1. Messages wait in a queue. A batch leaves as soon as there is a message, if
//     none left within the last interval; otherwise when the interval is up or
//     the batch is full. So a lone message waits for nothing, and a busy process
//     writes a bounded number of times a second.
//     The first batch registers the pipeline, and is refused if its settings do not
//     fit.
//  2. The raw rows of the batch are appended, events on time and late ones alike.
//     Late events are answered.
//  3. Events on time go on to be counted, all windows in one call, and are
//     answered. Raw first, then count: what is counted is always in raw.
//  4. Dead letters, among them events whose row was refused for its own value,
//     are appended, and answered. A dead letter that is refused itself is appended
//     without its attributes, and says so.
//
// Step 3 runs beside steps 2 and 4 of the next batch, so at most two batches are
// under way.
//
// # Failures
//
// Where a write fails, every message that it stands for is answered with the
// error, and is delivered again. It may then be in the raw table twice, which
// the view of events hides, but it is counted once, because the counters are
// sets. A process that dies has answered nothing that it had not stored.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// A Submitter stores messages. [Committer] is the implementation.
type Submitter interface {
	// Submit stores m as v says, and returns when that is durable. It returns the
	// verdict that m was stored under: v, or a dead letter if the warehouse refused the
	// event's row because of a value in the row. Submit returns early when ctx ends.
	//
	// The errors are those of this package. After any of them the message may or may
	// not be stored. Submit has already repeated what it can repeat; the sender may
	// deliver the message again.
	Submit(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error)
}

// A Counter adds event keys to windows; windowstore.Store has the contract.
type Counter interface {
	Register(ctx context.Context) error
	Add(ctx context.Context, increments []windowstore.Increment) error
}

// Config says where a [Committer] stores and within what bounds.
type Config struct {
	Warehouse warehouse.Ingester
	Counter   Counter
	// IDKind is the kind of the event ids, the EVENT_ID setting.
	IDKind string

	// Interval is the least time between two batches.
	Interval time.Duration
	// QueueLength and QueueBytes are how many messages may wait, and of what size
	// in all; one more is refused.
	QueueLength int
	QueueBytes  int
	// BatchRows and BatchBytes bound a batch: it is full at so many messages, or
	// before so many bytes. A single message of more bytes is a batch.
	BatchRows  int
	BatchBytes int
	// StepTimeout bounds each write of a batch.
	StepTimeout time.Duration

	Now    func() time.Time // clock for processing times
	Logger *slog.Logger
}

// A Committer is a group commit. Its methods may be called concurrently.
type Committer struct {
	cfg      Config
	ctx      context.Context // of all writes; ends only when Close runs out of time
	cancel   context.CancelCauseFunc
	queue    *queue
	counting chan []*item  // from the storing to the counting goroutine
	stopped  chan struct{} // closed when both have ended
}

// New starts a Committer. It runs until it is closed, and uses no processor time
// while there is nothing to store.
func New(cfg Config) *Committer {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &Committer{
		cfg:      cfg,
		ctx:      ctx,
		cancel:   cancel,
		queue:    newQueue(cfg),
		counting: make(chan []*item),
		stopped:  make(chan struct{}),
	}
	var running sync.WaitGroup
	running.Go(c.storeBatches)
	running.Go(c.countBatches)
	go func() {
		running.Wait()
		close(c.stopped)
	}()
	return c
}

// Submit implements [Submitter]. If ctx ends while the message still waits, the message
// leaves the queue.
func (c *Committer) Submit(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
	it := &item{ctx: ctx, message: m, size: sizeOf(m), verdict: v, receivedAt: c.cfg.Now(), done: make(chan outcome, 1)}
	if err := c.queue.push(it); err != nil {
		return v, err
	}
	select {
	case out := <-it.done:
		return out.verdict, out.err
	case <-ctx.Done():
		c.queue.remove(it)
		return v, fmt.Errorf("gave up waiting for storage: %w", context.Cause(ctx))
	}
}

// QueueLength returns how many messages wait.
func (c *Committer) QueueLength() int { return c.queue.len() }

// Close refuses new messages, stores and answers those that wait, and returns
// when that is done. When ctx ends first, it ends the writes under way, answers
// what is left with an error, and returns that of ctx. After Close nothing uses
// the stores.
func (c *Committer) Close(ctx context.Context) error {
	c.queue.close()
	var err error
	select {
	case <-c.stopped:
	case <-ctx.Done():
		err = fmt.Errorf("store waiting messages before shutdown: %w", context.Cause(ctx))
		c.cancel(ErrClosed)
		<-c.stopped // soon, because the stores stay on their context
	}
	c.cancel(ErrClosed)
	return err
}

// An item is one message on its way through.
type item struct {
	ctx        context.Context // of the request that waits for it
	message    event.Message
	size       int // of the message
	verdict    event.Verdict
	receivedAt time.Time
	done       chan outcome // room for one: the first answer stands
}

// sizeOf returns about how many bytes a message takes up.
func sizeOf(m event.Message) int {
	n := len(m.ID) + len(m.Data)
	for name, value := range m.Attributes {
		n += len(name) + len(value)
	}
	return n
}

type outcome struct {
	verdict event.Verdict
	err     error
}

// answer tells the waiting request what became of its message. Only the first
// answer counts.
func (it *item) answer(err error) {
	select {
	case it.done <- outcome{it.verdict, err}:
	default:
	}
}

func (it *item) rawRow() warehouse.RawRow {
	return warehouse.RawRow{
		Event:          it.verdict.Event,
		ProcessingTime: it.receivedAt,
		EventID:        it.verdict.EventID,
		MessageID:      it.message.ID,
		PublishTime:    it.message.PublishTime,
		WindowStart:    it.verdict.Window,
		Late:           it.verdict.Status == event.Late,
	}
}

func (it *item) deadLetter() warehouse.DeadLetter {
	return warehouse.DeadLetter{
		ReceivedAt: it.receivedAt,
		Message:    it.message,
		Reason:     it.verdict.Reason,
		Err:        it.verdict.Err.Error(),
	}
}

// storeBatches is the first stage: it forms batches and appends their rows.
func (c *Committer) storeBatches() {
	defer close(c.counting)
	var left time.Time // when the last batch left
	for c.queue.wait() {
		c.queue.waitUntil(left.Add(c.cfg.Interval))
		batch := c.queue.take()
		if len(batch) == 0 { // all of its requests went away
			continue
		}
		left = time.Now()
		c.contain(batch, c.storeBatch)
	}
}

func (c *Committer) storeBatch(batch []*item) {
	if err := c.register(); err != nil {
		for _, it := range batch {
			it.answer(err)
		}
		return
	}
	var events, letters []*item
	for _, it := range batch {
		if it.verdict.Status == event.DeadLetter {
			letters = append(letters, it)
		} else {
			events = append(events, it)
		}
	}
	var onTime []*item
	for i, err := range appendItems(c, events, (*item).rawRow, c.cfg.Warehouse.AppendRaw) {
		switch it := events[i]; {
		case errors.Is(err, warehouse.ErrRejected):
			it.verdict = it.verdict.Reject(err)
			letters = append(letters, it)
		case err == nil && it.verdict.Status == event.Counted:
			onTime = append(onTime, it)
		default:
			it.answer(err)
		}
	}
	if len(onTime) > 0 {
		c.counting <- onTime
	}
	c.storeLetters(letters)
}

// storeLetters appends dead letters. A letter that the warehouse refuses for its own
// value is appended again without its attributes and its subscription. Those alone have
// no bound, and a letter that is not stored is delivered until Pub/Sub drops it.
func (c *Committer) storeLetters(letters []*item) {
	var refused []*item
	for i, err := range appendItems(c, letters, (*item).deadLetter, c.cfg.Warehouse.AppendDeadLetters) {
		it := letters[i]
		if m := &it.message; errors.Is(err, warehouse.ErrRejected) && (len(m.Attributes) > 0 || m.Subscription != "") {
			it.verdict.Err = fmt.Errorf("%w (stored without its %d attributes and its subscription of %d bytes: %w)", it.verdict.Err, len(m.Attributes), len(m.Subscription), err)
			m.Attributes, m.Subscription = nil, ""
			refused = append(refused, it)
			continue
		}
		it.answer(err)
	}
	if len(refused) > 0 {
		c.storeLetters(refused)
	}
}

// register sees to it that nothing is stored under settings that do not fit what
// the pipeline has stored before.
func (c *Committer) register() error {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.StepTimeout)
	defer cancel()
	return c.cfg.Counter.Register(ctx)
}

// appendItems appends a row for each item and returns the outcomes.
func appendItems[T any](c *Committer, items []*item, row func(*item) T, appendRows func(context.Context, []T) error) []error {
	if len(items) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.StepTimeout)
	defer cancel()
	rows := make([]T, len(items))
	for i, it := range items {
		rows[i] = row(it)
	}
	return warehouse.AppendEach(ctx, rows, appendRows)
}

// countBatches is the second stage: it counts the events whose rows are stored.
func (c *Committer) countBatches() {
	for batch := range c.counting {
		c.contain(batch, c.countBatch)
	}
}

func (c *Committer) countBatch(batch []*item) {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.StepTimeout)
	defer cancel()
	err := c.cfg.Counter.Add(ctx, c.increments(batch))
	for _, it := range batch {
		it.answer(err)
	}
}

// increments groups the keys of a batch by window, oldest window first.
func (c *Committer) increments(batch []*item) []windowstore.Increment {
	var increments []windowstore.Increment
	at := map[int64]int{} // index in increments, by the window's start in Unix seconds
	for _, it := range batch {
		start := it.verdict.Window
		i, ok := at[start.Unix()]
		if !ok {
			i = len(increments)
			at[start.Unix()] = i
			increments = append(increments, windowstore.Increment{Window: start})
		}
		increments[i].Keys = append(increments[i].Keys, windowstore.KeyOf(c.cfg.IDKind, it.verdict.EventID))
	}
	slices.SortFunc(increments, func(a, b windowstore.Increment) int { return a.Window.Compare(b.Window) })
	return increments
}

// contain runs one stage of a batch. A panic in it answers the batch's messages,
// which come again, and leaves the Committer running for the others.
func (c *Committer) contain(batch []*item, stage func([]*item)) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		c.cfg.Logger.Error("panic while storing a batch", "panic", fmt.Sprint(p), "messages", len(batch), "stack", string(debug.Stack()))
		for _, it := range batch {
			it.answer(fmt.Errorf("%w: %v", ErrPanic, p))
		}
	}()
	stage(batch)
}
