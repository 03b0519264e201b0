package handler_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/callers"
	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/handler"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/window"
)

// receipt is the time of a fixture's clock, and received is the same time as answers have
// it.
var receipt = time.Date(2026, time.March, 14, 9, 27, 30, 123_456_789, time.UTC)

const received = "2026-03-14T09:27:30.123456Z"

// record is an event of the window that starts at 09:26. The window closes at 09:29, with
// the allowed lateness.
const record = `{"ip":"198.51.100.23","user_id":"7","lat":null,"lng":null,"timestamp":"2026-03-14T09:26:53.589793Z",` +
	`"http_request":"\"GET / HTTP/1.0\"","http_response":200,"num_bytes":287,"user_agent":"curl"}`

const (
	onTime = "2026-03-14T09:28:59.999999Z"
	late   = "2026-03-14T09:29:00Z"
)

// A submission is what Submit was called with.
type submission struct {
	Message event.Message
	Verdict event.Verdict
}

// fakeIngest records what is submitted. It returns the verdict that it gets, or what the
// hook returns.
type fakeIngest struct {
	hook func(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error)

	mu   sync.Mutex
	seen []submission
}

func (f *fakeIngest) Submit(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
	f.mu.Lock()
	f.seen = append(f.seen, submission{m, v})
	f.mu.Unlock()
	if f.hook != nil {
		return f.hook(ctx, m, v)
	}
	return v, nil
}

func (f *fakeIngest) submissions() []submission {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]submission(nil), f.seen...)
}

// only returns the one submitted message. It fails the test if there is not exactly one.
func (f *fakeIngest) only(t *testing.T) submission {
	t.Helper()
	seen := f.submissions()
	if len(seen) != 1 {
		t.Fatalf("%d messages were submitted, want 1", len(seen))
	}
	return seen[0]
}

func (f *fakeIngest) fail(err error) {
	f.hook = func(context.Context, event.Message, event.Verdict) (event.Verdict, error) {
		return event.Verdict{}, err
	}
}

type fixture struct {
	*handler.Handler
	ingest *fakeIngest
	logs   bytes.Buffer // under the lock of the log handler
}

// rules returns the rules of the default settings.
func rules() event.Rules {
	return event.Rules{
		Schema:       accesslog.Schema(),
		Windows:      window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute},
		MaxClockSkew: 5 * time.Minute,
	}
}

// newFixture returns a handler with fakes behind it. Each change changes its configuration.
func newFixture(t *testing.T, change ...func(*handler.Config)) *fixture {
	t.Helper()
	f := &fixture{ingest: &fakeIngest{}}
	c := handler.Config{
		Callers:          callers.Anyone{Hosts: []string{"example.com"}}, // httptest.NewRequest uses this host
		Classifier:       event.NewClassifier(rules()),
		Ingest:           f.ingest,
		Flush:            func(context.Context) flush.Report { return flush.Report{ReadTime: receipt} },
		Now:              func() time.Time { return receipt },
		Logger:           slog.New(slog.NewJSONHandler(&f.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		MaxBody:          1 << 20,
		MaxInFlightBytes: 4 << 20,
		RequestTimeout:   20 * time.Second,
	}
	for _, f := range change {
		f(&c)
	}
	f.Handler = handler.New(c)
	return f
}

func requireMessageID(c *handler.Config) { c.RequireMessageID = true }

// do sends one request through the router.
func (f *fixture) do(r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w.Result()
}

// logged returns the lines of the log. No request may be in progress.
func (f *fixture) logged(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for s := bufio.NewScanner(bytes.NewReader(f.logs.Bytes())); s.Scan(); {
		var line map[string]any
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatalf("log line %s: %v", s.Text(), err)
		}
		lines = append(lines, line)
	}
	return lines
}

// lastLine returns the line of the last request.
func (f *fixture) lastLine(t *testing.T) map[string]any {
	t.Helper()
	lines := f.logged(t)
	if len(lines) == 0 {
		t.Fatal("nothing was logged")
	}
	return lines[len(lines)-1]
}

// post returns a POST request with headers, which are given as name, value, name, value.
func post(target, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// wrapped returns a push body.
func wrapped(data, id, published string) string {
	body, err := json.Marshal(map[string]any{
		"message": map[string]any{
			"messageId": id, "publishTime": published, "data": base64.StdEncoding.EncodeToString([]byte(data)),
			"attributes": map[string]string{"origin": "edge"},
		},
		"subscription": "projects/p/subscriptions/s",
	})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// object reads a response whose body is one JSON object.
func object(t *testing.T, res *http.Response) map[string]any {
	t.Helper()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatalf("the answer %q is not a JSON object: %v", text, err)
	}
	if got := res.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type is %q, want application/json", got)
	}
	return o
}

// wantError checks all of an error answer except for its message, which it returns.
func wantError(t *testing.T, res *http.Response, code int, status string) string {
	t.Helper()
	if res.StatusCode != code {
		t.Errorf("status is %d, want %d", res.StatusCode, code)
	}
	o := object(t, res)
	e, _ := o["error"].(map[string]any)
	message, _ := e["message"].(string)
	if e["status"] != status || message == "" || len(e) != 2 || len(o) != 1 {
		t.Errorf("the answer is %v, want {error: {status: %s, message: ...}}", o, status)
	}
	if got, want := res.Header.Get("Retry-After") != "", code == http.StatusServiceUnavailable || code == 499; got != want {
		t.Errorf("the answer has Retry-After: %v, want %v", got, want)
	}
	return message
}

func wantOK(t *testing.T, res *http.Response) map[string]any {
	t.Helper()
	o := object(t, res)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status is %d, want 200: %v", res.StatusCode, o)
	}
	return o
}
