// Package ingest stores classified messages in batches: a group commit. Concurrent
// callers of [Committer.Submit] share one append to the raw table and one increment of
// the counters. No caller is answered before the writes of its own message are durable.
//
// # Life of a batch
//
//  1. Messages wait in a queue. If no batch left within the last interval, a batch leaves
//     as soon as there is a message. Otherwise it leaves when the interval is over or the
//     batch is full. So a single message does not wait, and a busy process makes a bounded
//     number of writes a second. The first batch registers the pipeline. The batch is
//     refused if the settings do not fit the pipeline.
//  2. The raw rows of all events, on time and late, are appended. Late events are
//     answered.
//  3. Events on time are counted, all windows in one call, and then answered. Rows are
//     appended before events are counted, so every counted event has a raw row.
//  4. Dead letters are appended and answered. Events whose rows were refused for their own
//     values are among them. If a dead letter is refused too, it is appended without its
//     attributes, and its error says so.
//
// Step 3 runs at the same time as steps 2 and 4 of the next batch. So at most two batches
// are in progress.
//
// # Failures
//
// If a write fails, every message of the write is answered with the error and delivered
// again. Such a message may be in the raw table twice; the view of events hides the
// second row. It is counted once, because the counters are sets. A process that dies has
// acknowledged no message that it had not stored.
package ingest

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
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

// Config says where a [Committer] stores messages, and its limits.
type Config struct {
	Warehouse warehouse.Ingester
	Counter   Counter
	// IDKind is the kind of the event ids, the EVENT_ID setting.
	IDKind string

	// Interval is the least time between two batches.
	Interval time.Duration
	// QueueLength and QueueBytes bound the number and the total size of the messages that
	// wait. A message above these bounds is refused.
	QueueLength int
	QueueBytes  int
	// BatchRows and BatchBytes bound the messages and the bytes of a batch. A single
	// message of more bytes is a batch.
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
	ctx      context.Context // of all writes; ends only if Close takes too long
	cancel   context.CancelCauseFunc
	queue    *queue
	counting chan []*item  // from the storing to the counting goroutine
	stopped  chan struct{} // closed when both have ended
}

// New starts a Committer, which runs until [Committer.Close]. It uses no processor time
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

// Close refuses new messages and returns when all waiting messages are stored and
// answered. If ctx ends first, Close ends the writes in progress, answers the remaining
// messages with an error, and returns the error of ctx. After Close nothing uses the
// stores.
func (c *Committer) Close(ctx context.Context) error {
	c.queue.close()
	var err error
	select {
	case <-c.stopped:
	case <-ctx.Done():
		err = fmt.Errorf("store waiting messages before shutdown: %w", context.Cause(ctx))
		c.cancel(ErrClosed)
		<-c.stopped // soon, because the stores return when their context ends
	}
	c.cancel(ErrClosed)
	return err
}

// An item is a message from Submit to its answer.
type item struct {
	ctx        context.Context // of the request that waits for it
	message    event.Message
	size       int // of the message
	verdict    event.Verdict
	receivedAt time.Time
	done       chan outcome // with room for the first answer

	waiting *list.Element // in the queue, under its lock; nil if not there
}

// sizeOf returns the approximate number of bytes that a message takes.
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

// answer sends the outcome to the request that waits. Only the first answer counts.
func (it *item) answer(err error) {
	select {
	case it.done <- outcome{it.verdict, err}:
	default:
	}
}

func answerAll(batch []*item, err error) {
	for _, it := range batch {
		it.answer(err)
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

// storeBatches is the first stage. It forms batches and appends their rows.
func (c *Committer) storeBatches() {
	defer close(c.counting)
	var left time.Time // when the last batch left
	for c.queue.wait() {
		c.queue.waitUntil(left.Add(c.cfg.Interval))
		batch := c.queue.take()
		if len(batch) == 0 { // no request waits any more
			continue
		}
		left = time.Now()
		c.contain(batch, c.storeBatch)
	}
}

func (c *Committer) storeBatch(batch []*item) {
	if err := c.register(); err != nil {
		answerAll(batch, err)
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

// storeLetters appends dead letters. If the warehouse refuses a letter for its own value,
// the letter is appended again without its attributes and its subscription, the only
// parts without a bound. Pub/Sub would deliver a letter that is not stored again and
// again, and drop it in the end.
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

// register returns an error if the settings do not fit what the pipeline has stored
// before. Then nothing is stored.
func (c *Committer) register() error {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.StepTimeout)
	defer cancel()
	return c.cfg.Counter.Register(ctx)
}

// appendItems appends a row for each item and returns an error or nil for each.
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

// countBatches is the second stage. It counts the events whose rows are stored.
func (c *Committer) countBatches() {
	for batch := range c.counting {
		c.contain(batch, c.countBatch)
	}
}

func (c *Committer) countBatch(batch []*item) {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.StepTimeout)
	defer cancel()
	increments := make([]windowstore.Increment, len(batch))
	for i, it := range batch {
		key := windowstore.KeyOf(c.cfg.IDKind, it.verdict.EventID)
		increments[i] = windowstore.Increment{Window: it.verdict.Window, Keys: []windowstore.Key{key}}
	}
	answerAll(batch, c.cfg.Counter.Add(ctx, increments))
}

// contain runs one stage of a batch. If the stage panics, the messages of the batch are
// answered with an error and delivered again. The Committer goes on with other batches.
func (c *Committer) contain(batch []*item, stage func([]*item)) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		c.cfg.Logger.Error("panic while storing a batch", "panic", fmt.Sprint(p), "messages", len(batch), "stack", string(debug.Stack()))
		answerAll(batch, fmt.Errorf("%w: %v", ErrPanic, p))
	}()
	stage(batch)
}
