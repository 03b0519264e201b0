package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

// maxHead and maxHeadBytes limit the search for the first event, in lines and (roughly) in
// bytes.
const (
	maxHead      = 100
	maxHeadBytes = maxLine
)

// A head is the beginning of an input, up to the first event.
type head struct {
	found bool  // the first event was found
	held  []job // the lines before the first event
	bytes int
	why   string // why the first line is not an event
}

// none returns an error if no event was found. For an empty head it returns nil.
func (h *head) none() error {
	if h.found || len(h.held) == 0 {
		return nil
	}
	return fmt.Errorf("none of the first %d lines is a push body or an event, so nothing was sent: line %d: %s (--anyway sends them, as dead letters)",
		len(h.held), h.held[0].line.number, h.why)
}

// begin takes the next job and returns the jobs that can be sent now. Before the first event
// it holds all jobs and returns none. With the first event it returns all held jobs.
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

// whyNoEvent returns why the line would become a dead letter. It returns "" for a push body.
// For another object it asks the server: only the verdict dead_letter means that the line is
// not an event.
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
	case *delivery.RefusedError: // the line itself will be refused too, and then reported
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
