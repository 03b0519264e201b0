package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/callers"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// The first row of the table of answers that fits an error decides. Some errors here fit
// two rows.
func TestTableOfAnswers(t *testing.T) {
	t.Parallel()
	detail := errors.New("detail")
	stored := func(err error) error { return refuse(errStorage, fmt.Errorf("store message %q: %w", "1", err)) }
	for _, test := range []struct {
		err    error
		code   int
		status string
		retry  bool
	}{
		{refuse(errInvalid, detail), 400, "INVALID_ARGUMENT", false},
		{refuse(errBadEnvelope, detail), 400, "INVALID_ARGUMENT", false},
		{errNotFound, 404, "NOT_FOUND", false},
		{refuse(errMethod, detail), 405, "UNIMPLEMENTED", false},
		{refuse(errTooLarge, detail), 413, "INVALID_ARGUMENT", false},
		{refuse(errEncoding, detail), 415, "INVALID_ARGUMENT", false},
		{&callers.UnauthenticatedError{}, 401, "UNAUTHENTICATED", false},
		{&callers.UnauthenticatedError{Unchecked: true}, 401, "UNAUTHENTICATED", false},
		{&callers.ForeignPageError{Err: detail}, 403, "PERMISSION_DENIED", false},
		{&callers.ForbiddenError{}, 403, "PERMISSION_DENIED", false},
		{&callers.KeysError{Err: detail}, 503, "UNAVAILABLE", true},
		{refuse(errClientGone, context.Canceled), 499, "CANCELLED", true},
		{errDraining, 503, "UNAVAILABLE", true},
		{errBusy, 503, "UNAVAILABLE", true},
		{refuse(errSlowBody, detail), 503, "UNAVAILABLE", true},
		{stored(detail), 503, "UNAVAILABLE", true},
		{stored(context.DeadlineExceeded), 503, "UNAVAILABLE", true},
		{stored(ingest.ErrQueueFull), 503, "UNAVAILABLE", true},
		{stored(ingest.ErrClosed), 503, "UNAVAILABLE", true},
		{stored(&warehouse.TableError{Table: "raw", Err: detail}), 503, "UNAVAILABLE", true},
		{stored(&windowstore.MeaningError{}), 503, "UNAVAILABLE", true},
		{stored(ingest.ErrPanic), 500, "INTERNAL", false},
		{&panicError{value: "bug"}, 500, "INTERNAL", false},
		{errNoAnswer, 500, "INTERNAL", false},
		{detail, 500, "INTERNAL", false},
	} {
		got := answerTo(test.err)
		status := statuses[got.code]
		if got.code != test.code || status.name != test.status || status.retry != test.retry {
			t.Errorf("%v: answered %d %s, retry %v; want %d %s, %v", test.err, got.code, status.name, status.retry, test.code, test.status, test.retry)
		}
		switch got.code { // Pub/Sub takes each of these as an acknowledgement
		case 102, 200, 201, 202, 204:
			t.Errorf("%v: acknowledged with %d", test.err, got.code)
		}
	}
}

func quiet() *Handler {
	return New(Config{Now: time.Now, Logger: slog.New(slog.DiscardHandler), MaxBody: 1, RequestTimeout: time.Second})
}

func TestEndpointThatWritesNothingIsNoSuccess(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	quiet().serve(func(http.ResponseWriter, *http.Request, *requestLine) error { return nil })(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("answered %d, want 500", w.Code)
	}
}

func TestErrorAfterASuccessStatusBreaksTheConnection(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func() error{
		"error": func() error { return errors.New("half-way") },
		"panic": func() error { panic("half-way") },
	} {
		server := httptest.NewServer(quiet().serve(func(w http.ResponseWriter, _ *http.Request, _ *requestLine) error {
			w.WriteHeader(http.StatusOK)
			return then()
		}))
		defer server.Close()
		if res, err := http.Get(server.URL); err == nil {
			res.Body.Close()
			t.Errorf("%s: answered %d, want a broken connection", name, res.StatusCode)
		}
	}
}
