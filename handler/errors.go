package handler

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/tidemark-dev/tidemark/callers"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// The kinds of errors that endpoints return. Packages ingest and callers have
// others.
var (
	errInvalid     = errors.New("invalid request")
	errBadEnvelope = errors.New("body is not a push envelope")
	errNotFound    = errors.New("no such path")
	errMethod      = errors.New("method not allowed")
	errTooLarge    = errors.New("body is too large")
	errEncoding    = errors.New("body is encoded")
	errClientGone  = errors.New("client went away")
	errDraining    = errors.New("this instance is shutting down")
	errBusy        = errors.New("too many large bodies at once")
	errSlowBody    = errors.New("body took too long to arrive")
	errStorage     = errors.New("storage failed")
	errAudit       = errors.New("audit failed")
	errNoAnswer    = errors.New("endpoint wrote no answer and returned no error")
)

// A refusal is an error of one of the kinds above, with a text of its own.
type refusal struct{ kind, err error }

func refuse(kind, err error) error { return &refusal{kind, err} }

func (e *refusal) Error() string   { return e.err.Error() }
func (e *refusal) Unwrap() []error { return []error{e.kind, e.err} }

// A panicError is a panic of an endpoint.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// An answer says how the errors of one kind are answered and logged.
type answer struct {
	to    func(error) bool // reports whether this is the answer to an error
	code  int              // one of statuses
	level slog.Level
	// message is for the caller. If it is empty, the caller reads the error's own
	// text.
	message string
	// private keeps the error's text out of the log, because the text may quote the
	// body.
	private bool
}

// statusClientGone is the code that logs use for a client that did not wait. The
// standard library has no name for it.
const statusClientGone = 499

// A status is what goes with a code.
type status struct {
	name  string // Google's canonical name
	retry bool   // the same request may succeed soon: the answer has Retry-After
}

var statuses = map[int]status{
	http.StatusBadRequest:            {name: "INVALID_ARGUMENT"},
	http.StatusUnauthorized:          {name: "UNAUTHENTICATED"},
	http.StatusForbidden:             {name: "PERMISSION_DENIED"},
	http.StatusNotFound:              {name: "NOT_FOUND"},
	http.StatusMethodNotAllowed:      {name: "UNIMPLEMENTED"},
	http.StatusRequestEntityTooLarge: {name: "INVALID_ARGUMENT"},
	http.StatusUnsupportedMediaType:  {name: "INVALID_ARGUMENT"},
	statusClientGone:                 {name: "CANCELLED", retry: true},
	http.StatusInternalServerError:   {name: "INTERNAL"},
	http.StatusServiceUnavailable:    {name: "UNAVAILABLE", retry: true},
}

const bug = "internal error; the log has the details"

// answers has the answer to each error: the first row that applies. Pub/Sub delivers
// the message again after each of these answers. A new delivery can succeed if the
// status has retry, or after an operator has acted. A message that no delivery can
// make valid is not here: it is stored as a dead letter, and acknowledged.
var answers = []answer{
	{to: is(errInvalid), code: http.StatusBadRequest, level: slog.LevelWarn},
	{to: is(errBadEnvelope), code: http.StatusBadRequest, level: slog.LevelWarn, private: true},
	{to: is(errNotFound), code: http.StatusNotFound, level: slog.LevelInfo},
	{to: is(errMethod), code: http.StatusMethodNotAllowed, level: slog.LevelInfo},
	{to: is(errTooLarge), code: http.StatusRequestEntityTooLarge, level: slog.LevelWarn},
	{to: is(errEncoding), code: http.StatusUnsupportedMediaType, level: slog.LevelWarn},

	// The caller. Pub/Sub shows no reason for a refusal, so the log says who was
	// refused and why.
	{to: isUnchecked, code: http.StatusUnauthorized, level: slog.LevelError, message: "it is not known who sent this; the log says why"},
	{to: as[*callers.UnauthenticatedError], code: http.StatusUnauthorized, level: slog.LevelWarn},
	{to: as[*callers.ForbiddenError], code: http.StatusForbidden, level: slog.LevelWarn},
	{to: as[*callers.ForeignPageError], code: http.StatusForbidden, level: slog.LevelWarn},
	{to: as[*callers.KeysError], code: http.StatusServiceUnavailable, level: slog.LevelWarn, message: "the caller cannot be checked, since Google's public keys are out of reach"},

	// Nobody reads this answer.
	{to: is(errClientGone), code: statusClientGone, level: slog.LevelInfo},

	// Too much at once, or the end of this instance.
	{to: is(errDraining), code: http.StatusServiceUnavailable, level: slog.LevelInfo},
	{to: is(ingest.ErrClosed), code: http.StatusServiceUnavailable, level: slog.LevelInfo, message: "this instance is shutting down"},
	{to: is(ingest.ErrQueueFull), code: http.StatusServiceUnavailable, level: slog.LevelWarn, message: "too many messages are waiting to be stored"},
	{to: is(errBusy), code: http.StatusServiceUnavailable, level: slog.LevelWarn},
	{to: is(errSlowBody), code: http.StatusServiceUnavailable, level: slog.LevelWarn},

	// Bugs. The message is delivered again, because the next build may be free of them.
	{to: as[*panicError], code: http.StatusInternalServerError, level: slog.LevelError, message: bug},
	{to: is(errNoAnswer), code: http.StatusInternalServerError, level: slog.LevelError, message: bug},
	{to: is(ingest.ErrPanic), code: http.StatusInternalServerError, level: slog.LevelError, message: bug},

	// Storage. The first two last until an operator acts, so they are logged as errors.
	{to: as[*warehouse.TableError], code: http.StatusServiceUnavailable, level: slog.LevelError},
	{to: as[*windowstore.MeaningError], code: http.StatusServiceUnavailable, level: slog.LevelError},
	{to: is(errStorage), code: http.StatusServiceUnavailable, level: slog.LevelWarn},
	{to: is(errAudit), code: http.StatusServiceUnavailable, level: slog.LevelWarn},
}

// unforeseen is the answer to an error that has no row.
var unforeseen = answer{code: http.StatusInternalServerError, level: slog.LevelError, message: bug}

func answerTo(err error) answer {
	for _, a := range answers {
		if a.to(err) {
			return a
		}
	}
	return unforeseen
}

// isUnchecked reports whether err shows that Cloud Run checks no tokens.
func isUnchecked(err error) bool {
	unknown, ok := errors.AsType[*callers.UnauthenticatedError](err)
	return ok && unknown.Unchecked
}

func is(kind error) func(error) bool {
	return func(err error) bool { return errors.Is(err, kind) }
}

func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
