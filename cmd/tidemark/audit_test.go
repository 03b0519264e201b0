package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tidemark-dev/tidemark/audit"
	"github.com/tidemark-dev/tidemark/internal/test/testlog"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// runAudit runs tidemark audit. It returns the exit code, the report if one was printed,
// and what it wrote to standard error.
func runAudit(t *testing.T, args ...string) (code int, report audit.Report, said string) {
	t.Helper()
	var out, log bytes.Buffer
	code = run(t.Context(), append([]string{"audit"}, args...), process{
		stdout: &out, stderr: &log,
		lookup: func(string) (string, bool) { return "", false },
	})
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &report); err != nil {
			t.Errorf("audit %q printed no report: %v\n%s", args, err, &out)
		}
	}
	return code, report, log.String()
}

func execTables(t *testing.T, dir, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "warehouse.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// A server's tables can be audited beside the server and through it. Both must give the
// same result.
func TestAuditBesideAndThroughAServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir, "--flush-quiet", "0s")
	for _, body := range testlog.Traffic(t)[:200] {
		if code, err := s.push(http.DefaultClient, body); err != nil || code != http.StatusOK {
			t.Fatalf("push: %d, %v", code, err)
		}
	}
	flushURL(t, s)
	both := [][]string{{"--data-dir", dir}, {"--url", s.url}, {"--url", s.url + "/audit"}}
	check := func(code int, report audit.Report, says string, args ...string) {
		t.Helper()
		for _, where := range both {
			gotCode, got, said := runAudit(t, append(args, where...)...)
			if diff := cmp.Diff(report, got, cmpopts.IgnoreFields(audit.Report{}, "From", "To"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("audit %q %q (-want +got):\n%s", args, where, diff)
			}
			if gotCode != code || !strings.Contains(said, says) || strings.Count(said, "\n") != 1 {
				t.Errorf("audit %q %q: exit code %d, want %d; said %q, want %q in one line", args, where, gotCode, code, said, says)
			}
		}
	}
	check(exitDone, audit.Report{}, "no differences in windows from the beginning to 20")

	counts := queryTables(t, dir, "SELECT timestamp, page_views FROM windowed_traffic ORDER BY timestamp LIMIT 1")
	var first audit.Window
	for start, n := range counts {
		at, err := time.Parse(time.RFC3339, start)
		if err != nil {
			t.Fatal(err)
		}
		first = audit.Window{Start: at, PageViews: 0, Raw: n}
	}
	execTables(t, dir, "DELETE FROM windowed_traffic_log WHERE timestamp = (SELECT min(timestamp) FROM windowed_traffic_log)")
	start, next := first.Start.Format(time.RFC3339), first.Start.Add(time.Minute).Format(time.RFC3339)
	check(exitNo, audit.Report{Lower: []audit.Window{first}}, "1 window lower than the raw rows: run again with --repair")
	check(exitNo, audit.Report{Lower: []audit.Window{first}}, "1 window lower", "--from", start, "--to", next)
	check(exitDone, audit.Report{}, "no differences in windows from "+first.Start.Add(time.Minute).Format("2006-01-02T15:04:05.000000Z"), "--from", next)
	check(exitDone, audit.Report{}, "no differences", "--to", start)

	// The tables are files here, so BigQuery reads and bills nothing.
	for _, where := range both {
		code, report, said := runAudit(t, append([]string{"--dry-run", "--from", start, "--to", next}, where...)...)
		want := "an audit of windows from " + first.Start.Format("2006-01-02T15:04:05.000000Z") + " to " +
			first.Start.Add(time.Minute).Format("2006-01-02T15:04:05.000000Z") + " would read at most 0.000 GiB of BigQuery\n"
		if code != exitDone || said != want || !report.From.Equal(first.Start) {
			t.Errorf("audit --dry-run %q: exit code %d, from %v, said %q, want %q", where, code, report.From, said, want)
		}
	}

	if _, _, said := runAudit(t, append([]string{"--dry-run"}, both[0]...)...); !strings.HasPrefix(said, "an audit of windows from the beginning to 20") {
		t.Errorf("audit --dry-run without --from said %q", said)
	}

	// --to limits a repair too.
	check(exitDone, audit.Report{}, "no differences", "--repair", "--to", start)
	for _, where := range both {
		execTables(t, dir, "DELETE FROM windowed_traffic_log WHERE timestamp = (SELECT min(window_start) FROM raw WHERE is_late = 0)")
		code, report, said := runAudit(t, append(where, "--repair")...)
		if code != exitDone || len(report.Repaired) != 1 || report.Repaired[0] != first || !strings.HasPrefix(said, "1 window repaired; no differences") {
			t.Errorf("audit --repair %q: exit code %d, repaired %v, said %q", where, code, report.Repaired, said)
		}
	}

	execTables(t, dir, "INSERT INTO windowed_traffic_log SELECT timestamp, window_end, 1000 + page_views, 1, updated_at FROM windowed_traffic ORDER BY timestamp LIMIT 2")
	for _, where := range both {
		for _, repair := range [][]string{nil, {"--repair"}} {
			code, report, said := runAudit(t, append(where, repair...)...)
			if code != exitNo || len(report.Higher) != 2 || !strings.Contains(said, "2 windows higher than the raw rows, which no repair can correct") {
				t.Errorf("audit %q %q: exit code %d, higher %v, said %q", where, repair, code, report.Higher, said)
			}
		}
	}
	if err := s.stop(t, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func TestWhatWaitsForAFlushIsNoDifference(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir, "--flush-quiet", "0s")
	for _, body := range testlog.Traffic(t)[:200] {
		if code, err := s.push(http.DefaultClient, body); err != nil || code != http.StatusOK {
			t.Fatalf("push: %d, %v", code, err)
		}
	}
	for _, where := range [][]string{{"--data-dir", dir}, {"--url", s.url}} {
		code, report, said := runAudit(t, where...)
		if code != exitDone || len(report.Waiting) < 2 || len(report.Lower) != 0 ||
			!strings.HasPrefix(said, "no differences in windows") || !strings.Contains(said, "windows waiting for the next flush") {
			t.Errorf("before the flush: exit code %d, %d waiting, %d lower, said %q", code, len(report.Waiting), len(report.Lower), said)
		}
	}
	if err := s.stop(t, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "counters.db")); err != nil {
		t.Fatal(err)
	}
	code, report, said := runAudit(t, "--data-dir", dir)
	if code != exitNo || len(report.Waiting) != 0 || len(report.Lower) < 2 {
		t.Errorf("without counters: exit code %d, %d waiting, %d lower, said %q", code, len(report.Waiting), len(report.Lower), said)
	}
}

func TestAuditExitCodes(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"other.example": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"status":"ok"}`)) },
		"page.example":  func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) },
		"down.example": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "storage failed", http.StatusServiceUnavailable)
		},
	} {
		server := httptest.NewServer(answer)
		defer server.Close()
		says := "not the report of an audit"
		if name == "down.example" {
			says = "503 Service Unavailable: storage failed"
		}
		if code, _, said := runAudit(t, "--url", server.URL); code != exitNo || !strings.Contains(said, says) {
			t.Errorf("%s: exit code %d, said %q, want %q", name, code, said, says)
		}
	}
	for _, tc := range []struct {
		answer string
		args   []string
		code   int
		says   string
	}{
		{`{"from":"2026-03-01T00:00:00Z","to":"2026-03-02T00:00:00Z","waiting":[],"lower":[],"higher":[],"more":false}`, []string{"--dry-run"}, exitNo, "not the estimate of an audit"},
		{`{"from":"2026-03-01T00:00:00Z","to":"2026-03-02T00:00:00Z","bytes":0}`, []string{"--dry-run"}, exitDone, "0.000 GiB"},
		{`{"from":"2026-03-01T00:00:00Z","to":"2026-03-02T00:00:00Z","bytes":"0"}`, []string{"--dry-run"}, exitNo, "not the estimate of an audit"},
		{`{"from":"2026-03-01T00:00:00Z","to":"2026-03-02T00:00:00Z","bytes":0}`, nil, exitNo, "not the report of an audit"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(tc.answer)) }))
		defer server.Close()
		code, _, said := runAudit(t, append(tc.args, "--url", server.URL)...)
		if code != tc.code || !strings.Contains(said, tc.says) {
			t.Errorf("audit %q, answered %s: exit code %d, want %d; said %q, want %q", tc.args, tc.answer, code, tc.code, said, tc.says)
		}
	}
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--from", "yesterday", "--to", "1"}, exitUsage, `--to: "1"`},
		{[]string{"--from", "yesterday", "--url", "http://127.0.0.1:1"}, exitUsage, `--from: "yesterday"`},
		{[]string{"--from", "2026-03-02T00:00:00Z", "--to", "2026-03-01T00:00:00Z"}, exitUsage, "after --to"},
		{[]string{"--from", "9999-01-01T00:00:00Z"}, exitUsage, "after --to"},
		{[]string{"--url", "nowhere"}, exitUsage, "nowhere"},
		{[]string{"--url", "http://127.0.0.1:1"}, exitNo, "refused"},
		{[]string{"extra"}, exitUsage, "extra"},
		{[]string{"--window-duration", "7s"}, exitUsage, "7s"},
		{[]string{"--dry-run", "--repair"}, exitUsage, "dry-run"},
		{[]string{"--data-dir", filepath.Join(t.TempDir(), "new")}, exitNo, "nothing is stored in"},
		{[]string{"--data-dir", t.TempDir()}, exitNo, "nothing is stored in"},
		{[]string{"--url", "http://127.0.0.1:1/flush"}, exitUsage, "another route than /audit"},
	} {
		code, _, said := runAudit(t, tc.args...)
		if code != tc.code || !strings.Contains(said, tc.says) {
			t.Errorf("audit %q: exit code %d, want %d; said %q, want %q", tc.args, code, tc.code, said, tc.says)
		}
	}
}

// If a data directory belongs to another pipeline than the settings name, an audit must
// not call it clean, and must not create the other pipeline's tables in it.
func TestAnAuditWithoutThePipelineFileOfTheDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := settings.Load(map[string]string{"data-dir": dir, "pipeline-file": ordersFile}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	running, err := service.New(t.Context(), s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	running.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/push/raw", strings.NewReader("no event")))
	if err := running.Close(t.Context()); err != nil || answer.Code != http.StatusOK {
		t.Fatalf("%d %s, %v", answer.Code, answer.Body, err)
	}
	before := tableNames(t, dir)
	for _, command := range []string{"audit", "flush"} {
		code, out, log := runCommand(t, command, "--data-dir", dir)
		if want := `has nothing of pipeline "minute-traffic"; it has orders: set PIPELINE_FILE`; code != exitNo || !strings.Contains(log, want) {
			t.Errorf("%s: exit code %d, want 1 and %s:\n%s%s", command, code, want, out, log)
		}
		if diff := cmp.Diff(before, tableNames(t, dir)); diff != "" {
			t.Errorf("%s creates tables (-before +after)\n%s", command, diff)
		}
		if code, out, log := runCommand(t, command, "--data-dir", dir, "--pipeline-file", ordersFile); code != exitDone {
			t.Errorf("%s with the file: exit code %d:\n%s%s", command, code, out, log)
		}
	}
	if _, out, _ := runCommand(t, "check", "--data-dir", dir); !strings.Contains(out, `pipeline "minute-traffic" will be recorded by the first push; on record is orders`) {
		t.Errorf("check: %s", out)
	}
}

// The server knows the name of the count, even if the settings of the command do not.
func TestAnAuditNamesTheCountOfThePipelineFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir, "--flush-quiet", "0s", "--pipeline-file", ordersFile)
	const push = `{"message": {"messageId": "1", "publishTime": "2026-03-14T09:26:55Z", "data": "eyJjcmVhdGVkX2F0IjoiMjAyNi0wMy0xNFQwOToyNjo1M1oifQ=="}}`
	if code, err := s.push(http.DefaultClient, []byte(push)); err != nil || code != http.StatusOK {
		t.Fatalf("push: %d, %v", code, err)
	}
	flushURL(t, s)
	execTables(t, dir, "DELETE FROM orders_log")
	for _, where := range [][]string{{"--data-dir", dir, "--pipeline-file", ordersFile}, {"--url", s.url}} {
		code, out, log := runCommand(t, append([]string{"audit"}, where...)...)
		if !strings.Contains(out, `"orders": 0,`) || !strings.Contains(out, `"raw": 1`) || strings.Contains(out, "page_views") || code != exitNo {
			t.Errorf("audit %s: exit code %d:\n%s%s", where, code, out, log)
		}
	}
}

func tableNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "warehouse.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT name FROM sqlite_schema ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}
