package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// runCommand runs a command with an empty environment.
func runCommand(t *testing.T, args ...string) (code int, out, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code = run(ctx, args, process{
		stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr,
		lookup: func(string) (string, bool) { return "", false },
	})
	return code, stdout.String(), stderr.String()
}

// ahead returns the push body of an event whose time is ten minutes after its publish
// time.
func ahead(id string) []byte {
	return envelope.Encode(event.Message{
		ID:          id,
		PublishTime: time.Date(2026, time.March, 14, 9, 26, 53, 0, time.UTC),
		Data: []byte(`{"ip": "198.51.100.23", "user_id": "1", "timestamp": "2026-03-14T09:36:53Z", ` +
			`"http_request": "", "http_response": 200, "num_bytes": 1, "user_agent": ""}`),
	})
}

func TestStoredMessagesAreReplayedBesideARunningServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir)
	for _, id := range []string{"1", "2", "3"} {
		if code, err := s.push(http.DefaultClient, ahead(id)); err != nil || code != http.StatusOK {
			t.Fatalf("push: %d, %v", code, err)
		}
	}
	replay := func(want string, args ...string) {
		t.Helper()
		args = append([]string{"replay", "--data-dir", dir, "--url", s.url + "/push"}, args...)
		code, out, log := runCommand(t, args...)
		if code != exitDone || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("%q: exit code %d, want %q\n%s%s", args, code, want, out, log)
		}
	}
	replay("verdicts 3 dead_letter dead letters 3 too_far_ahead", "--from-table", "dead_letter")
	replay("lines 0", "--from-table", "raw")

	if err := s.stop(t, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s = startServer(t, dir, "--max-clock-skew", "1h", "--flush-quiet", "0s")
	replay("lines 0", "--from-table", "dead_letter", "--to", "2026-03-14T09:26:53Z")
	replay("lines 0", "--from-table", "dead_letter", "--from", "2999-03-14T09:26:53Z")
	for range 2 {
		replay("verdicts 3 counted", "--from-table", "dead_letter", "--from", "2026-03-14T09:26:53Z", "--to", "2999-03-14T09:26:53Z")
	}
	replay("verdicts 3 counted", "--from-table", "raw")
	// With other settings than the pipeline's, the stored rows would become other
	// messages, and then dead letters.
	for setting, value := range map[string]string{"EVENT_ID": "attribute:id", "EVENT_TIME": "publish"} {
		flag := "--" + strings.ReplaceAll(strings.ToLower(setting), "_", "-")
		code, out, log := runCommand(t, "replay", "--from-table", "raw", "--data-dir", dir, "--url", s.url+"/push", flag, value)
		if code != exitNo || !strings.Contains(log, setting+" is ") || !strings.Contains(log, "on record and "+value) || out != "" {
			t.Errorf("%s=%s: exit code %d, want it refused\n%s%s", setting, value, code, out, log)
		}
	}
	flushURL(t, s)
	want := map[string]int64{"2026-03-14T09:36:00.000000Z": 3}
	if diff := cmp.Diff(want, queryTables(t, dir, "SELECT timestamp, page_views FROM windowed_traffic")); diff != "" {
		t.Errorf("windows (-want +got):\n%s", diff)
	}

	// If its times are moved to now, each stored event is counted in another window, with
	// the same id.
	replay("verdicts 3 counted", "--from-table", "raw", "--shift-to", "now")
	if n := queryTables(t, dir, "SELECT message_id, COUNT(DISTINCT window_start) FROM raw GROUP BY 1"); n["1"] != 2 {
		t.Errorf("windows by message %v, want 2 each", n)
	}
}

// The dead letter of an unwrapped push has all of the request's headers as attributes.
// These may be more than a Pub/Sub message can have.
func TestADeadLetterOfManyHeadersIsReplayed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir, "--event-id", "attribute:order_id")
	m, err := envelope.Decode(ahead("1"), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/push/raw", bytes.NewReader(m.Data))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Goog-Pubsub-Publish-Time", event.FormatTime(m.PublishTime))
	r.Header.Set("Order_ID", "A-1")
	for i := range 120 {
		r.Header.Set(fmt.Sprintf("X-%d", i), "")
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if err := s.stop(t, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s = startServer(t, dir, "--event-id", "attribute:order_id", "--max-clock-skew", "1h")
	code, out, log := runCommand(t, "replay", "--from-table", "dead_letter", "--data-dir", dir, "--event-id", "attribute:order_id", "--url", s.url+"/push")
	if code != exitDone || !strings.Contains(out, "1 counted") {
		t.Errorf("exit code %d, want one counted\n%s%s", code, out, log)
	}
	if n := queryTables(t, dir, "SELECT event_id, COUNT(*) FROM raw GROUP BY 1"); n["A-1"] != 1 {
		t.Errorf("events %v, want A-1", n)
	}
}

func TestAReplayThatIsNotAcknowledgedExitsWithOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir)
	for _, id := range []string{"1", "2", "3"} {
		if code, err := s.push(http.DefaultClient, ahead(id)); err != nil || code != http.StatusOK {
			t.Fatalf("push: %d, %v", code, err)
		}
	}
	code, out, log := runCommand(t, "replay", "--from-table", "dead_letter", "--data-dir", dir, "--url", s.url+"/no-such-path")
	if code != exitNo || !strings.Contains(out, "404") {
		t.Errorf("exit code %d, want %d\n%s%s", code, exitNo, out, log)
	}
}

func TestWrongArgumentsOfReplayAreRefused(t *testing.T) {
	t.Parallel()
	absent := filepath.Join(t.TempDir(), "absent")
	for _, tc := range []struct {
		args string
		code int
		says []string
	}{
		{"", exitUsage, []string{"want a file, or -", "--from-table"}},
		{"one two", exitUsage, []string{"want a file, or -"}},
		{"file --from-table raw", exitUsage, []string{"file"}},
		{"--from-table events", exitUsage, []string{`--from-table="events"`}},
		{"--from-table=", exitUsage, []string{"want a file"}},
		{"file --from 2026-03-14T09:26:53Z", exitUsage, []string{"--from-table"}},
		{"file --to 2026-03-14T09:26:53Z", exitUsage, []string{"--from-table"}},
		{"--from-table raw --from yesterday --to 14.3.2026", exitUsage, []string{"yesterday", "14.3.2026"}},
		{"--from-table raw --from 2026-03-14T09:26:54Z --to 2026-03-14T09:26:53Z", exitUsage, []string{"after --to"}},
		{"--from-table raw --event-id nonsense", exitUsage, []string{"nonsense"}},
		{"--from-table raw --data-dir " + absent, exitNo, []string{absent, "DATA_DIR"}},
		{"--from-table dead_letter --data-dir " + absent, exitNo, []string{absent, "DATA_DIR"}},
	} {
		code, out, log := runCommand(t, append([]string{"replay"}, strings.Fields(tc.args)...)...)
		if code != tc.code {
			t.Errorf("%s: exit code %d, want %d\n%s%s", tc.args, code, tc.code, out, log)
		}
		for _, text := range tc.says {
			if !strings.Contains(log, text) {
				t.Errorf("%s: says nothing of %q:\n%s", tc.args, text, log)
			}
		}
	}
	if _, err := os.Stat(absent); !os.IsNotExist(err) {
		t.Errorf("a data directory that did not exist was created: %v", err)
	}
}

// If the command used the flag of a setting for something else, that setting could not be
// set.
func TestReplaysOwnFlagsAreNoSettings(t *testing.T) {
	t.Parallel()
	flags := replayCommand(process{}).Flags()
	for _, setting := range settings.Table() {
		if f := flags.Lookup(setting.Flag()); f == nil || f.Usage != setting.Usage {
			t.Errorf("flag --%s is not the setting %s", setting.Flag(), setting.Name)
		}
	}
}

func TestAnErrorOfTheTableIsThatOfTheReplay(t *testing.T) {
	t.Parallel()
	away := errors.New("the table is away")
	bodies, stop := pushBodies(func(yield func(event.Message, error) bool) {
		if yield(event.Message{ID: "1"}, nil) {
			yield(event.Message{}, away)
		}
	})
	defer stop()
	read, err := io.ReadAll(bodies)
	if want := string(envelope.Encode(event.Message{ID: "1"})) + "\n"; string(read) != want || !errors.Is(err, away) {
		t.Errorf("read %q, %v, want %q and that %v", read, err, want, away)
	}
}

// A slowArchive stands for tables that take too long to read.
type slowArchive struct{}

func (slowArchive) RawRows(context.Context, time.Time, time.Time) iter.Seq2[warehouse.RawRow, error] {
	return func(yield func(warehouse.RawRow, error) bool) { yield(warehouse.RawRow{}, context.DeadlineExceeded) }
}

func (slowArchive) DeadLetters(context.Context, time.Time, time.Time) iter.Seq2[warehouse.DeadLetter, error] {
	return func(yield func(warehouse.DeadLetter, error) bool) {
		yield(warehouse.DeadLetter{}, context.DeadlineExceeded)
	}
}

func TestATableThatTakesTooLongIsToBeReadInParts(t *testing.T) {
	t.Parallel()
	for _, table := range []string{rawTable, deadLetterTable} {
		bodies, stop := pushBodies(storedMessages(t.Context(), slowArchive{}, storedSpan{table: table}, settings.Settings{}))
		_, err := io.ReadAll(bodies)
		stop()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "narrow it by --from and --to") {
			t.Errorf("%s: error %v, want one that says what to do", table, err)
		}
	}
}

func TestAReplayThatEndsEarlyLeavesTheTable(t *testing.T) {
	t.Parallel()
	left := false
	bodies, stop := pushBodies(func(yield func(event.Message, error) bool) {
		for yield(event.Message{ID: "1"}, nil) {
		}
		left = true
	})
	if _, err := bodies.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stop()
	if !left {
		t.Error("the messages are still in use")
	}
}
