package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

// maxHead is how many lines, and about how many bytes, are looked through for a
// first event.
const (
	maxHead      = 100
	maxHeadBytes = maxLine
)

// A head is the beginning of an input, until its first event.
type head struct {
	found bool  // the first event was found
	held  []job // what was read before it
	bytes int
	why   string // the first line is no event
}

// none returns an error for a head in which no event was found; nil for an empty one.
func (h *head) none() error {
	if h.found || len(h.held) == 0 {
		return nil
	}
	return fmt.Errorf("none of the first %d lines is a push body or an event, so nothing was sent: line %d: %s (--anyway sends them, as dead letters)",
		len(h.held), h.held[0].line.number, h.why)
}

// begin returns the jobs that can be sent once j was read: none before the first
// event of the input, and then all that was held.
func (r *run) begin(ctx context.Context, h *head, j job) (ready []job, err error) {
	if r.options.Anyway {
		h.found = true
	}
	if h.found {
		return []job{j}, nil
	}
	why, err := r.whyNoEvent(ctx, j)
	if err != nil {
		return nil, err
	}
	if len(h.held) == 0 {
		h.why = why
	}
	h.held = append(h.held, j)
	h.bytes += len(j.line.text)
	if h.found = why == ""; h.found {
		ready, h.held = h.held, nil
		return ready, nil
	}
	if len(h.held) == maxHead || h.bytes > maxHeadBytes {
		return nil, h.none()
	}
	return nil, nil
}

// whyNoEvent returns why the line would become a dead letter, or nothing if it is a
// push body, or an event for the server, which is asked. Only a server that has
// taken the line for a dead letter has said that it is none.
func (r *run) whyNoEvent(ctx context.Context, j job) (string, error) {
	if j.line.tooLong {
		return "it is too long", nil
	}
	if j.copy == 0 {
		return "", nil
	}
	if kind, _ := classify(j.line.text); kind == garbage {
		return "it is no JSON object", nil
	}
	target, err := url.Parse(r.options.URL)
	if err != nil {
		return "", err
	}
	query := target.Query()
	query.Set("dry_run", "1")
	target.RawQuery = query.Encode()
	deliverer := *r.deliverer
	deliverer.URL = target.String()
	deliverer.Observe = func(a delivery.Attempt) { r.warn(ctx, j, a) }
	a, err := deliverer.Deliver(ctx, r.body(j))
	switch e := err.(type) {
	case nil:
	case *delivery.RefusedError: // as the line itself will be, which is told then
		return "", nil
	case *delivery.GaveUpError:
		return "", fmt.Errorf("the server does not say whether line %d is an event: %w", j.line.number, e)
	default:
		return "", err
	}
	var verdict struct{ Status, Reason, Error string }
	if json.Unmarshal(a.Body, &verdict) != nil || verdict.Status != "dead_letter" {
		return "", nil
	}
	return verdict.Reason + ": " + verdict.Error, nil
}
