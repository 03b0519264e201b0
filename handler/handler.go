// Package handler is Tidemark's HTTP interface: Pub/Sub pushes events to it,
// Cloud Scheduler has due windows flushed through it, and a person with curl
// stands in for either.
//
// A success status is a promise that what it stands for is stored, because
// Pub/Sub forgets the message. So a route is an endpoint, which writes nothing
// before it has succeeded and otherwise returns an error; one adapter turns the
// error into an answer by one table (see errors.go). No path redirects: to
// Pub/Sub a redirect is a refusal.
package handler

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/tidemark-dev/tidemark/callers"
	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/internal/envelope"
)

// An Ingester stores messages.
type Ingester interface {
	// Submit stores m as v says it is and returns the verdict under which it was
	// stored: v, or a dead letter where the warehouse refused the event for its
	// own value. On nil everything is durable. It stays on ctx and returns within
	// moments of its end.
	//
	// The errors are those of package ingest. After any of them the message may
	// or may not be stored; Submit has done what retrying there is to do, and
	// whoever sent the message sends it again.
	Submit(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error)
}

// Config is what a [Handler] is built from. Every field is required, but that a
// false or empty one is a valid value where that is said.
type Config struct {
	// Callers says who may call; [callers.Anyone] is a choice too.
	Callers    CallerChecker
	Classifier event.Classifier
	Ingest     Ingester
	// Flush runs one flush. It ends by itself, and may run more than once at a
	// time.
	Flush func(ctx context.Context) flush.Report
	Audit Auditor
	// Metrics serves the metrics.
	Metrics http.Handler
	Now     func() time.Time
	Logger  *slog.Logger

	// MaxBody is the greatest body of a push, in bytes.
	MaxBody int64
	// MaxInFlightBytes bounds what the bodies of all pushes in progress hold
	// together, so that many large ones cannot exhaust memory: a push over it is
	// refused for now. The data of a message stays in the memory of its body, where
	// it is decoded; only strings of the envelope and the event are copies.
	// The first 16 KiB of each body are not counted, so small pushes are never
	// refused for the large ones' sake. It is taken to be at least MaxBody, since
	// one body at a time must always pass.
	MaxInFlightBytes int64
	// RequireMessageID has an unwrapped push without a message id refused, rather
	// than given an id derived from what it carries. Pub/Sub always has an id to
	// send, so a push without one comes from a subscription set up wrong, where
	// equal events of different messages would be counted as one.
	RequireMessageID bool
	// RequestTimeout is how long a push may take from its headers to its answer.
	// It must be well inside the subscription's ack deadline, after which Pub/Sub
	// has delivered the message again and nobody reads the answer. (The HTTP
	// server's own timeouts bound how long a body may take to arrive.)
	RequestTimeout time.Duration
}

// A Handler serves Tidemark's routes. It is safe for concurrent use.
type Handler struct {
	router *chi.Mux

	callers          CallerChecker
	classifier       event.Classifier
	ingest           Ingester
	runFlush         func(ctx context.Context) flush.Report
	auditor          Auditor
	metrics          http.Handler
	now              func() time.Time
	log              *slog.Logger
	bodies           *bodies
	requireMessageID bool
	requestTimeout   time.Duration

	draining atomic.Bool
}

// New returns a handler. It starts nothing and listens nowhere.
func New(c Config) *Handler {
	h := &Handler{
		router:           chi.NewRouter(),
		callers:          c.Callers,
		classifier:       c.Classifier,
		ingest:           c.Ingest,
		runFlush:         c.Flush,
		auditor:          c.Audit,
		metrics:          c.Metrics,
		now:              c.Now,
		log:              c.Logger,
		bodies:           newBodies(c.MaxBody, c.MaxInFlightBytes),
		requireMessageID: c.RequireMessageID,
		requestTimeout:   c.RequestTimeout,
	}
	h.routes()
	return h
}

// routes says what is served. Whatever decides about a request before its
// endpoint does wraps that endpoint and, like it, returns an error.
func (h *Handler) routes() {
	// Pub/Sub push, wrapped: once per message and again until it is acknowledged,
	// so up to thousands a second. Twice is safe: the id and both times of an
	// event are the same on every delivery, and a window counts distinct ids.
	h.handle(http.MethodPost, "/push", h.unlessDraining(h.only(callers.Push, h.push(decodeWrapped))))

	// Pub/Sub push, unwrapped with metadata, and curl with a bare event: as often
	// as the above, and twice is safe for the same reason. An event without a
	// message id gets one derived from its content.
	h.handle(http.MethodPost, "/push/raw", h.unlessDraining(h.only(callers.Push, h.push(h.decodeUnwrapped))))

	// Cloud Scheduler, each minute, and again when it got no success. Twice, even
	// at once, is safe: a flush appends counts to a log of which the greatest
	// counts, so repeating one appends the same again.
	h.handle(http.MethodPost, "/flush", h.unlessDraining(h.only(callers.Flush, h.flush)))

	// A monitor, a few times a day, or a person. Twice is safe: it reads only.
	h.handle(http.MethodGet, "/audit", h.unlessDraining(h.only(callers.View, h.audit(Auditor.Run))))

	// A person, after an audit found windows too low. Twice is safe: a repair
	// appends to the same log as a flush, and finds nothing to append the second
	// time. It writes, so it is never a GET.
	h.handle(http.MethodPost, "/audit", h.unlessDraining(h.only(callers.Flush, h.audit(Auditor.Repair))))

	// Probes, every few seconds, and anyone: it tells nothing. Twice is safe: it
	// reads nothing and writes nothing. (Not /healthz: Cloud Run keeps paths ending in z for itself.)
	h.handle(http.MethodGet, "/health", h.unlessDraining(health))

	// Prometheus, every half a minute or so. Twice is safe: it reads what this
	// process has counted, also while it shuts down.
	h.handle(http.MethodGet, "/metrics", h.only(callers.View, h.serveMetrics))

	h.router.NotFound(h.serve(h.noRoute))
	h.router.MethodNotAllowed(h.serve(h.noRoute))
}

// handle registers e for the method, and for HEAD where that is GET.
func (h *Handler) handle(method, path string, e endpoint) {
	h.router.Method(method, path, h.serve(e))
	if method == http.MethodGet {
		h.router.Method(http.MethodHead, path, h.serve(e))
	}
}

// ServeHTTP answers one request. Whatever is logged with its context is logged as part
// of the trace that the request belongs to.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.router.ServeHTTP(w, r.WithContext(withTrace(r.Context(), r.Header)))
}

// Drain makes every later request be refused for now, /health included, so that
// they go to another instance. Requests in progress are finished.
func (h *Handler) Drain() { h.draining.Store(true) }

func (h *Handler) unlessDraining(e endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, line *requestLine) error {
		if h.draining.Load() {
			return errDraining
		}
		return e(w, r, line)
	}
}

func decodeWrapped(_ *http.Request, body []byte, received time.Time) (event.Message, error) {
	m, err := envelope.Decode(body, received)
	if err != nil {
		return event.Message{}, refuse(errBadEnvelope, err)
	}
	if err := m.CheckLimits(); err != nil {
		return event.Message{}, refuse(errInvalid, err)
	}
	return m, nil
}

// flush runs a flush and answers its report, which says what failed.
func (h *Handler) flush(w http.ResponseWriter, r *http.Request, line *requestLine) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	report := h.runFlush(r.Context())
	line.add(slog.Int("windows", len(report.Windows)), slog.Int("held", report.Held), slog.Int("remaining", report.Remaining))
	code := http.StatusOK
	if len(report.Errors) > 0 {
		line.add(slog.Int("failures", len(report.Errors)), slog.String("error", clip(report.Errors[0].Error(), maxLogged)))
		setRetryAfter(w)
		code = http.StatusServiceUnavailable
	}
	return writeJSON(w, code, report)
}

// health touches no storage: a probe must not restart an instance because
// storage is down, nor wake storage that is idle.
func health(w http.ResponseWriter, _ *http.Request, _ *requestLine) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (h *Handler) serveMetrics(w http.ResponseWriter, r *http.Request, _ *requestLine) error {
	h.metrics.ServeHTTP(w, r)
	return nil
}
