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
	// DefaultConcurrency is enough for the largest burst of the lab's stream.
	DefaultConcurrency = 50
	// DefaultGrace is the default of Options.Grace.
	DefaultGrace = 10 * time.Second

	// maxBacklog is how many deliveries may wait for a slow server, as they would
	// in a subscription: more than an hour of the lab's stream.
	maxBacklog = 10_000
)

// Options say how to run a stream in real time.
type Options struct {
	// Publish hands on one delivery; retrying is its own affair. It is called
	// from several goroutines, in no certain order unless Concurrency is 1. Its
	// context outlives Run's by Grace. An error ends the run: return nil for a
	// message to be done without.
	Publish func(context.Context, Delivery) error
	// Concurrency is how many calls of Publish run at once; 0 is
	// DefaultConcurrency.
	Concurrency int
	// Grace is how long after the end of Run's context deliveries may still take;
	// 0 is DefaultGrace.
	Grace time.Duration

	// Now and Sleep are the clock; nil is the real one. Sleep returns ctx's error
	// if ctx ends first.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// Run publishes a stream in real time, starting now, until its end by Count or
// Duration, or the end of ctx, which is no error. Either way it publishes what is
// still held, and returns when every delivery has been published. Publishing does
// not hold up the schedule until 10,000 deliveries wait; then the stream pauses.
//
// The error is of the configuration, or the first of Publish, or says how much
// could not be published within the grace.
func Run(ctx context.Context, config Config, options Options) error {
	if err := config.Validate(); err != nil {
		return fmt.Errorf("generate: %w", err)
	}
	o := options.withDefaults()
	r := &run{options: o, queue: make(chan Delivery, maxBacklog)}
	publishCtx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	r.stop = stop

	// In the order of their end: the schedule, the publishers, the grace.
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
	stop        context.CancelCauseFunc // ends publishing, with the reason
	unpublished atomic.Int64
}

// schedule works off the model and queues its deliveries, until the model is over
// or ctx or publishing has ended.
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

// sleepUntil waits for an instant, or returns ctx's error if ctx ends first.
func (r *run) sleepUntil(ctx context.Context, at time.Time) error {
	if d := at.Sub(r.options.Now()); d > 0 {
		return r.options.Sleep(ctx, d)
	}
	return ctx.Err()
}

// publishAll publishes from the queue until it is closed.
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

var errGrace = errors.New("the time for it after the end of the run is over")

// limit ends publishing when the grace after the end of ctx is over.
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
