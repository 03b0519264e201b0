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

// The kinds of errors that endpoints return, besides those of packages ingest and
// callers.
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

// A refusal is an error of one of the kinds above with a text of its own.
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

// An answer is how errors of one kind are answered and logged.
type answer struct {
	to     func(error) bool
	code   int
	status string // Google's canonical name
	retry  bool   // the same request may well succeed soon: Retry-After
	level  slog.Level
	// message is what the caller reads where the error's own text is not for
	// outside; empty where it is.
	message string
	// private keeps the error's text, which may quote the body, out of the log.
	private bool
}

// answers has, for each error, the first row that applies. Pub/Sub delivers
// again after every one of them; that can help only where retry is set, or once
// a person has acted. What no delivery could mend is a dead letter, which is
// stored and acknowledged, and so is not here.
var answers = []answer{
	{is(errInvalid), http.StatusBadRequest, "INVALID_ARGUMENT", false, slog.LevelWarn, "", false},
	{is(errBadEnvelope), http.StatusBadRequest, "INVALID_ARGUMENT", false, slog.LevelWarn, "", true},
	{is(errNotFound), http.StatusNotFound, "NOT_FOUND", false, slog.LevelInfo, "", false},
	{is(errMethod), http.StatusMethodNotAllowed, "UNIMPLEMENTED", false, slog.LevelInfo, "", false},
	{is(errTooLarge), http.StatusRequestEntityTooLarge, "INVALID_ARGUMENT", false, slog.LevelWarn, "", false},
	{is(errEncoding), http.StatusUnsupportedMediaType, "INVALID_ARGUMENT", false, slog.LevelWarn, "", false},

	// To Pub/Sub a bad setting looks like any refusal, so these say in the log who
	// was refused and why. Keys that could not be had say nothing about the caller.
	{unchecked, http.StatusUnauthorized, "UNAUTHENTICATED", false, slog.LevelError, "it is not known who sent this; the log says why", false},
	{as[*callers.UnauthenticatedError], http.StatusUnauthorized, "UNAUTHENTICATED", false, slog.LevelWarn, "", false},
	{as[*callers.ForbiddenError], http.StatusForbidden, "PERMISSION_DENIED", false, slog.LevelWarn, "", false},
	{as[*callers.ForeignPageError], http.StatusForbidden, "PERMISSION_DENIED", false, slog.LevelWarn, "", false},
	{as[*callers.KeysError], http.StatusServiceUnavailable, "UNAVAILABLE", true, slog.LevelWarn, "the caller cannot be checked, since Google's public keys are out of reach", false},

	// Nobody reads this one; 499 is what logs call it.
	{is(errClientGone), 499, "CANCELLED", true, slog.LevelInfo, "", false},

	{is(errDraining), http.StatusServiceUnavailable, "UNAVAILABLE", true, slog.LevelInfo, "", false},
	{is(ingest.ErrClosed), http.StatusServiceUnavailable, "UNAVAILABLE", true, slog.LevelInfo, "this instance is shutting down", false},
	{is(ingest.ErrQueueFull), http.StatusServiceUnavailable, "UNAVAILABLE", true, slog.LevelWarn, "too many messages are waiting to be stored", false},
	{is(errBusy), http.StatusServiceUnavailable, "UNAVAILABLE", true, slog.LevelWarn, "", false},
	{is(errSlowBody), http.StatusServiceUnavailable, "UNAVAILABLE", true, slog.LevelWarn, "", false},

	// Bugs. They come back as well, since the next build may not have them.
	{as[*panicError], http.StatusInternalServerError, "INTERNAL", false, slog.LevelError, "internal error; the log has the details", false},
	{is(errNoAnswer), http.StatusInternalServerError, "INTERNAL", false, slog.LevelError, "internal error; the log has the details", false},
	{is(ingest.ErrPanic), http.StatusInternalServerError, "INTERNAL", false, slog.LevelError, "internal error; the log has the details", false},

	// These two last until a person has acted, so they are logged as errors.
	{as[*warehouse.TableError], http.StatusServiceUnavailable, "UNAVAILABLE", true, slog.LevelError, "", false},
	{as[*windowstore.MeaningError], http.StatusServiceUnavailable, "UNAVAILABLE", true, slog.LevelError, "", false},
	{is(errStorage), http.StatusServiceUnavailable, "UNAVAILABLE", true, slog.LevelWarn, "", false},
	{is(errAudit), http.StatusServiceUnavailable, "UNAVAILABLE", true, slog.LevelWarn, "", false},
}

// unforeseen answers an error that has no row.
var unforeseen = answer{
	code: http.StatusInternalServerError, status: "INTERNAL", level: slog.LevelError,
	message: "internal error; the log has the details",
}

func answerTo(err error) answer {
	for _, a := range answers {
		if a.to(err) {
			return a
		}
	}
	return unforeseen
}

func unchecked(err error) bool {
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
