package tidemark

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// functionPort is an environment variable. If it is set, the test binary runs as a
// function that listens on this port.
const functionPort = "TEST_FUNCTION_PORT"

func init() {
	if port := os.Getenv(functionPort); port != "" {
		panic(funcframework.StartHostPort("127.0.0.1", port))
	}
}

// A function takes pushes and flushes through the Functions Framework, as a service does.
func TestAFunctionPushesAndFlushes(t *testing.T) {
	t.Parallel()
	url := startFunction(t, "DATA_DIR="+t.TempDir(), "FLUSH_QUIET=0")
	event := `{"ip": "192.0.2.1", "user_id": "1", "timestamp": "2026-03-14T09:26:53.589793Z", "http_request": "", "http_response": 200, "num_bytes": 1, "user_agent": ""}`
	if code, body := postAt(t, url+"/push/raw", event); code != http.StatusOK || !strings.Contains(body, `"status":"late"`) {
		t.Errorf("an old event without a publish time: %d %s, want 200 and late", code, body)
	}
	if code, body := postAt(t, url+"/push/raw", "no event"); code != http.StatusOK || !strings.Contains(body, `"bad_json"`) {
		t.Errorf("a message that is no event: %d %s, want 200 and the reason", code, body)
	}
	if code, body := postAt(t, url+"/flush", ""); code != http.StatusOK || !strings.Contains(body, `"windows":[]`) {
		t.Errorf("flush: %d %s, want 200 and no window", code, body)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/push/raw", strings.NewReader(event))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Goog-Pubsub-Publish-Time", "2026-03-14T09:26:54Z")
	if code, body := answered(t, request); code != http.StatusOK || !strings.Contains(body, `"status":"counted"`) {
		t.Errorf("the event in time: %d %s, want 200 and counted", code, body)
	}
	if code, body := postAt(t, url+"/flush", ""); code != http.StatusOK || !strings.Contains(body, `"page_views":1,"is_final":true`) {
		t.Errorf("flush: %d %s, want the window", code, body)
	}
}

// A function with bad settings acknowledges nothing.
func TestAFunctionWithBadSettingsAnswersAnError(t *testing.T) {
	t.Parallel()
	url := startFunction(t, "WINDOW_DURATION=7s")
	want := `{"error":{"status":"INTERNAL","message":"the function cannot start; its log says why"}}` + "\n"
	if code, body := postAt(t, url+"/push/raw", "no event"); code != http.StatusInternalServerError || body != want {
		t.Errorf("%d %s, want 500 %s", code, body, want)
	}
}

// logLines counts the lines of a log by their message. It also checks that the line
// "starting" has the settings.
func logLines(t *testing.T, log *bytes.Buffer) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for text := range strings.Lines(log.String()) {
		var line struct {
			Message  string
			Settings map[string]string
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if line.Message == "starting" && line.Settings["PIPELINE"] != "minute-traffic" {
			t.Errorf("the settings are %v", line.Settings)
		}
		counts[line.Message]++
	}
	return counts
}

// health sends a function a request for /health and returns the status of the answer.
func health(f *function) int {
	answer := httptest.NewRecorder()
	f.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/health", nil))
	return answer.Code
}

// A function that could not start tries again with the next request, since the cause may
// have gone.
func TestAFunctionThatCouldNotStartTriesAgain(t *testing.T) {
	t.Parallel()
	taken := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	environment := map[string]string{"DATA_DIR": filepath.Join(taken, "data")}
	f := &function{stderr: &log, lookup: func(name string) (string, bool) { value, ok := environment[name]; return value, ok }}
	for range 2 {
		if code := health(f); code != http.StatusInternalServerError {
			t.Errorf("without its data directory: %d, want 500", code)
		}
	}
	if diff := cmp.Diff(map[string]int{"starting": 1, "the function cannot start": 2}, logLines(t, &log)); diff != "" {
		t.Errorf("lines by message (-want +got):\n%s", diff)
	}
	if err := os.Remove(taken); err != nil {
		t.Fatal(err)
	}
	services := make([]*service.Service, 16)
	var wg sync.WaitGroup
	for i := range services {
		wg.Go(func() { services[i], _ = f.start() })
	}
	wg.Wait()
	for _, service := range services {
		if service == nil || service != services[0] {
			t.Fatalf("services %p, want one", services)
		}
	}
	defer services[0].Close(context.WithoutCancel(t.Context()))
	if code := health(f); code != http.StatusOK {
		t.Errorf("once the data directory can be made: %d, want 200", code)
	}
}

// Settings do not change while a process runs. So a function whose settings are bad does
// not try to start again.
func TestAFunctionReadsItsSettingsOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	looks := 0
	f := &function{stderr: &log, lookup: func(name string) (string, bool) {
		looks++
		if name == "WINDOW_DURATION" {
			return "7s", true
		}
		return "", false
	}}
	health(f)
	once := looks
	if code := health(f); code != http.StatusInternalServerError || looks != once {
		t.Errorf("%d, and %d settings were read after %d, want 500 and no more settings read", code, looks-once, once)
	}
	if diff := cmp.Diff(map[string]int{"starting": 1, "the function cannot start": 1}, logLines(t, &log)); diff != "" {
		t.Errorf("lines by message (-want +got):\n%s", diff)
	}
}

// startFunction runs a function in a separate process and returns its URL.
func startFunction(t *testing.T, env ...string) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(host)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, functionPort+"="+port, "FUNCTION_TARGET="+FunctionTarget)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; {
		connection, err := net.Dial("tcp", host)
		if err == nil {
			connection.Close()
			return "http://" + host
		}
		if time.Now().After(deadline) {
			t.Fatalf("the function does not listen: %v", err)
		}
	}
}

func postAt(t *testing.T, url, body string) (code int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return answered(t, request)
}

func answered(t *testing.T, request *http.Request) (code int, body string) {
	t.Helper()
	return answeredBy(t, http.DefaultClient, request)
}

func answeredBy(t *testing.T, client *http.Client, request *http.Request) (code int, body string) {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// Cloud Run may speak HTTP/2 without TLS to a container. Every request reaches the
// handler: the server answers none by itself.
func TestTheServerSpeaksHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	settings, err := settings.Load(map[string]string{"data-dir": t.TempDir()}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	service, err := service.New(t.Context(), settings, service.NewJSONLogger(io.Discard, 0, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close(context.WithoutCancel(t.Context()))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- service.Serve(ctx, listener) }()
	for _, major := range []int{1, 2} {
		var protocols http.Protocols
		protocols.SetHTTP1(major == 1)
		protocols.SetUnencryptedHTTP2(major == 2)
		transport := &http.Transport{Protocols: &protocols}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+"/health", nil)
		if err != nil {
			t.Fatal(err)
		}
		if code, body := answeredBy(t, &http.Client{Transport: transport}, request); code != http.StatusOK {
			t.Errorf("HTTP/%d: %d %s, want 200", major, code, body)
		}
	}
	// OPTIONS * is about the server as a whole and has no route.
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	io.WriteString(connection, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("OPTIONS *: %s, want 404", response.Status)
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
