package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
)

// push returns the endpoint that takes one message. decode reads the message from the
// request. The endpoint answers when the message is stored.
func (h *Handler) push(decode func(r *http.Request, body []byte, received time.Time) (event.Message, error)) endpoint {
	return func(w http.ResponseWriter, r *http.Request, line *requestLine) error {
		received := h.cfg.Now().UTC().Truncate(time.Microsecond)
		ctx, cancel := context.WithTimeout(r.Context(), h.cfg.RequestTimeout)
		defer cancel()
		query, err := pushParameters(r)
		if err != nil {
			return err
		}
		dryRun, err := dryRun(query)
		if err != nil {
			return err
		}
		if err := checkEncoding(w, r); err != nil {
			return err
		}
		body, release, err := h.bodies.read(r)
		defer release()
		if err != nil {
			return err
		}
		m, err := decode(r, body, received)
		if err != nil {
			return err
		}
		line.add(slog.String("message_id", clip(m.ID, maxLogged)))
		v := h.cfg.Classifier.Classify(m)
		if v.Reason == event.Panic {
			line.raise(slog.LevelError)
			line.add(slog.Any("panic", v.Err)) // with its stack
		}
		if !dryRun {
			if v, err = h.cfg.Ingest.Submit(ctx, m, v); err != nil {
				return h.submitError(r, m, err)
			}
		}
		line.add(slog.String("verdict", string(v.Status)), slog.Bool("dry_run", dryRun))
		// A line for every counted event would cost more than the counting. So there are
		// lines only for messages that a user may miss in a count.
		switch v.Status {
		case event.Late:
			line.raise(slog.LevelInfo)
			line.add(slog.String("window_start", event.FormatTime(v.Window)), slog.String("publish_time", event.FormatTime(m.PublishTime)))
		case event.DeadLetter:
			line.raise(slog.LevelInfo) // an alert counts these lines: infra/metrics.tf
			line.add(slog.String("reason", string(v.Reason)))
		}
		return writeJSON(w, http.StatusOK, newVerdict(m, v))
	}
}

// decodeWrapped reads a message from a push envelope, which is JSON.
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

// checkEncoding refuses a compressed body. Pub/Sub sends no compressed bodies. If such a
// body were stored as it came, it would be a dead letter that nobody can read.
func checkEncoding(w http.ResponseWriter, r *http.Request) error {
	encoding := strings.TrimSpace(strings.Join(r.Header.Values("Content-Encoding"), ", "))
	if encoding == "" || strings.EqualFold(encoding, "identity") {
		return nil
	}
	w.Header().Set("Accept-Encoding", "identity")
	return refuse(errEncoding, fmt.Errorf("the body has Content-Encoding %s; send it as it is", clip(strconv.Quote(encoding), 100)))
}

// submitError returns the refusal for a message that was not stored: storage failed, or
// the client did not wait.
func (h *Handler) submitError(r *http.Request, m event.Message, err error) error {
	kind := errStorage
	if errors.Is(err, context.Canceled) && h.clientGone(r) {
		kind = errClientGone
	}
	return refuse(kind, fmt.Errorf("store message %q: %w", m.ID, err))
}

// maxError is how many bytes of a dead letter's error are answered. The table of dead
// letters has the whole error.
const maxError = 500

// verdict is the answer to a push.
type verdict struct {
	Status            event.Status            `json:"status"`
	EventID           string                  `json:"event_id,omitempty"`
	EventTime         string                  `json:"event_time,omitempty"`
	PublishTime       string                  `json:"publish_time"`
	PublishTimeSource event.PublishTimeSource `json:"publish_time_source"`
	WindowStart       string                  `json:"window_start,omitempty"`
	Reason            event.Reason            `json:"reason,omitempty"`
	Error             string                  `json:"error,omitempty"`
}

func newVerdict(m event.Message, v event.Verdict) verdict {
	answer := verdict{
		Status:            v.Status,
		EventID:           v.EventID,
		PublishTime:       event.FormatTime(m.PublishTime),
		PublishTimeSource: m.PublishTimeSource,
	}
	if v.HasTime {
		answer.EventTime = event.FormatTime(v.EventTime)
	}
	if v.Status != event.DeadLetter {
		answer.WindowStart = event.FormatTime(v.Window)
	} else {
		answer.Reason = v.Reason
		if v.Err != nil {
			// The lines after the first are the stack of a panic.
			first, _, _ := strings.Cut(v.Err.Error(), "\n")
			answer.Error = clip(first, maxError)
		}
	}
	return answer
}
