package service_test

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tidemark-dev/tidemark/audit"
	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/test/testlog"
)

// audit calls the audit route: GET audits, POST repairs.
func (s harness) audit(t *testing.T, method string) audit.Report {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+"/audit", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var report audit.Report
	if err := json.NewDecoder(response.Body).Decode(&report); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s /audit is answered %s: %v", method, response.Status, err)
	}
	return report
}

// wantAudit checks the windows of a report.
func wantAudit(t *testing.T, what string, got audit.Report, want audit.Report) {
	t.Helper()
	ignoreRange := cmpopts.IgnoreFields(audit.Report{}, "From", "To")
	if diff := cmp.Diff(want, got, ignoreRange, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// damage changes a file of the data directory directly, without the service.
func damage(t *testing.T, dir, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "warehouse.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.Exec(statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: changed %d rows, %v", statement, n, err)
	}
}

// pushEvent returns the push body of an event.
func pushEvent(id string, at, published time.Time) []byte {
	data := fmt.Sprintf(`{"ip":"198.51.100.23","user_id":"7","timestamp":%q,"http_request":"","http_response":200,"num_bytes":1,"user_agent":""}`,
		event.FormatTime(at))
	return fmt.Appendf(nil, `{"message":{"messageId":%q,"publishTime":%q,"data":%q}}`,
		id, event.FormatTime(published), base64.StdEncoding.EncodeToString([]byte(data)))
}

// minute returns the start of the i-th window of traffic.
func minute(i int) time.Time { return time.Date(2024, 3, 14, 9, 26+i, 0, 0, time.UTC) }

// traffic pushes events of three windows: one, two and three events, each of them twice.
// It also pushes late events, some of them in a window that has only late events, and a
// dead letter.
func traffic(t *testing.T, s harness) {
	t.Helper()
	var bodies [][]byte
	for window := range 3 {
		for i := range window + 1 {
			at := minute(window).Add(time.Duration(i) * time.Second)
			body := pushEvent(fmt.Sprintf("%d-%d", window, i), at, at)
			bodies = append(bodies, body, body)
		}
	}
	s.pushAll(t, append(bodies,
		pushEvent("late-1", minute(1), minute(60)),
		pushEvent("late-5", minute(5), minute(60)),
		[]byte(`{"message":{"messageId":"dead","publishTime":"2024-03-14T09:26:00Z","data":"bm8="}}`)), 4)
}

// rightCounts are the right counts for traffic.
var rightCounts = map[string]int64{
	"2024-03-14T09:26:00.000000Z": 1, "2024-03-14T09:27:00.000000Z": 2, "2024-03-14T09:28:00.000000Z": 3,
}

func (s harness) wantCounts(t *testing.T, want map[string]int64) {
	t.Helper()
	if diff := cmp.Diff(want, s.query(t, "SELECT timestamp, page_views FROM windowed_traffic")); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func flushAll(t *testing.T, s harness) {
	t.Helper()
	if report := s.Flush(t.Context()); len(report.Errors) != 0 {
		t.Fatalf("flush: %v", report.Errors)
	}
}

// Late events, redeliveries and dead letters are no differences. A window that waits for
// its flush is no fault.
func TestAnAuditOfRealTrafficIsCleanOnceItIsFlushed(t *testing.T) {
	t.Parallel()
	s := newService(t, t.TempDir(), map[string]string{"commit-interval": "0s"})
	s.pushAll(t, testlog.Traffic(t), 16)
	for _, method := range []string{http.MethodGet, http.MethodPost} { // a repair leaves them to the flush
		before, waiting := s.audit(t, method), map[string]int64{}
		for _, w := range before.Waiting {
			waiting[event.FormatTime(w.Start)] = w.Raw
		}
		if diff := cmp.Diff(testlog.TrafficWindows(t), waiting); diff != "" || !before.Clean() {
			t.Errorf("%s: waiting before the flush (-want +got); clean: %v\n%s", method, before.Clean(), diff)
		}
	}
	flushAll(t, s)
	wantAudit(t, "after the flush", s.audit(t, http.MethodGet), audit.Report{})
	wantAudit(t, "a repair of nothing", s.audit(t, http.MethodPost), audit.Report{})
	checkTrafficTables(t, s, testlog.Traffic(t))
}

func TestARepairBringsBackLostRowsOfTheAggregate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newService(t, dir, nil)
	traffic(t, s)
	flushAll(t, s)
	wantAudit(t, "before the damage", s.audit(t, http.MethodGet), audit.Report{})

	damage(t, dir, "DELETE FROM windowed_traffic_log WHERE timestamp > '2024-03-14T09:26:30'")
	damage(t, dir, "INSERT INTO windowed_traffic_log SELECT '2024-03-14T09:28:00.000000Z', window_end, 1, 1, written_at FROM windowed_traffic_log")
	lost := []audit.Window{{Start: minute(1), Raw: 2}, {Start: minute(2), PageViews: 1, Raw: 3}}
	wantAudit(t, "damaged", s.audit(t, http.MethodGet), audit.Report{Lower: lost})
	flushAll(t, s) // no counter is pending, so this flush writes nothing
	wantAudit(t, "flushed", s.audit(t, http.MethodGet), audit.Report{Lower: lost})
	wantAudit(t, "repair", s.audit(t, http.MethodPost), audit.Report{Repaired: lost})
	wantAudit(t, "second repair", s.audit(t, http.MethodPost), audit.Report{})
	s.wantCounts(t, rightCounts)
	if n := s.query(t, "SELECT 'final', COUNT(*) FROM windowed_traffic WHERE is_final = 1 AND window_end > timestamp")["final"]; n != 3 {
		t.Errorf("%d windows are final after the repair, want 3", n)
	}
}

func TestARepairMakesUpForLostCounters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newService(t, dir, nil)
	traffic(t, s)
	// The counters are deleted while no process has the file open, before any flush.
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "counters.db")); err != nil {
		t.Fatal(err)
	}
	s = newService(t, dir, nil)
	flushAll(t, s)
	s.wantCounts(t, map[string]int64{})

	all := []audit.Window{{Start: minute(0), Raw: 1}, {Start: minute(1), Raw: 2}, {Start: minute(2), Raw: 3}}
	wantAudit(t, "damaged", s.audit(t, http.MethodGet), audit.Report{Lower: all})
	wantAudit(t, "repair", s.audit(t, http.MethodPost), audit.Report{Repaired: all})
	s.wantCounts(t, rightCounts)

	// The new counters begin at zero, so they count a redelivered event as the first of
	// its window. The aggregate keeps its greater count, and no window becomes higher
	// than its rows.
	s.push(t, "/push", pushEvent("2-0", minute(2), minute(2)))
	flushAll(t, s)
	wantAudit(t, "after a redelivery", s.audit(t, http.MethodGet), audit.Report{})
	s.wantCounts(t, rightCounts)
}

func TestLostRawRowsAreFoundAndNotHidden(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newService(t, dir, nil)
	traffic(t, s)
	flushAll(t, s)
	damage(t, dir, "DELETE FROM raw WHERE event_id = '2-1' OR window_start = '2024-03-14T09:26:00.000000Z'")
	want := audit.Report{Higher: []audit.Window{{Start: minute(0), PageViews: 1}, {Start: minute(2), PageViews: 3, Raw: 2}}}
	wantAudit(t, "damaged", s.audit(t, http.MethodGet), want)
	wantAudit(t, "repair", s.audit(t, http.MethodPost), want)
	s.wantCounts(t, rightCounts) // a count never falls
	// When the lost messages are sent again, the audit finds nothing any more.
	s.push(t, "/push", pushEvent("2-1", minute(2), minute(2)))
	s.push(t, "/push", pushEvent("0-0", minute(0), minute(0)))
	wantAudit(t, "brought back", s.audit(t, http.MethodGet), audit.Report{})
}

func TestAForeignRowInTheLogIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newService(t, dir, nil)
	traffic(t, s)
	flushAll(t, s)
	damage(t, dir, `INSERT INTO windowed_traffic_log VALUES
		('2024-03-14T09:27:00.000000Z', '2024-03-14T09:28:00.000000Z', 99, 0, '2024-03-14T09:30:00.000000Z'),
		('2024-03-14T09:31:00.000000Z', '2024-03-14T09:32:00.000000Z', 1, 1, '2024-03-14T09:40:00.000000Z')`)
	want := audit.Report{Higher: []audit.Window{{Start: minute(1), PageViews: 99, Raw: 2}, {Start: minute(5), PageViews: 1}}}
	wantAudit(t, "damaged", s.audit(t, http.MethodGet), want)
	wantAudit(t, "repair", s.audit(t, http.MethodPost), want)
	damage(t, dir, "DELETE FROM windowed_traffic_log WHERE page_views = 99 OR timestamp = '2024-03-14T09:31:00.000000Z'")
	wantAudit(t, "deleted by hand", s.audit(t, http.MethodGet), audit.Report{})
}

func TestWindowsThatAreNotDueAreNotAudited(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newService(t, dir, nil)
	now := time.Now()
	s.pushAll(t, [][]byte{pushEvent("1", now, now), pushEvent("2", now.Add(-time.Minute), now)}, 1)
	damage(t, dir, `INSERT INTO windowed_traffic_log SELECT window_start, window_start, 7, 0, publish_time FROM raw WHERE message_id = '2'`)
	wantAudit(t, "open windows", s.audit(t, http.MethodGet), audit.Report{})
	wantAudit(t, "repair of open windows", s.audit(t, http.MethodPost), audit.Report{})
	if got := s.query(t, "SELECT 'rows', COUNT(*) FROM windowed_traffic_log")["rows"]; got != 1 {
		t.Errorf("the log has %d rows, want the one from before", got)
	}
}
