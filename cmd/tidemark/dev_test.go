package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A newcomer sees what will happen, an open window, and final ones.
func TestDevTellsOfWindowsAsTheyBecomeFinal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "dev", "--data-dir", dir, "--port", "0", "--window-duration", "1s", "--allowed-lateness", "0s",
		"--flush-quiet", "0s", "--flush-interval", "1s", "--rate", "6000", "--lag=false", "--seed", "7")
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
			if final++; final == 2 {
				_ = cmd.Process.Signal(os.Interrupt)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit on an interrupt: %v\n%s%s", err, &text, &stderr)
	}
	for _, want := range []string{"counts page views per 1s", "it is due", "/push/raw -d", "page views, 0 late", "Stopped."} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("nothing said of %q:\n%s", want, &text)
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
	var out, log bytes.Buffer
	code := run(t.Context(), []string{"generate", "--url", s.url + "/push", "--count", "50", "--rate", "60000", "--seed", "3", "--duplicates", "0.2", "--malformed", "0.1"},
		process{stdout: &out, stderr: &log})
	if code != exitDone || !strings.Contains(log.String(), "0 refused") {
		t.Errorf("exit code %d: %s", code, &log)
	}
	stored := queryTables(t, dir, "SELECT message_id, 1 FROM raw UNION SELECT message_id, 1 FROM dead_letter")
	if len(stored) != 50 {
		t.Errorf("%d messages are stored, want 50", len(stored))
	}
	if err := s.stop(t, syscall.SIGTERM); err != nil {
		t.Error(err)
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
		t.Errorf("%d lines, the same again: %v", strings.Count(first, "\n"), first == printed())
	}
}
