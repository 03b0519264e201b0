package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/ingest"
)

// The causes of a message that was not acknowledged.
const (
	queueFull = "queue_full"
	closed    = "closed"
	panicked  = "panic"
	storage   = "storage"
	canceled  = "canceled"
)

// reasons are all reasons for dead letters.
var reasons = [...]event.Reason{
	event.Empty, event.BadUTF8, event.BadJSON, event.NotAnObject, event.MissingField, event.WrongType,
	event.BadTime, event.TooFarAhead, event.MissingAttribute, event.MissingID, event.AmbiguousMetadata, event.Rejected, event.Panic,
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
			Help: "Deliveries that were stored, and so acknowledged, by verdict: counted, late or dead_letter. A dead letter has a reason. " +
				"A message that is delivered twice counts twice. " +
				"The table of dead letters has the whole messages: look there for what the publisher sends. A dead letter with reason panic shows a bug in Tidemark.",
		}, []string{"verdict", "reason"}),
		failures: auto.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "message_failures_total",
			Help: "Deliveries that were not stored, or not in time, and so come again. Requests that were refused before storage are not counted. Nothing is lost, but Pub/Sub slows the whole subscription down. " +
				"By cause: queue_full (messages arrive faster than storage takes them: allow more instances), closed (the message came during a shutdown: do nothing), " +
				"panic (a bug: the log has the stack), storage (a write failed or was too slow: see tidemark_commit_seconds and the log), " +
				"canceled (the sender did not wait: its deadline is too short, or storage is too slow).",
		}, []string{"cause"}),
		delay: auto.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "publish_to_stored_seconds",
			Help: "Seconds from the time when Pub/Sub accepted an event, counted or late, to the time when it was stored; zero if the clocks disagree. " +
				"Events without a publish time of their own are left out. " +
				"It grows while a backlog drains, and counts lag behind by as much. If it does not fall again, look for failures and allow more instances.",
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

// Submitter returns next with every Submit counted: a stored message by the verdict that
// Submit returns, any other message by the cause of its error. Verdicts and errors pass
// unchanged.
func (m *Metrics) Submitter(next ingest.Submitter) ingest.Submitter { return &submitter{m, next} }

type submitter struct {
	metrics *Metrics
	next    ingest.Submitter
}

func (s *submitter) Submit(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
	v, err := s.next.Submit(ctx, m, v)
	messages := &s.metrics.messages
	if err != nil {
		messages.failures.WithLabelValues(cause(ctx, err)).Inc()
		return v, err
	}
	messages.stored.WithLabelValues(string(v.Status), string(v.Reason)).Inc()
	if v.Status != event.DeadLetter && m.PublishTimeSource == event.FromMessage {
		messages.delay.Observe(s.metrics.since(m.PublishTime))
	}
	return v, nil
}

// cause returns why a Submit failed. A request that ran out of time counts as storage,
// because storage was too slow. A request is canceled only if its client did not wait.
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
