package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// lines returns the lines of a log.
func lines(t *testing.T, log *bytes.Buffer) (all []map[string]any) {
	t.Helper()
	for text := range strings.Lines(log.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		all = append(all, line)
	}
	return all
}

// logged starts a service with a log in the form that Cloud Logging reads, and returns
// the log.
func logged(t *testing.T, level slog.Level, project string, env ...string) (*service.Service, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	s, err := settings.Load(map[string]string{"data-dir": t.TempDir(), "flush-quiet": "0s"}, func(name string) (string, bool) {
		for i := 0; i < len(env); i += 2 {
			if env[i] == name {
				return env[i+1], true
			}
		}
		return "", false
	})
	if err != nil {
		t.Fatal(err)
	}
	service, err := service.New(t.Context(), s, service.NewJSONLogger(&log, level, project))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := service.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return service, &log
}

// send sends an unwrapped push, or a flush, with the headers of a trace.
func send(s *service.Service, target, id, body, published string) {
	r := httptest.NewRequest("POST", target, strings.NewReader(body))
	r.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	r.Header.Set("X-Goog-Pubsub-Message-Id", id)
	if published != "" {
		r.Header.Set("X-Goog-Pubsub-Publish-Time", published)
	}
	s.Handler().ServeHTTP(httptest.NewRecorder(), r)
}

const logEvent = `{"ip":"","user_id":"7","timestamp":"2026-03-14T09:26:53Z","http_request":"","http_response":200,"num_bytes":1,"user_agent":""}`

// If the project is known, every log line of a request has the request's trace, wherever
// in the program it was written.
func TestTheLinesOfARequestHaveItsTrace(t *testing.T) {
	t.Parallel()
	for _, project := range []string{"my-project", ""} {
		s, log := logged(t, slog.LevelDebug, project)
		send(s, "/push/raw", "42", logEvent, "2026-03-14T09:27:00Z")
		send(s, "/flush", "", "", "")
		send(s, "/nowhere", "", "", "")
		got := lines(t, log)
		if len(got) != 4 { // a flush writes two lines
			t.Fatalf("%d lines, want 4:\n%s", len(got), log)
		}
		for _, line := range got {
			want := map[string]any{}
			if project != "" {
				want = map[string]any{
					"logging.googleapis.com/trace":         "projects/my-project/traces/4bf92f3577b34da6a3ce929d0e0e4736",
					"logging.googleapis.com/spanId":        "00f067aa0ba902b7",
					"logging.googleapis.com/trace_sampled": true,
				}
			}
			special := map[string]any{}
			for name, value := range line {
				if strings.HasPrefix(name, "logging.") || name == "httpRequest" {
					special[name] = value
				}
			}
			if diff := cmp.Diff(want, special); diff != "" {
				t.Errorf("project %q, line %v (-want +got):\n%s", project, line, diff)
			}
		}
		log.Reset()
		s.Flush(t.Context()) // without a request, as a command does it
		if strings.Contains(log.String(), "logging.googleapis.com") {
			t.Errorf("a line that belongs to no request has a trace: %s", log)
		}
	}
}

// At the default level, a line is written for everything that a person may miss in a
// count, and no line for an event that is counted.
func TestWhatIsCountedIsNotLoggedAndTheRestIs(t *testing.T) {
	t.Parallel()
	s, log := logged(t, slog.LevelInfo, "")
	send(s, "/push/raw", "42", logEvent, "2026-03-14T09:27:00Z")
	if log.Len() > 0 {
		t.Errorf("a line is written for an event that is counted: %s", log)
	}
	for _, tc := range []struct {
		body, published string
		want            map[string]any
	}{
		{logEvent, "2026-03-14T09:29:00Z", map[string]any{
			"severity": "INFO", "message": "request", "method": "POST", "path": "/push/raw", "status": 200.0, "message_id": "42", "dry_run": false,
			"verdict": "late", "window_start": "2026-03-14T09:26:00.000000Z", "publish_time": "2026-03-14T09:29:00.000000Z",
		}},
		{"{}", "2026-03-14T09:27:00Z", map[string]any{
			"severity": "INFO", "message": "request", "method": "POST", "path": "/push/raw", "status": 200.0, "message_id": "42", "dry_run": false,
			"verdict": "dead_letter", "reason": "missing_field",
		}},
		{logEvent, "yesterday", map[string]any{
			"severity": "WARNING", "message": "request", "method": "POST", "path": "/push/raw", "status": 400.0,
		}},
	} {
		log.Reset()
		send(s, "/push/raw", "42", tc.body, tc.published)
		got := lines(t, log)
		if len(got) != 1 {
			t.Fatalf("%d lines, want 1:\n%s", len(got), log)
		}
		if text, _ := got[0]["error"].(string); (text != "") != (got[0]["severity"] == "WARNING") {
			t.Errorf("the line's error is %q: %v", text, got[0])
		}
		for _, name := range []string{"time", "latency_ms", "error"} {
			delete(got[0], name)
		}
		if diff := cmp.Diff(tc.want, got[0]); diff != "" {
			t.Errorf("line (-want +got):\n%s", diff)
		}
	}
}

// One line of the log says everything that a flush did.
func TestAFlushIsOneLine(t *testing.T) {
	t.Parallel()
	s, log := logged(t, slog.LevelInfo, "")
	over, end := context.WithCancel(t.Context())
	end()
	send(s, "/push/raw", "42", logEvent, "2026-03-14T09:27:00Z")
	send(s, "/push/raw", "43", logEvent, "2026-03-14T09:27:00Z")
	send(s, "/push/raw", "42", strings.Replace(logEvent, "09:26:53", "09:27:53", 1), "2026-03-14T09:28:00Z")
	for _, tc := range []struct {
		ctx  context.Context
		want map[string]any
	}{
		{over, map[string]any{"severity": "ERROR", "status": "failed", "windows": 0.0, "final": 0.0, "page_views": 0.0, "held": 0.0, "remaining": 0.0, "remaining_at_least": true}},
		{t.Context(), map[string]any{
			"severity": "INFO", "status": "ok", "windows": 2.0, "final": 2.0, "page_views": 3.0, "held": 0.0, "remaining": 0.0,
			"first_window": "2026-03-14T09:26:00.000000Z", "last_window": "2026-03-14T09:27:00.000000Z",
		}},
		{t.Context(), map[string]any{"severity": "INFO", "status": "ok", "windows": 0.0, "final": 0.0, "page_views": 0.0, "held": 0.0, "remaining": 0.0}},
	} {
		log.Reset()
		report := s.Flush(tc.ctx)
		got := lines(t, log)
		if len(got) != 1 {
			t.Fatalf("%d lines, want 1:\n%s", len(got), log)
		}
		line := got[0]
		if _, ok := line["duration_ms"].(float64); !ok || line["message"] != "flush" || line["errors"] != float64(len(report.Errors)) || line["read_time"] != report.ReadTime.Format("2006-01-02T15:04:05.000000Z") {
			t.Errorf("the line is %v, want the message flush, a duration, and of the report how many errors and the read time", line)
		}
		if text, _ := line["error"].(string); (text != "") != (len(report.Errors) > 0) {
			t.Errorf("the line's error is %q, of a report with %v", text, report.Errors)
		}
		for _, name := range []string{"time", "message", "duration_ms", "read_time", "error", "errors"} {
			delete(line, name)
		}
		if diff := cmp.Diff(tc.want, line); diff != "" {
			t.Errorf("line (-want +got):\n%s", diff)
		}
	}
}

func TestSeverityAndTimeAreAsCloudLoggingHasThem(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := service.NewJSONLogger(&log, slog.LevelDebug, "p")
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		logger.Log(t.Context(), level, "")
	}
	var got []any
	for _, line := range lines(t, &log) {
		got = append(got, line["severity"])
	}
	if diff := cmp.Diff([]any{"DEBUG", "INFO", "WARNING", "ERROR"}, got); diff != "" {
		t.Errorf("severities (-want +got):\n%s", diff)
	}
	log.Reset()
	at := time.Date(2026, time.March, 14, 10, 26, 53, 0, time.FixedZone("CET", 3600))
	if err := logger.Handler().Handle(t.Context(), slog.NewRecord(at, slog.LevelInfo, "", 0)); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, &log)[0]["time"]; got != "2026-03-14T09:26:53Z" {
		t.Errorf("time is %v, want it in UTC", got)
	}
}

// An attribute of a log line may have the same name as a field that every line has.
func TestAnAttributeOfAnyNameIsLogged(t *testing.T) {
	t.Parallel()
	for _, name := range []string{slog.TimeKey, slog.LevelKey, slog.MessageKey} {
		for _, value := range []any{"soon", 7, []int{1}, nil, time.Minute} {
			var log bytes.Buffer
			service.NewJSONLogger(&log, slog.LevelInfo, "p").Info("line", name, value)
			if got := lines(t, &log); len(got) != 1 {
				t.Errorf("%s=%v: lines %v, want one", name, value, got)
			}
		}
	}
}

// The logger passes the tests of log/slog. A trace is always where Cloud Logging looks
// for it: outside of all groups.
func TestTheLoggerPassesTheTestsOfSlog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		log.Reset()
		return service.NewJSONLogger(&log, slog.LevelInfo, "p").Handler()
	}, func(t *testing.T) map[string]any {
		line := lines(t, &log)[0]
		line[slog.MessageKey], line[slog.LevelKey] = line["message"], line["severity"]
		return line
	})
	log.Reset()
	logger := service.NewJSONLogger(&log, slog.LevelInfo, "p").With("a", 1).WithGroup("g").With("b", 2)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: 1}})
	logger.InfoContext(trace.ContextWithRemoteSpanContext(t.Context(), span), "in a group", "c", 3)
	line := lines(t, &log)[0]
	delete(line, "time")
	want := map[string]any{
		"severity": "INFO", "message": "in a group", "a": 1.0, "g": map[string]any{"b": 2.0, "c": 3.0},
		"logging.googleapis.com/trace": "projects/p/traces/00000000000000000000000000000001", "logging.googleapis.com/trace_sampled": false,
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

// A listenerAt is a listener that reports another address than its own.
type listenerAt struct {
	net.Listener
	ip net.IP
}

func (l listenerAt) Addr() net.Addr { return &net.TCPAddr{IP: l.ip, Port: 8080} }

// A server that checks no callers, and listens where other machines can connect, logs a
// warning.
func TestAServerOpenToAllWarns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ip   net.IP
		env  []string
		want bool
	}{
		{net.IPv4(127, 0, 0, 1), nil, false},
		{net.IPv6loopback, nil, false},
		{net.IPv4zero, nil, true},
		{net.IPv6zero, nil, true},
		{net.IPv4(192, 0, 2, 1), nil, true},
		{net.IPv4zero, []string{"AUTH", "oidc", "AUDIENCE", "https://x", "PUSH_CALLERS", "p@x", "FLUSH_CALLERS", "f@x"}, false},
	} {
		s, log := logged(t, slog.LevelInfo, "", tc.env...)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := s.Serve(ctx, listenerAt{listener, tc.ip}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "whoever can connect"); got != tc.want {
			t.Errorf("%v %q: it warns: %v\n%s", tc.ip, tc.env, got, log)
		}
	}
}
