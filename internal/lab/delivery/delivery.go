// Package delivery delivers push bodies to a server as Pub/Sub push does: at least once. It
// repeats a delivery, with growing pauses, until the server acknowledges. Commands that
// replace Pub/Sub use it.
package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/internal/durations"
)

const (
	// AckDeadline is how long an attempt waits for its answer. A subscription waits as long
	// for an acknowledgement before it delivers again. AckDeadline is much longer than every
	// deadline inside the server.
	AckDeadline = 60 * time.Second

	minBackoff = 100 * time.Millisecond // Pub/Sub's, after the first refusal
	maxBackoff = 10 * time.Second       // shorter than Pub/Sub's 60 s, because the user waits

	// maxRetryAfter is the longest pause that a server can ask for. It is Pub/Sub's longest
	// pause.
	maxRetryAfter = 60 * time.Second

	maxAnswer = 64 << 10 // bytes of an answer's body that are kept
)

// A Deliverer delivers push bodies to one URL. Many goroutines may use it at once. Only URL
// is required. Fields must not change after the first call.
type Deliverer struct {
	// URL is where the bodies are posted: http or https (see [CheckURL]).
	URL string
	// Token is sent with each body; if it is empty, no token is sent. See [CheckToken].
	Token string
	// Client sends the requests; nil means [http.DefaultClient]. Redirects are never
	// followed: a redirect turns the POST into a GET, and status 200 for a GET does not mean
	// that the message is stored.
	Client *http.Client
	// Timeout limits one attempt; 0 means [AckDeadline].
	Timeout time.Duration
	// GiveUpAfter limits all attempts for one body, pauses included: no attempt begins
	// later. 0 means no limit.
	GiveUpAfter time.Duration
	// Observe, if set, is called after every attempt, before the pause that follows. Every
	// goroutine that calls Deliver calls Observe.
	Observe func(Attempt)

	// Now and Sleep are the clock; nil means the real clock. Sleep returns ctx's error if
	// ctx ends first.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// NewClient returns an HTTP client that keeps concurrency connections to one server open
// between requests. The default client keeps only two, and would open a new connection for
// nearly every other request.
func NewClient(concurrency int) *http.Client {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	transport.MaxIdleConnsPerHost = max(concurrency, 1)
	transport.IdleConnTimeout = 90 * time.Second
	return &http.Client{Transport: transport}
}

// CheckURL returns an error unless raw is a URL to which bodies can be posted.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%q is not a URL such as http://host:port/path", raw)
	}
	return nil
}

// An Attempt is one delivery of one body, and its outcome.
type Attempt struct {
	Number  int           // of this body's attempts, from 1
	Status  int           // the HTTP status; 0 if no answer came
	Body    []byte        // the answer's body, at most 64 KiB of it
	Err     error         // why no answer came; nil if one did
	Latency time.Duration // from the start of the request to the end of the answer

	retryAfter time.Duration // the pause that the server asked for, or 0
}

// Acknowledged reports whether the server acknowledged the message. Only status 102, 200,
// 201, 202 and 204 do so, as for Pub/Sub.
func (a Attempt) Acknowledged() bool {
	switch a.Status {
	case http.StatusProcessing, http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent:
		return true
	}
	return false
}

// Hopeless reports whether every later attempt would get the same answer: status 400, 401,
// 403, 404, 405, 413 or 415. (Pub/Sub itself would try again until the message expires.)
func (a Attempt) Hopeless() bool {
	switch a.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return true
	}
	return false
}

// String returns the outcome in one line for the user: the status with the server's error
// message, or why no answer came.
func (a Attempt) String() string {
	if a.Status == 0 {
		return fmt.Sprintf("no answer: %v", a.Err)
	}
	status := strings.TrimSpace(fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status)))
	if message := a.message(); message != "" {
		return status + ": " + message
	}
	return status
}

// message returns the message of an error in Google's JSON form. For another answer it
// returns the beginning of the first line.
func (a Attempt) message() string {
	var answer struct {
		Error struct{ Message string }
	}
	if err := json.Unmarshal(a.Body, &answer); err == nil && answer.Error.Message != "" {
		return answer.Error.Message
	}
	const most = 200
	line, _, _ := strings.Cut(strings.TrimSpace(string(a.Body)), "\n")
	if len(line) > most {
		line = line[:most] + "..."
	}
	return strings.ToValidUTF8(line, "?")
}

// RefusedError is the error of [Deliverer.Deliver] for a body that the server will never
// accept. See [Attempt.Hopeless].
type RefusedError struct{ Attempt Attempt }

func (e *RefusedError) Error() string { return "server refuses the message: " + e.Attempt.String() }

// GaveUpError is the error of [Deliverer.Deliver] for a body that was not
// acknowledged within GiveUpAfter. The server may have stored the message.
type GaveUpError struct {
	After time.Duration // GiveUpAfter
	Last  Attempt
}

func (e *GaveUpError) Error() string {
	return fmt.Sprintf("not acknowledged within %s; the last of %d attempts: %v", durations.Text(e.After), e.Last.Number, e.Last)
}

// Deliver posts body until the server acknowledges it, and returns the attempt that
// succeeded. It gives up only with a [*RefusedError] or a [*GaveUpError], or when ctx ends,
// with an error that wraps ctx's error. The server may have stored the message even then.
// Deliver never changes body. The caller must not change body either, even after Deliver
// returns: the last request may still read it.
//
// The pause before another attempt doubles from 100 ms to 10 s. A random part, up to half,
// is taken off each pause. A pause is never shorter than the server's Retry-After (up to a
// minute).
func (d *Deliverer) Deliver(ctx context.Context, body []byte) (Attempt, error) {
	if err := errors.Join(CheckURL(d.URL), CheckToken(d.URL, d.Token)); err != nil {
		return Attempt{}, fmt.Errorf("delivery: %w", err)
	}
	backoff, start := minBackoff, d.now()
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			return Attempt{}, fmt.Errorf("deliver, before attempt %d: %w", number, err)
		}
		a := d.attempt(ctx, body)
		a.Number = number
		if d.Observe != nil {
			d.Observe(a)
		}
		if a.Acknowledged() {
			return a, nil
		}
		if a.Hopeless() {
			return a, &RefusedError{Attempt: a}
		}
		wait := pause(backoff, a.retryAfter)
		if d.GiveUpAfter > 0 && d.now().Add(wait).Sub(start) > d.GiveUpAfter {
			return a, &GaveUpError{After: d.GiveUpAfter, Last: a}
		}
		if err := d.sleep(ctx, wait); err != nil {
			return a, fmt.Errorf("deliver, after attempt %d: %w", number, err)
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// pause returns how long to wait before another attempt. The random part ensures that bodies
// that were refused together do not return together.
func pause(backoff, retryAfter time.Duration) time.Duration {
	if retryAfter >= backoff {
		return retryAfter + rand.N(minBackoff)
	}
	return max(backoff/2+rand.N(backoff/2+1), retryAfter)
}

// attempt posts body once.
func (d *Deliverer) attempt(ctx context.Context, body []byte) Attempt {
	timeout := d.Timeout
	if timeout == 0 {
		timeout = AckDeadline
	}
	attemptCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := d.now()
	response, err := d.post(attemptCtx, body)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = fmt.Errorf("none within %s", durations.Text(timeout))
		}
		return Attempt{Err: Explain(err, d.URL), Latency: d.now().Sub(start)}
	}
	defer response.Body.Close()
	// As for Pub/Sub, only the status counts. So an error while the answer's body is read
	// changes nothing.
	answer, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return Attempt{
		Status:     response.StatusCode,
		Body:       answer,
		Latency:    d.now().Sub(start),
		retryAfter: parseRetryAfter(response.Header.Get("Retry-After"), d.now()),
	}
}

func (d *Deliverer) post(ctx context.Context, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	Authorize(request, d.Token)
	return d.client().Do(request)
}

// client returns a copy of the caller's client that never follows a redirect.
func (d *Deliverer) client() *http.Client {
	client := http.Client{}
	if d.Client != nil {
		client = *d.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

func (d *Deliverer) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

func (d *Deliverer) sleep(ctx context.Context, pause time.Duration) error {
	if d.Sleep != nil {
		return d.Sleep(ctx, pause)
	}
	return Sleep(ctx, pause)
}

// Sleep waits for d. If ctx ends first, it returns ctx's error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// parseRetryAfter reads a Retry-After header: whole seconds or an HTTP date. It returns 0 if
// the header cannot be read or its date is past.
func parseRetryAfter(header string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
