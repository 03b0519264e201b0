package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/settings"
)

func TestDevShowsAWindowAsFinalOnceAndThenWhatComesLater(t *testing.T) {
	t.Parallel()
	s, err := settings.Load(map[string]string{"allowed-lateness": "0s"}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d := newDevRun(s, "http://127.0.0.1:8080", &out)
	minute := func(n int) time.Time { return time.Date(2026, time.March, 14, 2, n, 0, 0, time.UTC) }
	late := func(id string, at time.Time) { d.observe(event.Verdict{Status: event.Late, EventID: id, Window: at}) }
	flushed := func(at time.Time, windows ...flush.Window) { d.tellFlush(flush.Report{ReadTime: at, Windows: windows}) }
	said := func(want string) {
		t.Helper()
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		out.Reset()
	}

	late("1", minute(20))
	late("1", minute(20)) // the same event, delivered again
	late("2", minute(21)) // shown when its window is final
	flushed(minute(21).Add(20*time.Second), flush.Window{Start: minute(20), PageViews: 111, Final: true})
	said("02:21:20  final  02:20:00   111 page views, 1 late\n")
	flushed(minute(21).Add(30*time.Second), flush.Window{Start: minute(20), PageViews: 111, Final: true})
	said("") // after a redelivery nothing is shown
	if aside := d.takeAside(minute(21).Add(time.Minute)); aside != "" {
		t.Errorf("said %q, want nothing: the line of the window said it already", aside)
	}

	flushed(minute(22).Add(10*time.Second), flush.Window{Start: minute(20), PageViews: 112, Final: true})
	said("02:22:10  more   02:20:00   112 page views\n")
	for i := range 3 {
		late(strconv.Itoa(10+i), minute(20))
	}
	late("1", minute(20))
	late("20", minute(3)) // a window that has only late events
	d.observe(event.Verdict{Status: event.DeadLetter})
	if aside, want := d.takeAside(minute(23)), "; dead letters: 1; late since 02:22:00: 1 in 02:03:00, 3 in 02:20:00, 1 in 02:21:00"; aside != want {
		t.Errorf("said %q, want %q", aside, want)
	}
	if aside := d.takeAside(minute(24)); aside != "" {
		t.Errorf("said %q a second time", aside)
	}
}

// dev has a default of its own for ALLOWED_LATENESS. Its help must have this default both
// in the text and in the list of settings.
func TestDevHasOneDefaultOfTheLateness(t *testing.T) {
	t.Parallel()
	_, help, _ := runCommand(t, "dev", "--help")
	line := strings.Join(strings.Fields(regexp.MustCompile(`(?s) --allowed-lateness .*? --`).FindString(help)), " ")
	if !strings.Contains(help, "ALLOWED_LATENESS is 0s unless") || !strings.Contains(line, "(default 0s)") {
		t.Errorf("the help has another default than 0s: %q", line)
	}
}

// With --lag some events are late, and with redeliveries some windows are written again.
func TestDevShowsNoWindowTwiceAsFinal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lines := runDev(t, 4, "--data-dir", dir, "--lag", "--duplicates", "0.5", "--flush-quiet", "2s")
	late := queryTables(t, dir, "SELECT window_start, COUNT(*) FROM events WHERE is_late GROUP BY 1")
	final, total := map[string]bool{}, 0
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[1] != "final" {
			continue
		}
		if final[fields[2]] {
			t.Errorf("%s is shown as final twice:\n%s", fields[2], lines)
		}
		final[fields[2]] = true
		told, err := strconv.Atoi(fields[6])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		total += told
		for start, n := range late {
			if strings.Contains(start, "T"+fields[2]+".") && int64(told) > n {
				t.Errorf("%d late events are shown in %s, but the tables have only %d", told, start, n)
			}
		}
	}
	if total == 0 {
		t.Errorf("no late event was shown:\n%s", lines)
	}
}

// runDev runs dev with windows of one second until the given number of windows are final,
// and returns what it printed.
func runDev(t *testing.T, windows int, args ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"dev", "--port", "0", "--window-duration", "1s",
		"--flush-quiet", "0s", "--flush-interval", "1", "--rate", "6000", "--seed", "7"}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	giveUp := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer giveUp.Stop()

	var text strings.Builder
	final := 0
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "  final  ") {
			if final++; final == windows {
				_ = cmd.Process.Signal(os.Interrupt)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit on an interrupt: %v\n%s%s", err, &text, &stderr)
	}
	return text.String()
}

// A newcomer sees what will happen, then an open window, and then final windows.
func TestDevShowsWindowsAsTheyBecomeFinal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := runDev(t, 2, "--data-dir", dir, "--lag=false")
	for _, want := range []string{"counts page views per 1s", "it is due", "before the window's end", "one message in 200 is spoilt", "one message in 50 is delivered twice", "make a late event now", "/push/raw -d", " late", "Stopped."} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	windows := queryTables(t, dir, "SELECT timestamp, page_views FROM windowed_traffic WHERE is_final")
	if len(windows) < 2 {
		t.Errorf("final windows: %v", windows)
	}
	if differing := queryTables(t, dir, `
		SELECT w.timestamp, w.page_views FROM windowed_traffic AS w
		WHERE page_views > (SELECT COUNT(*) FROM events AS e WHERE e.window_start = w.timestamp AND NOT is_late)`); len(differing) != 0 {
		t.Errorf("windows with more page views than events: %v", differing)
	}
}

func TestGenerateActsAsPubSub(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir)
	code, _, log := runCommand(t, "generate", "--url", s.url+"/push", "--count", "50", "--rate", "60000", "--seed", "3", "--duplicates", "0.2", "--malformed", "0.1")
	if code != exitDone || !strings.Contains(log, "0 refused") {
		t.Errorf("exit code %d: %s", code, log)
	}
	stored := queryTables(t, dir, "SELECT message_id, 1 FROM raw UNION SELECT message_id, 1 FROM dead_letter")
	if len(stored) != 50 {
		t.Errorf("%d messages are stored, want 50", len(stored))
	}
	if err := s.stop(t, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// If the server is down, generate says so at the first message, and not only at the end.
func TestGenerateTellsAtOnceThatAServerIsDown(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "generate", "--url", "http://127.0.0.1:1/push", "--rate", "6000")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
	var said []string
	for lines := bufio.NewScanner(stderr); len(said) < 2 && lines.Scan(); {
		said = append(said, lines.Text())
	}
	_ = cmd.Process.Kill() // otherwise it would go on until the server is up
	_ = cmd.Wait()
	if want := ", attempt 1: no answer: connection refused: nothing listens on 127.0.0.1:1; trying again"; len(said) < 2 || !strings.HasSuffix(said[1], want) {
		t.Errorf("said %q, want %q", said, want)
	}
}

func TestAPrintedStreamOfASeedIsAlwaysTheSame(t *testing.T) {
	t.Parallel()
	printed := func() string {
		var out, log bytes.Buffer
		args := []string{"generate", "--stdout", "--seed", "7", "--count", "200", "--lag", "--malformed", "0.1", "--start", "2026-03-14T09:00:00Z"}
		if code := run(t.Context(), args, process{stdout: &out, stderr: &log}); code != exitDone {
			t.Fatalf("exit code %d: %s", code, &log)
		}
		return out.String()
	}
	first := printed()
	if strings.Count(first, "\n") != 200 || first != printed() {
		t.Errorf("%d lines; a second stream is the same: %v", strings.Count(first, "\n"), first == printed())
	}
}

// interruptAfter cancels the context when size bytes were written to it.
type interruptAfter struct {
	bytes.Buffer
	size      int
	interrupt context.CancelFunc
}

func (w *interruptAfter) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if w.Len() >= w.size {
		w.interrupt()
	}
	return n, err
}

func TestAnInterruptIsANormalEndOfAPrintedStream(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--count", "1000000", "--start", "2026-03-14T09:26:53Z"},
		{"--start", "2026-03-14T09:26:53Z"}, // an endless stream, printed as fast as possible
		{"--count", "9000000000000000000"},  // interrupted while the length of the stream is computed
		{"--rate", "60000"},                 // printed in real time
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		out, log := &interruptAfter{size: 100_000, interrupt: cancel}, new(bytes.Buffer)
		code := run(ctx, append([]string{"generate", "--stdout"}, args...), process{stdout: out, stderr: log})
		if text := out.String(); code != exitDone || text != "" && !strings.HasSuffix(text, "\n") {
			t.Errorf("%q: exit code %d after %d bytes, which end in %q\n%s", args, code, len(text), text[max(0, len(text)-20):], log)
		}
	}
}
