package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark-dev/tidemark/settings"
)

// If the directory is in use or the port is taken, the server must not create tables,
// must not listen, and must not say that it listens.
func TestAServerThatCannotServeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	inUse, fresh := t.TempDir(), t.TempDir()
	s := startServer(t, inUse)
	port := s.url[strings.LastIndex(s.url, ":")+1:]
	for _, command := range []string{"serve", "dev"} {
		for _, args := range [][]string{{"--data-dir", inUse, "--port", "0"}, {"--data-dir", fresh, "--port", port}} {
			code, out, log := runCommand(t, append([]string{command}, args...)...)
			if code != exitNo || out != "" || strings.Contains(log, "listening") {
				t.Errorf("%s %q: exit code %d, want %d, and that it does not listen\n%s%s", command, args, code, exitNo, out, log)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(fresh, "warehouse.db")); !os.IsNotExist(err) {
		t.Errorf("tables were created: %v", err)
	}
}

func TestADirectoryThatCannotBeWrittenIsNamed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root can write to every directory, and the test needs one that cannot be written to")
	}
	dir := t.TempDir()
	if err := startServer(t, dir).stop(t, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) }) // so that the test can remove it
	for _, args := range []string{"serve --port 0", "dev --port 0", "flush", "audit", "replay --from-table raw"} {
		code, _, log := runCommand(t, append(strings.Fields(args), "--data-dir", dir)...)
		if want := "data directory " + dir + " cannot be read and written by this user"; code != exitNo || !strings.Contains(log, want) {
			t.Errorf("%s: exit code %d, said %q, want %q", args, code, log, want)
		}
	}
	code, out, _ := runCommand(t, "check", "--data-dir", dir)
	if want := "problem  data directory " + dir + " cannot be written by this user"; code != exitNo || !strings.Contains(out, want) {
		t.Errorf("check: exit code %d, printed %q, want %q", code, out, want)
	}
}

// A log in JSON names the traces of requests if the project is known.
func TestTheLogNamesTracesOfTheProject(t *testing.T) {
	t.Parallel()
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: 1}}))
	for _, tc := range []struct {
		settings map[string]string
		want     bool
	}{
		{map[string]string{"google-cloud-project": "my-project"}, true},
		{map[string]string{"google-cloud-project": "my-project", "log-format": "text"}, false},
		{nil, false},
	} {
		s, err := settings.Load(tc.settings, func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		newLogger(process{stderr: &log}, s).InfoContext(ctx, "")
		if got := strings.Contains(log.String(), "projects/my-project/traces/00000000000000000000000000000001"); got != tc.want {
			t.Errorf("%v: the log has the trace: %v, want %v: %s", tc.settings, got, tc.want, log.String())
		}
	}
}
