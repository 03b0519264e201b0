package handler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// An endpoint answers one request, or writes nothing and returns an error. The adapter
// answers the error. The endpoint adds to line what the log should have.
type endpoint func(w http.ResponseWriter, r *http.Request, line *requestLine) error

// maxLogged is how many bytes of a text from outside a log attribute has at most.
const maxLogged = 1000

// A requestLine collects the one log line of a request.
type requestLine struct {
	level slog.Level // the level of the line, or a lower bound of it
	attrs []slog.Attr
}

func (l *requestLine) add(attrs ...slog.Attr) { l.attrs = append(l.attrs, attrs...) }

func (l *requestLine) raise(level slog.Level) { l.level = max(l.level, level) }

// serve is the adapter from an endpoint to an HTTP handler. The handler answers the
// endpoint's error, contains its panics and logs the request.
func (h *Handler) serve(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := h.cfg.Now()
		line := &requestLine{level: slog.LevelDebug}
		// The wrapper records the status.
		out := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		if h.draining.Load() {
			out.Header().Set("Connection", "close")
		}
		err := contain(e, out, r, line)
		begun := out.Status() != 0
		if err == nil && !begun {
			err = errNoAnswer // net/http would answer 200
		}
		if err != nil {
			h.fail(out, err, line)
		} else if out.Status() >= http.StatusBadRequest {
			line.raise(slog.LevelWarn)
		}
		h.logRequest(r, out.Status(), h.cfg.Now().Sub(start), line)
		if err != nil && begun {
			// The status is already sent. Only a broken connection can still tell the
			// client that the answer is not valid.
			panic(http.ErrAbortHandler)
		}
	}
}

// contain runs the endpoint and returns its panic as a [*panicError], so that a
// bug costs one request and not the process.
func contain(e endpoint, w http.ResponseWriter, r *http.Request, line *requestLine) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler: // net/http breaks the connection
			panic(p)
		default:
			err = &panicError{value: p, stack: debug.Stack()}
		}
	}()
	return e(w, r, line)
}

// fail adds err to the log line, and answers it unless an answer has begun.
func (h *Handler) fail(w middleware.WrapResponseWriter, err error, line *requestLine) {
	a := answerTo(err)
	line.raise(a.level)
	if !a.private {
		line.add(slog.String("error", clip(err.Error(), maxLogged)))
	}
	if e, ok := errors.AsType[*warehouse.TableError](err); ok {
		line.add(slog.String("table", e.Table)) // an alert reads it: infra/metrics.tf
	}
	if p, ok := err.(*panicError); ok {
		line.add(slog.String("stack", string(p.stack)))
	}
	if w.Status() != 0 {
		return
	}
	if statuses[a.code].retry {
		setRetryAfter(w)
	}
	message := a.message
	if message == "" {
		message = err.Error()
	}
	WriteError(w, a.code, message)
}

// WriteError answers an error as every route does. It is also for code that answers in
// place of a [Handler].
func WriteError(w http.ResponseWriter, code int, message string) {
	type detail struct {
		Status  string `json:"status"`
		Message string `json:"message"`
	}
	body := map[string]detail{"error": {statuses[code].name, message}} // the form of Google's APIs
	_ = writeJSON(w, code, body)                                       // strings always have a JSON form
}

func (h *Handler) logRequest(r *http.Request, status int, latency time.Duration, line *requestLine) {
	h.cfg.Logger.LogAttrs(r.Context(), line.level, "request", append([]slog.Attr{
		slog.String("method", clip(r.Method, maxLogged)),
		slog.String("path", clip(r.URL.Path, maxLogged)),
		slog.Int("status", status),
		slog.Float64("latency_ms", float64(latency.Microseconds())/1000),
	}, line.attrs...)...)
}

// noRoute answers a request that no route takes. Either the path is unknown, or the
// path takes other methods only; then the answer names these methods.
func (h *Handler) noRoute(w http.ResponseWriter, r *http.Request, _ *requestLine) error {
	path := r.URL.RawPath // the router reads it if it is set
	if path == "" {
		path = r.URL.Path
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		if h.router.Match(chi.NewRouteContext(), method, path) {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		return errNotFound
	}
	allow := strings.Join(allowed, ", ")
	w.Header().Set("Allow", allow)
	return refuse(errMethod, fmt.Errorf("%s takes %s", r.URL.Path, allow))
}

// writeJSON writes the whole answer, or returns an error and writes nothing.
func writeJSON(w http.ResponseWriter, code int, body any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // users read the answer; no browser parses it as HTML
	if err := encoder.Encode(body); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	// Write fails only if the client has gone, and then nobody reads the error.
	_, _ = w.Write(text.Bytes())
	return nil
}

// setRetryAfter tells the client to try again in a second. By then the queue is shorter
// or another instance has taken over.
func setRetryAfter(w http.ResponseWriter) { w.Header().Set("Retry-After", "1") }

// clip returns s, cut between characters to at most n bytes and "...".
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}
