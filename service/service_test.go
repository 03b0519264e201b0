package service_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
	"github.com/tidemark-dev/tidemark/internal/test/emulator"
	"github.com/tidemark-dev/tidemark/internal/test/membigquery"
	"github.com/tidemark-dev/tidemark/internal/test/testlog"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// harness is a service behind an HTTP server. It has access to the service's tables.
type harness struct {
	*service.Service
	url    string
	client *http.Client
	tables *sql.DB
}

// newService starts a service with the given settings on a data directory.
func newService(t *testing.T, dir string, settings map[string]string) harness {
	t.Helper()
	flags := map[string]string{"data-dir": dir}
	maps.Copy(flags, settings)
	s := newCloudService(t, flags)
	tables, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "warehouse.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tables.Close(); err != nil {
			t.Error(err)
		}
	})
	s.tables = tables
	return s
}

// newCloudService starts a service with the given settings, without access to its tables.
func newCloudService(t *testing.T, environment map[string]string) harness {
	t.Helper()
	flags := map[string]string{"flush-quiet": "0s"}
	maps.Copy(flags, environment)
	s, err := settings.Load(flags, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	running, err := service.New(t.Context(), s, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(running.Handler())
	t.Cleanup(func() {
		server.Close()
		if err := running.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return harness{Service: running, url: server.URL, client: delivery.NewClient(64)}
}

// answer is the answer to a push.
type answer struct {
	code        int
	Status      event.Status
	Reason      event.Reason
	WindowStart string `json:"window_start"`
}

func (s harness) push(t *testing.T, path string, body []byte) answer {
	t.Helper()
	response, err := s.client.Post(s.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return answer{}
	}
	defer response.Body.Close()
	a := answer{code: response.StatusCode}
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		t.Error(err)
	}
	return a
}

// pushAll pushes the bodies from the given number of callers at once. A single caller
// pushes them in order.
func (s harness) pushAll(t *testing.T, bodies [][]byte, callers int) {
	t.Helper()
	queue := make(chan []byte)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for body := range queue {
				if a := s.push(t, "/push", body); a.code != http.StatusOK {
					t.Errorf("push answered %d", a.code)
				}
			}
		})
	}
	for _, body := range bodies {
		queue <- body
	}
	close(queue)
	wg.Wait()
}

// query returns the rows of a query that has two columns: a text and an integer.
func (s harness) query(t *testing.T, query string) map[string]int64 {
	t.Helper()
	rows, err := s.tables.Query(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	result := map[string]int64{}
	for rows.Next() {
		var key string
		var value int64
		if err := rows.Scan(&key, &value); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if _, twice := result[key]; twice {
			t.Errorf("%s: two rows for %s", query, key)
		}
		result[key] = value
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return result
}

// The counts do not depend on the order of deliveries, on how often each message is
// delivered, or on how many are delivered at once. They also do not depend on whether
// they come from the counters (kept for 400000 hours here) or from the raw rows.
func TestRealTrafficGivesTheRightWindows(t *testing.T) {
	t.Parallel()
	traffic := testlog.Traffic(t)
	reversed := slices.Clone(traffic)
	slices.Reverse(reversed)
	for _, tc := range []struct {
		name      string
		bodies    [][]byte
		callers   int
		retention string
	}{
		{"in order, from the counters", traffic, 8, "400000h"},
		{"reversed, from the raw rows", reversed, 16, "192h"},
		{"twice, from the counters", append(slices.Clone(traffic), traffic...), 16, "400000h"},
		{"64 at once, from the raw rows", traffic, 64, "192h"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, t.TempDir(), map[string]string{"counter-retention": tc.retention, "commit-interval": "0s"})
			s.pushAll(t, tc.bodies, tc.callers)
			flushTraffic(t, s)
			checkTrafficTables(t, s, traffic)
		})
	}
}

// flushTraffic flushes the windows of the traffic log, and checks that a second flush
// writes nothing.
func flushTraffic(t *testing.T, s harness) {
	t.Helper()
	if windows := s.flushAll(t); len(windows) != 386 {
		t.Errorf("flush wrote %d windows", len(windows))
	}
	if again := s.Flush(t.Context()); len(again.Windows) != 0 || len(again.Errors) != 0 {
		t.Errorf("a second flush: %+v", again)
	}
}

// flushAll flushes until nothing remains, and returns the windows that were published.
// One run may not be enough, since a run ends when its time is up, which can happen on a
// slow machine.
func (s harness) flushAll(t *testing.T) (windows []flush.Window) {
	t.Helper()
	for {
		report := s.Flush(t.Context())
		windows = append(windows, report.Windows...)
		if len(report.Errors) != 0 || report.Held != 0 || report.Remaining > 0 && len(report.Windows) == 0 {
			t.Fatalf("flush wrote %d windows, held %d, left %d, errors %v", len(report.Windows), report.Held, report.Remaining, report.Errors)
		}
		if report.Remaining == 0 {
			return windows
		}
	}
}

// The same holds with the counters in Firestore.
func TestRealTrafficGivesTheRightWindowsWithCountersInFirestore(t *testing.T) {
	t.Parallel()
	host := emulator.Firestore(t)
	traffic := testlog.Traffic(t)
	for _, retention := range []string{"400000h", "192h"} {
		t.Run(retention, func(t *testing.T) {
			t.Parallel()
			bigQuery := membigquery.New(t)
			rest, grpc := bigQuery.Start(t)
			s := newCloudService(t, map[string]string{
				"backend": "gcp", "google-cloud-project": emulator.Project(), "firestore-emulator-host": host,
				"bigquery-emulator-host": rest, "bigquery-storage-emulator-host": grpc,
				"counter-retention": retention, "commit-interval": "1ms",
			})
			s.tables = bigQuery.DB()
			s.deliverAll(t, traffic, 64)
			flushTraffic(t, s)
			checkTrafficTables(t, s, traffic)
		})
	}
}

// checkTrafficTables compares the tables with the right answer for the traffic
// log.
func checkTrafficTables(t *testing.T, s harness, traffic [][]byte) {
	t.Helper()
	// This is the lab's query.
	if diff := cmp.Diff(testlog.TrafficWindows(t), s.query(t, "SELECT timestamp, page_views FROM windowed_traffic ORDER BY timestamp")); diff != "" {
		t.Errorf("windows (-want +got):\n%s", diff)
	}
	totals := s.query(t, `SELECT 'counted', COUNT(*) FROM events WHERE is_late = 0
		UNION ALL SELECT 'late', COUNT(*) FROM events WHERE is_late = 1
		UNION ALL SELECT 'dead letters', COUNT(*) FROM dead_letters
		UNION ALL SELECT 'not final', COUNT(*) FROM windowed_traffic WHERE NOT is_final`)
	want := map[string]int64{"counted": testlog.Counted, "late": testlog.Late, "dead letters": testlog.DeadLetters, "not final": 0}
	if diff := cmp.Diff(want, totals); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	reasons := map[string]int64{}
	for reason, n := range testlog.Reasons {
		reasons[string(reason)] = int64(n)
	}
	if diff := cmp.Diff(reasons, s.query(t, "SELECT reason, COUNT(*) FROM dead_letters GROUP BY reason")); diff != "" {
		t.Errorf("dead letters by reason (-want +got):\n%s", diff)
	}
	sent := messages(t, traffic)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(sent)), s.storedIDs(t)); diff != "" {
		t.Errorf("message ids that are stored (-want +got):\n%s", diff)
	}
	for letter := range s.query(t, "SELECT message_id || ' ' || COALESCE(hex(data), ''), 1 FROM dead_letters") {
		id, data, _ := strings.Cut(letter, " ")
		if want := strings.ToUpper(hex.EncodeToString(sent[id].Data)); data != want {
			t.Errorf("dead letter %s has data %s, was sent %s", id, data, want)
		}
	}
}

// storedIDs returns the ids of all messages in the raw rows and the dead letters.
func (s harness) storedIDs(t *testing.T) []string {
	t.Helper()
	return slices.Sorted(maps.Keys(s.query(t, "SELECT message_id, 1 FROM raw UNION SELECT message_id, 1 FROM dead_letter")))
}

// messages returns the messages in the push bodies, by id.
func messages(t *testing.T, bodies [][]byte) map[string]event.Message {
	t.Helper()
	byID := map[string]event.Message{}
	for _, body := range bodies {
		m, err := envelope.Decode(bytes.Clone(body), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		byID[m.ID] = m
	}
	return byID
}

func TestEveryEdgeCaseGetsItsVerdict(t *testing.T) {
	t.Parallel()
	s := newService(t, t.TempDir(), nil)
	for _, tc := range testlog.EdgeCases(t) {
		want := answer{http.StatusOK, tc.Status, tc.Reason, tc.WindowStart}
		for _, path := range []string{"/push?dry_run=1", "/push"} {
			if got := s.push(t, path, tc.Body); got != want {
				t.Errorf("%s (%s): %+v, want %+v", path, tc.Why, got, want)
			}
		}
	}
}

func TestADryRunStoresNothing(t *testing.T) {
	t.Parallel()
	s := newService(t, t.TempDir(), nil)
	for _, tc := range testlog.EdgeCases(t) {
		s.push(t, "/push?dry_run=1", tc.Body)
	}
	if got := s.storedIDs(t); len(got) != 0 {
		t.Errorf("stored %q", got)
	}
	if report := s.Flush(t.Context()); len(report.Windows) != 0 {
		t.Errorf("flushed %v", report.Windows)
	}
}

// The example is that of docs/semantics.md.
func TestTheWorkedExampleIsRight(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../docs/example.push.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, t.TempDir(), nil)
	s.pushAll(t, bytes.Split(bytes.TrimSpace(file), []byte("\n")), 1)
	s.Flush(t.Context())
	for query, want := range map[string]map[string]int64{
		"SELECT timestamp, page_views FROM windowed_traffic":      {"2026-03-14T09:26:00.000000Z": 3, "2026-03-14T09:27:00.000000Z": 2},
		"SELECT message_id, 1 FROM events WHERE is_late":          {"6": 1},
		"SELECT message_id || ' ' || reason, 1 FROM dead_letters": {"7 too_far_ahead": 1, "8 bad_json": 1},
	} {
		if diff := cmp.Diff(want, s.query(t, query)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
}
