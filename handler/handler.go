// Package handler is Tidemark's HTTP interface. Pub/Sub pushes events to it, and
// Cloud Scheduler starts flushes through it. A user can do both with curl.
//
// A success status is a promise: what the status stands for is stored. Pub/Sub
// forgets the message then. So each route is an endpoint, which either succeeds and
// then writes its answer, or returns an error and writes nothing. One adapter turns
// the error into an answer by one table (see errors.go). No path redirects: Pub/Sub
// takes a redirect for a refusal.
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
	"github.com/tidemark-dev/tidemark/ingest"
)

// Config is what a [Handler] is built from. Every field is required; if a field says
// so, its zero value is valid.
type Config struct {
	// Callers says who may call; [callers.Anyone] is a choice too.
	Callers    CallerChecker
	Classifier *event.Classifier
	Ingest     ingest.Submitter
	// Flush runs one flush. It ends by itself. Several flushes may run at the same
	// time.
	Flush func(ctx context.Context) flush.Report
	Audit AuditRunner
	// Metrics serves the metrics.
	Metrics http.Handler
	Now     func() time.Time
	Logger  *slog.Logger

	// MaxBody is the greatest body of a push, in bytes.
	MaxBody int64
	// MaxInFlightBytes bounds the memory that the bodies of all pushes in progress
	// hold together, so that many large bodies cannot exhaust it. A push over this
	// bound is refused for now. A message's data stays in the memory of its body; only
	// strings of the envelope and the event are copies.
	//
	// The first 16 KiB of each body are not counted, so large pushes never cause the
	// refusal of small ones. A value less than MaxBody counts as MaxBody, since one
	// body at a time must always pass.
	MaxInFlightBytes int64
	// RequireMessageID says what becomes of an unwrapped push without a message id:
	// the push is refused if it is true, and gets an id derived from its content if it
	// is false. Pub/Sub always has an id to send, so a push without an id comes from a
	// subscription with wrong settings. With derived ids, equal events of different
	// messages would be counted as one event.
	RequireMessageID bool
	// RequestTimeout is how long a push may take from its headers to its answer. It
	// must be well below the subscription's ack deadline. After that deadline Pub/Sub
	// has delivered the message again and nobody reads the answer. (The HTTP server's
	// own timeouts bound how long a body may take to arrive.)
	RequestTimeout time.Duration
}

// A Handler serves Tidemark's routes. It is safe for concurrent use.
type Handler struct {
	cfg      Config
	router   *chi.Mux
	bodies   *bodies
	draining atomic.Bool
}

// New returns a handler. It starts nothing and listens nowhere.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg, router: chi.NewRouter(), bodies: newBodies(cfg.MaxBody, cfg.MaxInFlightBytes)}
	h.routes()
	return h
}

// routes registers every route. A check that comes before an endpoint wraps the
// endpoint and, like the endpoint, returns an error.
func (h *Handler) routes() {
	// Push: Pub/Sub, wrapped. Once per message and again until the message is
	// acknowledged, so up to thousands a second. Twice is safe: the id and both times
	// of an event are the same on every delivery, and a window counts distinct ids.
	h.handle(http.MethodPost, "/push", h.unlessDraining(h.only(callers.Push, h.push(decodeWrapped))))

	// Push: Pub/Sub, unwrapped with metadata, and curl with a bare event. As often as
	// /push, and twice is safe for the same reason. An event without a message id gets
	// an id derived from its content.
	h.handle(http.MethodPost, "/push/raw", h.unlessDraining(h.only(callers.Push, h.push(h.decodeUnwrapped))))

	// Scheduled: Cloud Scheduler, each minute, and again if it got no success. Twice is
	// safe, even at the same time: a flush appends counts to a log in which the
	// greatest count stands, so a repeated flush changes nothing.
	h.handle(http.MethodPost, "/flush", h.unlessDraining(h.only(callers.Flush, h.flush)))

	// Monitor: a few times a day; or manual. Twice is safe: an audit only reads.
	h.handle(http.MethodGet, "/audit", h.unlessDraining(h.only(callers.View, h.audit(AuditRunner.Run))))

	// Manual: an operator, after an audit found windows too low. Twice is safe: a
	// repair appends to the same log as a flush, and the second repair finds nothing to
	// append. A repair writes, so it is never a GET.
	h.handle(http.MethodPost, "/audit", h.unlessDraining(h.only(callers.Flush, h.audit(AuditRunner.Repair))))

	// Probe: every few seconds. Anyone may call: the answer reveals nothing. Twice is
	// safe: it reads nothing and writes nothing. (Not /healthz: Cloud Run keeps paths
	// that end in z for itself.)
	h.handle(http.MethodGet, "/health", h.unlessDraining(health))

	// Monitor: Prometheus, every half a minute or so, also during a shutdown. Twice is
	// safe: it reads what this process has counted.
	h.handle(http.MethodGet, "/metrics", h.only(callers.View, h.metrics))

	h.router.NotFound(h.serve(h.noRoute))
	h.router.MethodNotAllowed(h.serve(h.noRoute))
}

// handle registers e for the method. A route for GET takes HEAD too.
func (h *Handler) handle(method, path string, e endpoint) {
	h.router.Method(method, path, h.serve(e))
	if method == http.MethodGet {
		h.router.Method(http.MethodHead, path, h.serve(e))
	}
}

// ServeHTTP answers one request. Log lines with its context belong to the trace of the
// request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.router.ServeHTTP(w, r.WithContext(withTrace(r.Context(), r.Header)))
}

// Drain refuses every later request for now, /health included, so that these requests
// go to another instance. Requests in progress are finished.
func (h *Handler) Drain() { h.draining.Store(true) }

func (h *Handler) unlessDraining(e endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, line *requestLine) error {
		if h.draining.Load() {
			return errDraining
		}
		return e(w, r, line)
	}
}

// clientGone reports whether the client did not wait for the answer. A shutdown may end
// every request's context too, but then the client is still there.
func (h *Handler) clientGone(r *http.Request) bool {
	return r.Context().Err() != nil && !h.draining.Load()
}
