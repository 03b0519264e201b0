package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/ingest"
)

// An Ingester stores messages, with the errors of package ingest.
type Ingester interface {
	Submit(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error)
}

// Causes for which a message was not acknowledged.
const (
	queueFull = "queue_full"
	closed    = "closed"
	panicked  = "panic"
	storage   = "storage"
	canceled  = "canceled"
)

// reasons are all reasons of package event.
var reasons = [...]event.Reason{
	event.Empty, event.BadUTF8, event.BadJSON, event.NotAnObject, event.MissingField, event.WrongType,
	event.BadTime, event.TooFarAhead, event.MissingAttribute, event.AmbiguousMetadata, event.Rejected, event.Panic,
}

// messages are the metrics of single messages.
type messages struct {
	stored   *prometheus.CounterVec // by verdict and reason
	failures *prometheus.CounterVec // by cause
	delay    prometheus.Histogram
}

func newMessages(auto promauto.Factory) messages {
	m := messages{
		stored: auto.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "messages_total",
			Help: "Deliveries stored, and so acknowledged, by what they were stored as: counted, late or dead_letter, the last with its reason. " +
				"A message that is delivered twice is here twice. " +
				"Dead letters are kept whole in the dead-letter table: look there for what the publisher sends. Those with reason panic are a bug here.",
		}, []string{"verdict", "reason"}),
		failures: auto.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "message_failures_total",
			Help: "Deliveries that were to be stored but were not, or not in time, and so come again; those refused before that, by their request, are not here. Nothing is lost, but Pub/Sub slows the whole subscription down. " +
				"By cause: queue_full (storage is slower than what arrives: allow more instances), closed (came during shutdown: nothing to do), " +
				"panic (a bug: the log has the stack), storage (a write failed or was too slow: see tidemark_commit_seconds and the log), " +
				"canceled (the sender went away first: its deadline is too short, or storage too slow).",
		}, []string{"cause"}),
		delay: auto.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "publish_to_stored_seconds",
			Help: "Seconds from Pub/Sub's accepting an event, counted or late, to its being stored; zero where the clocks disagree. " +
				"Events without a publish time of their own are left out. " +
				"It grows while a backlog drains, and counts are incomplete by as much: if it does not fall again, look for failures and allow more instances.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600},
		}),
	}
	for _, status := range []event.Status{event.Counted, event.Late} {
		m.stored.WithLabelValues(string(status), "")
	}
	for _, reason := range reasons {
		m.stored.WithLabelValues(string(event.DeadLetter), string(reason))
	}
	for _, cause := range []string{queueFull, closed, panicked, storage, canceled} {
		m.failures.WithLabelValues(cause)
	}
	return m
}

// Ingester returns next, with every Submit counted: by the verdict that came
// back where the message was stored, and else by the cause. Verdicts and errors
// pass unchanged.
func (m *Metrics) Ingester(next Ingester) Ingester { return &ingester{m, next} }

type ingester struct {
	metrics *Metrics
	next    Ingester
}

func (i *ingester) Submit(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
	v, err := i.next.Submit(ctx, m, v)
	messages := &i.metrics.messages
	if err != nil {
		messages.failures.WithLabelValues(cause(ctx, err)).Inc()
		return v, err
	}
	messages.stored.WithLabelValues(string(v.Status), string(v.Reason)).Inc()
	if v.Status != event.DeadLetter && m.PublishTimeSource == event.FromMessage {
		messages.delay.Observe(i.metrics.since(m.PublishTime))
	}
	return v, nil
}

// cause says why a Submit failed. A request that ran out of time counts as
// storage, which was too slow; only one that was given up is canceled.
func cause(ctx context.Context, err error) string {
	switch {
	case errors.Is(err, ingest.ErrQueueFull):
		return queueFull
	case errors.Is(err, ingest.ErrClosed):
		return closed
	case errors.Is(err, ingest.ErrPanic):
		return panicked
	case errors.Is(ctx.Err(), context.Canceled) && errors.Is(err, context.Cause(ctx)):
		return canceled
	}
	return storage
}
