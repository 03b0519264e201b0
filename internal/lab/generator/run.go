package generator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

const (
	// DefaultConcurrency is used if Options.Concurrency is 0. It is enough for the largest
	// burst of the lab's stream.
	DefaultConcurrency = 50
	// DefaultGrace is used if Options.Grace is 0.
	DefaultGrace = 10 * time.Second

	// maxBacklog is how many deliveries may wait for a slow server, as in a subscription. It
	// is more than an hour of the lab's stream.
	maxBacklog = 10_000
)

// Options say how to run a stream in real time.
type Options struct {
	// Publish publishes one delivery, and retries if necessary. Several goroutines call it;
	// the order is fixed only if Concurrency is 1. Its context ends Grace after Run's
	// context. An error ends the run: to skip a message, return nil.
	Publish func(context.Context, Delivery) error
	// Concurrency is how many calls of Publish run at once; 0 means DefaultConcurrency.
	Concurrency int
	// Grace is how long deliveries may take after the end of Run's context; 0 means
	// DefaultGrace.
	Grace time.Duration

	// Now and Sleep are the clock; nil means the real clock. Sleep returns ctx's error if
	// ctx ends first.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// Run publishes a stream in real time, from now until its end by Count or Duration, or until
// ctx ends, which is not an error. In each case it publishes the events that are still held,
// and returns when every delivery is published. A slow Publish does not delay the schedule
// until 10,000 deliveries wait; then the stream pauses.
//
// The error says what is wrong with the configuration, or it is the first error of Publish,
// or it says how many deliveries were not published within the grace.
func Run(ctx context.Context, config Config, options Options) error {
	if err := config.Validate(); err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	o := options.withDefaults()
	r := &run{options: o, queue: make(chan Delivery, maxBacklog)}
	publishCtx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	r.stop = stop

	// They end in this order: the schedule, the publishers, the grace.
	var grace, publishers sync.WaitGroup
	grace.Go(func() { r.limit(ctx, publishCtx) })
	for range o.Concurrency {
		publishers.Go(func() { r.publishAll(publishCtx) })
	}
	r.schedule(ctx, publishCtx, newModel(config, o.Now()))
	close(r.queue)
	publishers.Wait()
	cause := context.Cause(publishCtx)
	stop(nil)
	grace.Wait()
	if n := r.unpublished.Load(); n > 0 {
		return fmt.Errorf("generate: %d deliveries were not published: %w", n, cause)
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Concurrency <= 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = delivery.Sleep
	}
	return o
}

// A run is the state of one call of Run.
type run struct {
	options     Options
	queue       chan Delivery
	stop        context.CancelCauseFunc // ends publishing, and records the reason
	unpublished atomic.Int64
}

// schedule takes the model's actions and queues the deliveries, until the model is over or
// ctx or publishing ends.
func (r *run) schedule(ctx, publishCtx context.Context, m *model) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(publishCtx, cancel)()
	for !m.over {
		var deliveries []Delivery
		if r.sleepUntil(ctx, m.due()) == nil {
			deliveries = m.advance(r.options.Now())
		} else {
			deliveries = m.finish(r.options.Now())
		}
		for _, d := range deliveries {
			select {
			case r.queue <- d:
			case <-publishCtx.Done():
				r.unpublished.Add(1)
			}
		}
	}
}

// sleepUntil waits for an instant. If ctx ends first, it returns ctx's error.
func (r *run) sleepUntil(ctx context.Context, at time.Time) error {
	if d := at.Sub(r.options.Now()); d > 0 {
		return r.options.Sleep(ctx, d)
	}
	return ctx.Err()
}

// publishAll publishes the deliveries of the queue until the queue is closed.
func (r *run) publishAll(ctx context.Context) {
	for d := range r.queue {
		err := ctx.Err()
		if err == nil {
			err = r.options.Publish(ctx, d)
		}
		if err != nil {
			r.unpublished.Add(1)
			r.stop(fmt.Errorf("publish message %s: %w", d.Message.ID, err)) // the first reason counts
		}
	}
}

var errGrace = errors.New("the time that publishing may take after the end of the run is over")

// limit ends publishing when ctx has ended and the grace is over.
func (r *run) limit(ctx, publishCtx context.Context) {
	select {
	case <-ctx.Done():
	case <-publishCtx.Done():
		return
	}
	if r.options.Sleep(publishCtx, r.options.Grace) == nil {
		r.stop(errGrace)
	}
}
