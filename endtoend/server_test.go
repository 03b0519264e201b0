package endtoend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a test waits for something before it fails.
const patience = 3 * time.Minute

// build compiles the program and returns its path.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "tidemark")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "github.com/tidemark-dev/tidemark/cmd/tidemark")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, output)
	}
	for _, path := range sources(t) {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	return program
}

// sources returns the files and directories from which the program is built: the
// directories of its packages, the files embedded in them, and go.mod. build opens all of
// these, because the go command runs a cached test again only if a file or directory that
// the test itself opened has changed. It does not notice the files that the compiler
// opens.
func sources(t *testing.T) (paths []string) {
	t.Helper()
	const format = `{{if .Module}}{{if .Module.Main}}{{.Module.GoMod}}{{"\n"}}{{.Dir}}{{range .EmbedFiles}}{{"\n"}}{{$.Dir}}/{{.}}{{end}}{{end}}{{end}}`
	output, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", format, "github.com/tidemark-dev/tidemark/cmd/tidemark").Output()
	if err != nil {
		t.Fatalf("list the packages of the program: %v", err)
	}
	for line := range strings.Lines(string(output)) {
		if path := strings.TrimSpace(line); path != "" {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func TestThePackagesOfTheProgramAreItsSources(t *testing.T) {
	t.Parallel()
	paths := sources(t)
	for _, name := range []string{"go.mod", "cmd/tidemark", "flush", "internal/envelope", "warehouse/bigquerytables"} {
		path, err := filepath.Abs(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(paths, path) {
			t.Errorf("%s is not among the sources of the program: %q", path, paths)
		}
	}
}

// freePort returns a port that is free. A server must be able to use the same port again
// after a restart, so the port is not from the range from which the system takes ports
// for outgoing connections.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(20000 + rand.IntN(10000))
		if listener, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			listener.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// A server is a process of tidemark serve.
type server struct {
	url     string
	process *os.Process
	exited  chan struct{}
	log     bytes.Buffer // complete once the process has exited
	killed  atomic.Bool
	flushes sync.WaitGroup
}

// startServer starts the program and returns when it is healthy. The program's
// environment has nothing but the settings. If the test fails, the test's log has the
// server's log.
func startServer(t *testing.T, program, port string, settings map[string]string) *server {
	t.Helper()
	s := &server{url: "http://127.0.0.1:" + port, exited: make(chan struct{})}
	cmd := exec.Command(program, "serve", "--port", port)
	cmd.Env = []string{}
	for name, value := range settings {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.process = cmd.Process
	go func() {
		_ = cmd.Wait() // the error only says that the process was killed
		close(s.exited)
	}()
	t.Cleanup(func() {
		s.kill()
		s.flushes.Wait()
		if t.Failed() {
			t.Logf("the server of pid %d logged:\n%s", s.process.Pid, &s.log)
		}
	})
	waitFor(t, "the server to be healthy", func() bool {
		select {
		case <-s.exited:
			t.Fatal("the server ended before it was healthy")
		default:
		}
		response, err := http.Get(s.url + "/health")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return s
}

// kill ends the process as kill -9 does, if it still runs.
func (s *server) kill() {
	s.killed.Store(true)
	_ = s.process.Kill()
	<-s.exited
}

// waitFor polls until the condition is true.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at a real process
	}
}

// get sends a GET request, whose answer must have status 200, and returns its body.
func (s *server) get(t *testing.T, path string) []byte {
	t.Helper()
	response, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v %s", path, response.Status, err, body)
	}
	return body
}

var (
	queueLength = regexp.MustCompile(`(?m)^tidemark_queue_length (\d+)$`)
	writesBegun = regexp.MustCompile(`(?m)^tidemark_batch_rows_count{step="aggregate"} (\d+)$`)
	writesEnded = regexp.MustCompile(`(?m)^tidemark_commit_seconds_count{outcome="[a-z]+",step="aggregate"} (\d+)$`)
)

// sum returns the sum of a metric's values.
func sum(t *testing.T, metrics []byte, metric *regexp.Regexp) (total int) {
	t.Helper()
	found := metric.FindAllSubmatch(metrics, -1)
	if found == nil {
		t.Fatalf("no line of the metrics matches %s:\n%s", metric, metrics)
	}
	for _, line := range found {
		n, err := strconv.Atoi(string(line[1]))
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}

// pushesWait reports whether some pushes wait to be stored and answered.
func (s *server) pushesWait(t *testing.T) bool {
	t.Helper()
	return sum(t, s.get(t, "/metrics"), queueLength) > 0
}

// flushesWriting returns how many flushes are writing counts. The number may be one too
// high, since the two metrics are not read at the same instant.
func (s *server) flushesWriting(t *testing.T) int {
	t.Helper()
	metrics := s.get(t, "/metrics")
	return sum(t, metrics, writesBegun) - sum(t, metrics, writesEnded)
}

// schedule calls the flush as Cloud Scheduler does: the given number of calls at the same
// time. It does not wait for the answers. The function that it returns waits, and returns
// how many calls were answered. A flush that failed in part is no error here, since the
// next flush repeats that part.
func (s *server) schedule(t *testing.T, calls int) (wait func() (answered int)) {
	var count atomic.Int64
	var called sync.WaitGroup
	for range calls {
		called.Add(1)
		s.flushes.Go(func() {
			defer called.Done()
			_, err := s.flush(context.Background())
			switch {
			case err == nil:
				count.Add(1)
			case errors.Is(err, errPartly):
				count.Add(1)
				t.Log(err)
			case !s.killed.Load():
				t.Error(err)
			}
		})
	}
	return func() int {
		called.Wait()
		return int(count.Load())
	}
}

// killFlushing starts two flushes and kills the server while both write counts. It
// reports whether this happened: both had begun to write, and neither was answered. If
// there was nothing to write, or the writing ended before the metrics showed it, the
// server is left alive. The caller then tries again.
func (s *server) killFlushing(t *testing.T) bool {
	t.Helper()
	const calls = 2
	s.flushes.Wait() // so that no other flush is counted as writing
	wait := s.schedule(t, calls)
	answered := make(chan int, 1)
	go func() { answered <- wait() }()
	for {
		select {
		case <-answered:
			return false
		default:
		}
		if s.flushesWriting(t) == calls {
			s.kill()
			return <-answered == 0
		}
	}
}

// A flushReport is the answer to POST /flush.
type flushReport struct {
	Windows         []any
	Held, Remaining int
}

// errPartly is wrapped by the error of a flush that failed in part. This can happen if
// the emulator is slow, and the next flush repeats that part.
var errPartly = errors.New("a flush failed in part")

func (s *server) flush(ctx context.Context) (report flushReport, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/flush", nil)
	if err != nil {
		return report, err
	}
	request.Header.Set("User-Agent", "Google-Cloud-Scheduler")
	request.Header.Set("X-CloudScheduler", "true")
	request.Header.Set("X-CloudScheduler-JobName", "tidemark-flush")
	request.Header.Set("X-CloudScheduler-ScheduleTime", time.Now().UTC().Format(time.RFC3339))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return report, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return report, err
	case response.StatusCode == http.StatusServiceUnavailable:
		return report, fmt.Errorf("%w: %s", errPartly, body)
	case response.StatusCode != http.StatusOK:
		return report, fmt.Errorf("POST /flush: %s: %s", response.Status, body)
	}
	return report, json.Unmarshal(body, &report)
}

// An auditReport is the answer to GET /audit.
type auditReport struct {
	Waiting, Lower, Higher []any
	More                   bool
}

func (s *server) audit(t *testing.T) (report auditReport) {
	t.Helper()
	body := s.get(t, "/audit")
	if err := json.Unmarshal(body, &report); err != nil {
		t.Fatalf("GET /audit: %v: %s", err, body)
	}
	return report
}
