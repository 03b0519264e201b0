package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/handler"
)

func TestBodyThatIsNoEnvelopeIsRefused(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"empty":                  "",
		"not JSON":               "hello",
		"not an object":          "[]",
		"bare event":             record,
		"bad base64":             `{"message":{"messageId":"1","data":"%%%"}}`,
		"bad publish time":       `{"message":{"messageId":"1","publishTime":"yesterday"}}`,
		"attribute not a string": `{"message":{"messageId":"1","attributes":{"a":1}}}`,
	} {
		f := newFixture(t)
		wantError(t, f.do(post("/push", body)), http.StatusBadRequest, "INVALID_ARGUMENT")
		if n := len(f.ingest.submissions()); n != 0 {
			t.Errorf("%s: %d messages were stored", name, n)
		}
	}
}

func TestOtherMethodsAreToldWhichAreAllowed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for path, allow := range map[string]string{"/push": "POST", "/push/raw": "POST", "/flush": "POST", "/health": "GET, HEAD"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			if strings.Contains(allow, method) {
				continue
			}
			res := f.do(httptest.NewRequest(method, path, nil))
			wantError(t, res, http.StatusMethodNotAllowed, "UNIMPLEMENTED")
			if got := res.Header.Get("Allow"); got != allow {
				t.Errorf("%s %s: Allow is %q, want %q", method, path, got, allow)
			}
		}
	}
	if n := len(f.ingest.submissions()); n != 0 {
		t.Errorf("%d messages were stored", n)
	}
}

// Pub/Sub treats a redirect as a refusal, and its operator would not know why.
func TestOtherPathsAreNotFoundAndNeverRedirected(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	server := httptest.NewServer(f)
	defer server.Close()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, path := range []string{"/", "", "/push/", "//push", "/push//raw", "/push/raw/", "/x/../push", "/push%2Fraw", "/Push", "/flush/", "/health/", "/healthz", "/pushes"} {
		for _, method := range []string{"GET", "POST", "BREW"} {
			r, err := http.NewRequest(method, server.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, res, http.StatusNotFound, "NOT_FOUND")
			if allow := res.Header.Get("Allow"); allow != "" {
				t.Errorf("%s %s: Allow is %q, but the path does not exist", method, path, allow)
			}
			res.Body.Close()
		}
	}
}

func TestHealthIsOKAndTouchesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *handler.Config) { c.Ingest, c.Flush = nil, nil })
	server := httptest.NewServer(f)
	defer server.Close()
	res, err := http.Get(server.URL + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if diff := cmp.Diff(map[string]any{"status": "ok"}, wantOK(t, res)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	head, err := http.Head(server.URL + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer head.Body.Close()
	if body, _ := io.ReadAll(head.Body); head.StatusCode != http.StatusOK || len(body) != 0 {
		t.Errorf("HEAD is answered %d with %q, want 200 and no body", head.StatusCode, body)
	}
}

func TestFlushAnswersItsReport(t *testing.T) {
	t.Parallel()
	report := flush.Report{
		ReadTime: receipt,
		Windows:  []flush.Window{{Start: time.Date(2026, time.March, 14, 9, 20, 0, 0, time.UTC), PageViews: 12, Final: true}},
		Held:     1, Remaining: 2,
	}
	want := map[string]any{
		"read_time": received, "held": 1.0, "remaining": 2.0, "errors": []any{},
		"windows": []any{map[string]any{"window_start": "2026-03-14T09:20:00.000000Z", "page_views": 12.0, "is_final": true}},
	}
	f := newFixture(t, func(c *handler.Config) { c.Flush = func(context.Context) flush.Report { return report } })
	res := f.do(post("/flush", ""))
	if diff := cmp.Diff(want, wantOK(t, res)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if res.Header.Get("Retry-After") != "" {
		t.Error("Retry-After after a success")
	}

	report.Errors = []error{errors.New("window 09:21: settle: aborted")}
	want["errors"] = []any{"window 09:21: settle: aborted"}
	res = f.do(post("/flush", ""))
	if diff := cmp.Diff(want, object(t, res)); diff != "" {
		t.Errorf("report of a failure (-want +got):\n%s", diff)
	}
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("a flush that failed in part is answered %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
	if line := f.lastLine(t); line["level"] != "WARN" || line["error"] != "window 09:21: settle: aborted" {
		t.Errorf("the log line is %v, want a warning with the error", line)
	}
}

func TestFlushStaysOnTheRequest(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	f := newFixture(t, func(c *handler.Config) {
		c.Flush = func(ctx context.Context) flush.Report {
			leave()
			<-ctx.Done()
			return flush.Report{}
		}
	})
	f.do(post("/flush", "").WithContext(ctx))
}

func TestDrainingRefusesWhatIsNewAndFinishesWhatIsNot(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	finish := held(f, 30_000)
	f.Drain()
	for _, r := range []*http.Request{
		post("/push", wrapped(record, "42", onTime)),
		post("/push/raw", record),
		post("/push/raw?dry_run=1", record),
		post("/flush", ""),
		httptest.NewRequest(http.MethodGet, "/health", nil),
	} {
		res := f.do(r)
		wantError(t, res, http.StatusServiceUnavailable, "UNAVAILABLE")
		if res.Header.Get("Connection") != "close" {
			t.Errorf("%s: the answer does not close the connection", r.URL)
		}
	}
	wantOK(t, finish())
	if n := len(f.ingest.submissions()); n != 1 {
		t.Errorf("%d messages were submitted, want only the one from before", n)
	}
}

// When the server stops, the contexts of requests may be canceled. The clients still wait
// for an answer, so they must get one.
func TestPushCutOffByShutdownIsRefusedForNow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, stop := context.WithCancel(t.Context())
	f.ingest.hook = func(ctx context.Context, _ event.Message, v event.Verdict) (event.Verdict, error) {
		f.Drain()
		stop()
		<-ctx.Done()
		return v, ctx.Err()
	}
	wantError(t, f.do(post("/push", wrapped(record, "42", onTime)).WithContext(ctx)), http.StatusServiceUnavailable, "UNAVAILABLE")
}

func TestPanicCostsOneRequestAndNotTheServer(t *testing.T) {
	t.Parallel()
	crash := func(value any) func(*handler.Config) {
		return func(c *handler.Config) { c.Flush = func(context.Context) flush.Report { panic(value) } }
	}
	for _, value := range []any{"bug", errors.New("bug"), []int{1}, nil} {
		f := newFixture(t, crash(value))
		f.ingest.hook = func(context.Context, event.Message, event.Verdict) (event.Verdict, error) { panic(value) }
		server := httptest.NewServer(f)
		defer server.Close()
		for path, body := range map[string]string{"/push": wrapped(record, "42", onTime), "/push/raw": record, "/flush": ""} {
			res, err := http.Post(server.URL+path, "", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if message := wantError(t, res, http.StatusInternalServerError, "INTERNAL"); strings.Contains(message, "bug") {
				t.Errorf("%s: the answer shows internal details: %s", path, message)
			}
			res.Body.Close()
		}
		res, err := http.Get(server.URL + "/health")
		if err != nil {
			t.Fatal(err)
		}
		wantOK(t, res)
		res.Body.Close()
		server.Close() // so that all log lines have been written
		for _, line := range f.logged(t)[:3] {
			stack, _ := line["stack"].(string)
			if line["level"] != "ERROR" || !strings.Contains(stack, "adapter_test.go") {
				t.Errorf("the log line is %v, want an error with the stack", line)
			}
		}
	}
}

func TestAbortedAnswerBreaksTheConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ingest.hook = func(context.Context, event.Message, event.Verdict) (event.Verdict, error) {
		panic(http.ErrAbortHandler)
	}
	server := httptest.NewServer(f)
	defer server.Close()
	res, err := http.Post(server.URL+"/push/raw", "", strings.NewReader(record))
	if err == nil {
		res.Body.Close()
		t.Fatalf("answered %d, want a broken connection", res.StatusCode)
	}
}

func TestEachRequestIsOneLogLine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, test := range []struct {
		r    *http.Request
		want map[string]any
	}{
		{post("/push?dry_run=1", wrapped(record, "42", onTime)), map[string]any{
			"level": "DEBUG", "method": "POST", "path": "/push", "status": 200.0, "message_id": "42", "verdict": "counted", "dry_run": true,
		}},
		{post("/push", wrapped("{}", "43", onTime)), map[string]any{
			"level": "INFO", "method": "POST", "path": "/push", "status": 200.0, "message_id": "43", "verdict": "dead_letter", "reason": "missing_field", "dry_run": false,
		}},
		{post("/flush", ""), map[string]any{
			"level": "DEBUG", "method": "POST", "path": "/flush", "status": 200.0, "windows": 0.0, "held": 0.0, "remaining": 0.0,
		}},
		{httptest.NewRequest("GET", "/nowhere", nil), map[string]any{
			"level": "INFO", "method": "GET", "path": "/nowhere", "status": 404.0, "error": "no such path",
		}},
	} {
		f.logs.Reset()
		f.do(test.r)
		lines := f.logged(t)
		if len(lines) != 1 {
			t.Fatalf("%d lines, want 1: %v", len(lines), lines)
		}
		got := lines[0]
		if _, ok := got["latency_ms"].(float64); !ok || got["msg"] != "request" {
			t.Errorf("the line is %v, want the message \"request\", and a latency", got)
		}
		for _, key := range []string{"time", "msg", "latency_ms"} {
			delete(got, key)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("line (-want +got):\n%s", diff)
		}
	}
}

func TestPayloadsAreNotLogged(t *testing.T) {
	t.Parallel()
	const secret = "192.0.2.77"
	bad := strings.Replace(record, `"198.51.100.23"`, `["`+secret+`"]`, 1)
	f := newFixture(t)
	for _, body := range []string{
		secret, `"` + secret + `"`, `{"message":"` + secret + `"}`, `{"message":{"messageId":"1","data":"` + secret + `"}}`,
		`{"message":{"messageId":"1","publishTime":"` + secret + `"}}`, wrapped(secret, "1", onTime), wrapped(bad, "1", onTime),
	} {
		f.do(post("/push", body))
	}
	f.do(post("/push/raw", bad))
	f.ingest.fail(errors.New("storage down"))
	f.do(post("/push/raw", bad))
	for _, line := range f.logged(t) {
		if text := fmt.Sprint(line); line["level"] != "DEBUG" && strings.Contains(text, secret) {
			t.Errorf("the log has the payload: %s", text)
		}
	}
}
