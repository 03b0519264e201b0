package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeFile writes the text to a new file and returns its path.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEachOfThreeEqualLinesIsCountedAndNoneASecondTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir, "--flush-quiet", "0s")
	const event = `{"ip": "198.51.100.23", "user_id": "1", "timestamp": "2026-03-14T09:26:53.589793Z", "http_request": "", "http_response": 200, "num_bytes": 1, "user_agent": ""}` + "\n"
	path := writeFile(t, strings.Repeat(event, 3))
	for range 2 {
		if code, out, log := runCommand(t, "replay", "--url", s.url+"/push", path); code != exitDone || !strings.Contains(out, "3 counted") {
			t.Fatalf("exit code %d: %s%s", code, out, log)
		}
	}
	flushURL(t, s)
	want := map[string]int64{"2026-03-14T09:26:00.000000Z": 3}
	if diff := cmp.Diff(want, queryTables(t, dir, "SELECT timestamp, page_views FROM windowed_traffic")); diff != "" {
		t.Errorf("windows (-want +got):\n%s", diff)
	}
}

// If a file has no events, replay stops and leaves no dead letters, unless --anyway is
// given.
func TestReplayStopsAtAFileThatHoldsNoEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir)
	for _, line := range []string{"127.0.0.1 - - GET /\n", `{"level": "info", "message": "not an event"}` + "\n"} {
		path := writeFile(t, strings.Repeat(line, 375))
		code, out, log := runCommand(t, "replay", "--url", s.url+"/push", path)
		if code != exitNo || out != "" || !strings.Contains(log, "none of the first 100 lines is a push body or an event, so nothing was sent") {
			t.Errorf("exit code %d, printed %q, said %q", code, out, log)
		}
		if stored := queryTables(t, dir, "SELECT message_id, 1 FROM dead_letter"); len(stored) != 0 {
			t.Errorf("%d dead letters are stored", len(stored))
		}
	}
	if code, out, log := runCommand(t, "replay", "--anyway", "--url", s.url+"/push", writeFile(t, "no event\n")); code != exitDone || !strings.Contains(out, "1 dead_letter") {
		t.Errorf("with --anyway: exit code %d, printed %q, said %q", code, out, log)
	}
}

func TestACommandThatAsksAServerThatIsDownSaysSo(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"flush", "audit"} {
		code, _, log := runCommand(t, command, "--url", "http://127.0.0.1:1")
		want := "tidemark " + command + ": http://127.0.0.1:1/" + command + " gives no answer: connection refused: nothing listens on 127.0.0.1:1\n"
		if code != exitNo || log != want {
			t.Errorf("exit code %d, said %q, want %q", code, log, want)
		}
	}
}

func TestReplayIntoAServerThatIsDownEnds(t *testing.T) {
	t.Parallel()
	code, out, log := runCommand(t, "replay", "--give-up-after", "1ms", "--url", "http://127.0.0.1:1/push", "../../docs/example.push.jsonl")
	if code != exitNo || !strings.Contains(log, "connection refused: nothing listens on 127.0.0.1:1") || !strings.Contains(log, "no line was acknowledged for 1ms") {
		t.Errorf("exit code %d, printed %q, said %q", code, out, log)
	}
}

// The messages have no publish time, so they are published when the server receives them.
// Only an event whose time was moved to now is not late.
func TestReplayShiftsTheTimeThatSettingsAndPipelineFileName(t *testing.T) {
	t.Parallel()
	const file = `
name: orders
event:
  time: created_at
  fields:
    - {name: created_at, type: TIMESTAMP, mode: REQUIRED, from: order.created, format: unix_ms}
aggregate:
  columns:
    - {name: orders, count: true}
`
	// The data is {"order":{"created":1773480413589}}.
	const message = `{"message": {"messageId": "1", "attributes": {"sent": "1773480413589"}, "data": "eyJvcmRlciI6eyJjcmVhdGVkIjoxNzczNDgwNDEzNTg5fX0="}}` + "\n"
	for _, eventTime := range []string{"payload", "attribute:sent"} {
		settings := []string{"--pipeline-file", file, "--event-time", eventTime}
		s := startServer(t, t.TempDir(), settings...)
		for _, test := range []struct {
			flags []string
			want  string
		}{
			{nil, "verdicts          1 late\n"},
			{[]string{"--shift-to", "now"}, "verdicts          1 counted"},
		} {
			args := slices.Concat([]string{"replay", "--url", s.url + "/push"}, settings, test.flags, []string{writeFile(t, message)})
			if code, out, log := runCommand(t, args...); code != exitDone || !strings.Contains(out, test.want) {
				t.Errorf("%s: exit code %d, want %q: %s%s", args, code, test.want, out, log)
			}
		}
	}
}
