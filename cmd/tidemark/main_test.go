package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"

	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/test/emulator"
	"github.com/tidemark-dev/tidemark/internal/test/membigquery"
	"github.com/tidemark-dev/tidemark/internal/test/testlog"
)

// asProgram is an environment variable. If it is set, the test binary runs as the program
// itself. So a test can start the program as a process and kill it.
const asProgram = "TIDEMARK_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A server is a process that runs tidemark serve.
type server struct {
	url     string
	process *exec.Cmd
	exited  chan error
	log     *bytes.Buffer // complete once the process has exited
}

// patience is how long a test waits for a process before the test fails.
const patience = 30 * time.Second

// startServer starts a server on a free port. It returns when the server listens.
func startServer(t *testing.T, dir string, flags ...string) *server {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"serve", "--port", "0", "--data-dir", dir, "--log-format", "json"}, flags...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{process: cmd, exited: make(chan error, 1), log: new(bytes.Buffer)}
	listening := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(s.log, lines.Text())
			var line struct{ Message, URL string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Message == "listening" {
				listening <- line.URL
			}
		}
		s.exited <- cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has usually exited before
	select {
	case s.url = <-listening:
	case err := <-s.exited:
		t.Fatalf("the server ended before it listened: %v\n%s", err, s.log)
	case <-time.After(patience):
		t.Fatal("the server does not listen")
	}
	return s
}

// stop sends the signal to the process and waits until the process has ended.
func (s *server) stop(t *testing.T, signal syscall.Signal) error {
	t.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	return s.wait(t)
}

// wait waits until the process has ended.
func (s *server) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.exited:
		return err
	case <-time.After(patience):
		t.Fatal("the server does not end")
		return nil
	}
}

// push returns the status of a push, or an error if there was no answer.
func (s *server) push(client *http.Client, body []byte) (int, error) {
	response, err := client.Post(s.url+"/push", "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// flushURL flushes a server until no window is left. One run may not be enough, since a
// run ends when its time is up, which can happen on a slow machine.
func flushURL(t *testing.T, s *server) {
	t.Helper()
	for {
		code, out, log := runCommand(t, "flush", "--url", s.url)
		if code != exitDone {
			t.Fatalf("flush --url exits with %d: %s%s", code, out, log)
		}
		var report struct {
			Windows   []any
			Remaining int
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("flush --url prints %s: %v", out, err)
		}
		if report.Remaining == 0 {
			return
		}
		if len(report.Windows) == 0 {
			t.Fatalf("a flush published nothing and left %d windows", report.Remaining)
		}
	}
}

// openTables opens the tables of a data directory, which may not exist yet.
func openTables(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "warehouse.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func queryTables(t *testing.T, dir, query string) map[string]int64 {
	t.Helper()
	return queryDB(t, openTables(t, dir), query)
}

func queryDB(t *testing.T, tables *sql.DB, query string) map[string]int64 {
	t.Helper()
	rows, err := tables.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	result := map[string]int64{}
	for rows.Next() {
		var key string
		var value int64
		if err := rows.Scan(&key, &value); err != nil {
			t.Fatal(err)
		}
		result[key] = value
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return result
}

func messageID(t *testing.T, body []byte) string {
	t.Helper()
	m, err := envelope.Decode(bytes.Clone(body), time.Time{})
	if err != nil {
		t.Error(err)
	}
	return m.ID
}

func TestKilledInTheMiddleOfALogNothingAcknowledgedIsMissing(t *testing.T) {
	t.Parallel()
	t.Run("counters in SQLite", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		killInTheMiddle(t, dir, openTables(t, dir), "--flush-quiet", "0s")
	})
	t.Run("counters in Firestore", func(t *testing.T) {
		t.Parallel()
		bigQuery := membigquery.New(t)
		rest, grpc := bigQuery.Start(t)
		killInTheMiddle(t, t.TempDir(), bigQuery.DB(), "--flush-quiet", "0s", "--commit-interval", "1ms", "--counter-retention", "400000h",
			"--backend", "gcp", "--google-cloud-project", emulator.Project(), "--firestore-emulator-host", emulator.Firestore(t),
			"--bigquery-emulator-host", rest, "--bigquery-storage-emulator-host", grpc)
	})
}

func killInTheMiddle(t *testing.T, dir string, tables *sql.DB, flags ...string) {
	t.Helper()
	traffic := testlog.Traffic(t)
	s := startServer(t, dir, flags...)

	// The process is killed after a good part of the messages was acknowledged, while
	// some pushes are open.
	var acknowledged sync.Map
	var n atomic.Int64
	var wg sync.WaitGroup
	bodies := make(chan []byte)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for range 16 {
		wg.Go(func() {
			for body := range bodies {
				code, err := s.push(client, body)
				if err == nil && code == http.StatusOK {
					acknowledged.Store(messageID(t, body), true)
					if n.Add(1) == 3000 {
						_ = s.process.Process.Kill()
					}
				}
			}
		})
	}
	for _, body := range traffic {
		bodies <- body
	}
	close(bodies)
	wg.Wait()
	<-s.exited

	s = startServer(t, dir, flags...)
	stored := queryDB(t, tables, "SELECT message_id, 1 FROM raw UNION SELECT message_id, 1 FROM dead_letter")
	acknowledged.Range(func(id, _ any) bool {
		if stored[id.(string)] == 0 {
			t.Errorf("message %s was acknowledged and is not stored", id)
		}
		return true
	})
	if n.Load() < 3000 || len(stored) == testlog.Messages {
		t.Fatalf("the process was not killed in the middle: %d acknowledged, %d stored", n.Load(), len(stored))
	}

	// Acknowledged messages are not sent again, since Pub/Sub would not send them again.
	// So what was counted before the kill must still be counted.
	bodies = make(chan []byte)
	for range 16 {
		wg.Go(func() {
			for body := range bodies {
				if code, err := s.push(client, body); err != nil || code != http.StatusOK {
					t.Errorf("push after the restart: %d, %v", code, err)
				}
			}
		})
	}
	for _, body := range traffic {
		if _, done := acknowledged.Load(messageID(t, body)); !done {
			bodies <- body
		}
	}
	close(bodies)
	wg.Wait()
	flushURL(t, s)
	if diff := cmp.Diff(testlog.TrafficWindows(t), queryDB(t, tables, "SELECT timestamp, page_views FROM windowed_traffic")); diff != "" {
		t.Errorf("windows (-want +got):\n%s", diff)
	}
	if err := s.stop(t, syscall.SIGTERM); err != nil {
		t.Errorf("exit on SIGTERM: %v", err)
	}
}

func TestOnSIGTERMWhatWasAcceptedIsStoredAndAnswered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir)
	body := testlog.Traffic(t)[0]
	address := strings.TrimPrefix(s.url, "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The server asks for the body when it has accepted the request.
	fmt.Fprintf(conn, "POST /push HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", address, len(body))
	answers := bufio.NewReader(conn)
	if response, err := http.ReadResponse(answers, nil); err != nil || response.StatusCode != http.StatusContinue {
		t.Fatalf("before the body: %v, %v", response, err)
	}
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the server to stop listening", func() bool {
		other, err := net.Dial("tcp", address)
		if err == nil {
			other.Close()
		}
		return err != nil
	})
	if _, err := conn.Write(body); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(answers, nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("after the body: %v, %v", response, err)
	}
	if err := s.wait(t); err != nil {
		t.Errorf("exit on SIGTERM: %v\n%s", err, s.log)
	}
	if stored := queryTables(t, dir, "SELECT message_id, 1 FROM raw"); stored[messageID(t, body)] != 1 {
		t.Errorf("the message that was acknowledged is not stored: %v", stored)
	}
}

// waitFor polls until the condition is true.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at a real process
	}
}

func TestAThousandPushesAtOnceAreCountedInBoundedMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir, "--flush-quiet", "0s")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			body := fmt.Sprintf(`{"message": {"messageId": "%d", "publishTime": "2026-03-14T09:26:53.713Z", "data": "eyJpcCI6ICIxOTguNTEuMTAwLjIzIiwgInVzZXJfaWQiOiAiMSIsICJ0aW1lc3RhbXAiOiAiMjAyNi0wMy0xNFQwOToyNjo1MloiLCAiaHR0cF9yZXF1ZXN0IjogIiIsICJodHRwX3Jlc3BvbnNlIjogMjAwLCAibnVtX2J5dGVzIjogMSwgInVzZXJfYWdlbnQiOiAiIn0="}}`, i)
			if code, err := s.push(client, []byte(body)); err != nil || code != http.StatusOK {
				t.Errorf("push: %d, %v", code, err)
			}
		})
	}
	wg.Wait()
	flushURL(t, s)
	want := map[string]int64{"2026-03-14T09:26:00.000000Z": 1000}
	if diff := cmp.Diff(want, queryTables(t, dir, "SELECT timestamp, page_views FROM windowed_traffic")); diff != "" {
		t.Errorf("windows (-want +got):\n%s", diff)
	}
	if peak, ok := peakMemory(t, s.process.Process.Pid); ok && peak > 150<<20 && !raceEnabled {
		t.Errorf("peak memory is %d MB, want at most 150", peak>>20)
	}
}

// peakMemory returns the greatest resident size of a process in bytes. It returns false
// if the system does not report it.
func peakMemory(t *testing.T, pid int) (int64, bool) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Logf("memory is not checked: %v", err)
		return 0, false
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10, true
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	inUse := t.TempDir()
	s := startServer(t, inUse)
	textFile := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(textFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	port := s.url[strings.LastIndex(s.url, ":")+1:]
	for _, tc := range []struct {
		args []string
		env  map[string]string
		code int
		says []string // texts on standard error
	}{
		{[]string{"version"}, nil, exitDone, nil},
		{[]string{"--help"}, nil, exitDone, nil},
		{[]string{"nonsense"}, nil, exitUsage, []string{`unknown command "nonsense"`}},
		{[]string{"help"}, nil, exitDone, nil},
		{[]string{"help", "serve"}, nil, exitDone, nil},
		{[]string{"help", "nonsense"}, nil, exitUsage, []string{`"nonsense"`}},
		{[]string{"help", "serve", "extra"}, nil, exitUsage, []string{"extra"}},
		{[]string{"serve", "--no-such-flag"}, nil, exitUsage, []string{"--no-such-flag"}},
		{[]string{"serve", "extra"}, nil, exitUsage, []string{"extra"}},
		{[]string{"serve", "--window-duration", "7s", "--port", "http"}, map[string]string{"EMIT": "often"}, exitUsage,
			[]string{"7s", `--port="http"`, `EMIT="often"`}},
		{[]string{"serve"}, map[string]string{"K_SERVICE": "tidemark"}, exitUsage, []string{"AUTH=iam", "BACKEND=gcp"}},
		{[]string{"serve", "--data-dir", inUse, "--port", "0"}, nil, exitNo, []string{"another tidemark server", "DATA_DIR"}},
		{[]string{"flush", "--data-dir", inUse}, nil, exitDone, nil}, // while a server runs on the directory
		{[]string{"flush", "--url", "nowhere"}, nil, exitUsage, []string{"nowhere"}},
		{[]string{"flush", "--data-dir", t.TempDir()}, nil, exitNo, []string{"nothing is stored in", "DATA_DIR"}},
		{[]string{"flush", "--url", s.url + "/audit"}, nil, exitUsage, []string{"another route than /flush"}},
		{[]string{"flush", "--url", s.url + "/push/raw"}, nil, exitUsage, []string{"another route than /flush"}},
		{[]string{"flush", "--url", s.url + "/base"}, nil, exitNo, []string{"404 Not Found", "no such path"}},
		{[]string{"flush", "--url", s.url}, nil, exitDone, nil},
		{[]string{"flush", "--url", s.url + "/flush"}, nil, exitDone, nil},
		{[]string{"flush", "--url", "http://127.0.0.1:1"}, nil, exitNo, []string{"refused"}},
		{[]string{"serve", "--data-dir", filepath.Join(t.TempDir(), "d"), "--port", port}, nil, exitNo, []string{"port " + port + " is in use"}},
		{[]string{"replay", filepath.Join(inUse, "no such file")}, nil, exitNo, []string{"no such file"}},
		{[]string{"replay"}, nil, exitUsage, []string{"--from-table"}},
		{[]string{"flush", "--data-dir", filepath.Join(t.TempDir(), "typo")}, nil, exitNo, []string{"DATA_DIR", "typo"}},
		{[]string{"serve", "--data-dir", filepath.Join(textFile, "d")}, nil, exitNo, []string{"data directory", textFile}},
		{[]string{"serve", "--no-such-flag"}, map[string]string{"EMIT": "often"}, exitUsage, []string{"--no-such-flag", `EMIT="often"`}},
		{[]string{"generate"}, nil, exitUsage, []string{"one of --url, --topic and --stdout"}},
		{[]string{"generate", "--stdout", "--topic", "projects/my-project/topics/my-topic"}, nil, exitUsage, []string{"one of --url, --topic and --stdout"}},
		{[]string{"generate", "--url", "http://127.0.0.1:1/push", "--topic", "projects/my-project/topics/my-topic"}, nil, exitUsage, []string{"one of --url, --topic and --stdout"}},
		{[]string{"generate", "--topic", "my-topic"}, nil, exitUsage, []string{`--topic="my-topic"`, "projects/my-project/topics/my-topic"}},
		{[]string{"generate", "--topic", "my-topic", "--pubsub-emulator-host", "localhost"}, nil, exitUsage, []string{`--topic="my-topic"`, `--pubsub-emulator-host="localhost"`, "host:port"}},
		{[]string{"generate", "--topic", "my-topic"}, map[string]string{"PUBSUB_EMULATOR_HOST": "localhost"}, exitUsage, []string{`PUBSUB_EMULATOR_HOST="localhost"`}},
		{[]string{"generate", "--topic", "projects/my-project/topics/my/topic"}, nil, exitUsage, []string{"my/topic"}},
		{[]string{"generate", "--topic", "projects/my-project/topics/t"}, nil, exitUsage, []string{"topics/t"}},
		{[]string{"generate", "--topic", "projects/my-project/topics/my-topic", "--start", "2026-03-14T09:26:53Z"}, nil, exitUsage, []string{"--start goes with --stdout"}},
		{[]string{"generate", "--stdout", "--malformed", "2", "--users", "0"}, nil, exitUsage, []string{"malformed is 2", "users is 0"}},
		{[]string{"generate", "--stdout", "--duration", "1e1"}, nil, exitUsage, []string{"in seconds, as 90 or 1.5"}},
		{[]string{"generate", "--stdout", "--duration", "0.1"}, nil, exitDone, nil},
		{[]string{"generate", "--start", "2026-03-14T09:26:53Z", "--url", "http://127.0.0.1:1/push"}, nil, exitUsage, []string{"--start goes with --stdout"}},
		{[]string{"generate", "--start", "soon", "--stdout"}, nil, exitUsage, []string{`--start: "soon"`}},
		{[]string{"generate", "--start", "9999-12-31T23:59:59Z", "--stdout"}, nil, exitUsage, []string{"year 9999"}},
		{[]string{"dev", "--flush-interval", "0s"}, nil, exitUsage, []string{"--flush-interval"}},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			env := maps.Clone(tc.env)
			var out, log bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			code := run(ctx, tc.args, process{
				stdin: strings.NewReader(""), stdout: &out, stderr: &log,
				lookup: func(name string) (string, bool) { value, ok := env[name]; return value, ok },
			})
			if code != tc.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, tc.code, &out, &log)
			}
			for _, text := range tc.says {
				if !strings.Contains(log.String(), text) {
					t.Errorf("it does not say %q:\n%s", text, &log)
				}
			}
		})
	}
}
