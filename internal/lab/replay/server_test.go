package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
)

// now is the time in every test.
var now = time.Date(2026, 7, 1, 12, 0, 0, 250_000_000, time.UTC)

// A server is a fake of Tidemark's server, which keeps the bodies that it receives. If
// its handler is set, the handler answers. If not, the verdict on every message is
// "counted". Requests with dry_run are only counted.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	asked  int // the number of requests with dry_run
}

func newServer(t *testing.T, handle func(w http.ResponseWriter, delivery int, body []byte)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.URL.Query().Get("dry_run") == "1" {
			s.asked++
		} else {
			s.bodies = append(s.bodies, string(body))
		}
		if handle == nil {
			fmt.Fprint(w, `{"status": "counted"}`)
			return
		}
		handle(w, len(s.bodies), body)
	}))
	t.Cleanup(s.Close)
	return s
}

// received returns the bodies in the order of their arrival.
func (s *server) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies
}

// message decodes a body that was sent to the server.
func message(t *testing.T, body string) event.Message {
	t.Helper()
	m, err := envelope.Decode([]byte(body), time.Time{})
	if err != nil {
		t.Fatalf("body %s: %v", body, err)
	}
	if m.PublishTimeSource != event.FromMessage {
		t.Fatalf("body %s has no publish time", body)
	}
	return m
}

// labTime is the field with the time of the events of this package's tests.
var labTime = event.Field{Name: "event_timestamp", Type: event.Timestamp, Format: event.RFC3339, Path: []string{"timestamp"}}

// options returns the options that most tests use: one message at a time, and a clock
// that stands still, even during pauses.
func options(url, input string) Options {
	return Options{
		Input:       strings.NewReader(input),
		URL:         url,
		Concurrency: 1,
		Anyway:      true,
		Time:        labTime,
		Now:         func() time.Time { return now },
		Sleep:       func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

// replay runs a replay with the options, which must reach the end of its input.
func replay(t *testing.T, o Options) Summary {
	t.Helper()
	summary, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

// pushLine returns a push body on one line, with spaces as a person would write them.
func pushLine(id, publishTime string, data []byte) string {
	encoded, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{ "message": {"messageId":  %q, "publishTime": %q, "data": %s} }`, id, publishTime, encoded)
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
