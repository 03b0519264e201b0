package tidemark_test

import (
	"bytes"
	stdcmp "cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/emulator"
	"github.com/tidemark-dev/tidemark/internal/testlog"
)

// cloudSettings are settings of a project of its own on the emulators, with BigQuery
// behind the proxy.
func cloudSettings(t *testing.T, p *bigQueryProxy) map[string]string {
	t.Helper()
	return map[string]string{
		"backend": "gcp", "google-cloud-project": emulator.Project(), "firestore-emulator-host": emulator.Firestore(t),
		"bigquery-emulator-host": p.rest, "bigquery-storage-emulator-host": p.grpc,
		"counter-retention": "400000h", // so that windows of 1995 are counted by their counters
	}
}

// queryBigQuery returns the rows of a query of the dataset logs.
func queryBigQuery(t *testing.T, settings map[string]string, sql string) []map[string]any {
	t.Helper()
	rows, err := emulator.QueryBigQuery(t.Context(), settings["bigquery-emulator-host"], settings["google-cloud-project"], "logs", sql)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// windowsInBigQuery returns the page views of windowed_traffic by the window's start.
func windowsInBigQuery(t *testing.T, settings map[string]string) map[string]int64 {
	t.Helper()
	windows := map[string]int64{}
	for _, row := range queryBigQuery(t, settings, "SELECT timestamp, page_views FROM windowed_traffic") {
		start := event.FormatTime(row["timestamp"].(time.Time))
		if _, twice := windows[start]; twice {
			t.Errorf("two rows for the window %s", start)
		}
		windows[start] = row["page_views"].(int64)
	}
	return windows
}

// The traffic log through the whole server into BigQuery gives the right tables,
// whether the counts are those of the counters or of the raw rows.
func TestRealTrafficGivesTheRightTablesInBigQuery(t *testing.T) {
	t.Parallel()
	p := newBigQueryProxy(t)
	for _, retention := range []string{"400000h", "192h"} {
		t.Run(retention, func(t *testing.T) {
			t.Parallel()
			settings := cloudSettings(t, p)
			settings["counter-retention"] = retention
			s := newCloudService(t, settings)
			traffic := testlog.Traffic(t)
			s.pushAll(t, traffic, 64)
			s.flushAll(t)

			if diff := cmp.Diff(testlog.TrafficWindows(t), windowsInBigQuery(t, settings)); diff != "" {
				t.Errorf("windows (-want +got):\n%s", diff)
			}
			totals := queryBigQuery(t, settings, `SELECT COUNTIF(NOT is_late) AS counted, COUNTIF(is_late) AS late,
				(SELECT COUNT(*) FROM windowed_traffic WHERE NOT is_final) AS not_final FROM events`)
			if want := []map[string]any{{"counted": int64(testlog.Counted), "late": int64(testlog.Late), "not_final": int64(0)}}; !cmp.Equal(want, totals) {
				t.Errorf("totals %v, want %v", totals, want)
			}
			checkStored(t, settings, messages(t, traffic), testlog.DeadLetters)
			audit, err := s.Audit(t.Context(), time.Time{}, time.Now())
			if err != nil || !audit.Clean() || len(audit.Waiting) != 0 {
				t.Errorf("audit %+v, %v", audit, err)
			}
		})
	}
}

// checkStored fails unless each message is in the raw rows or a dead letter, and the
// dead letters are so many and have the bytes that were sent.
func checkStored(t *testing.T, settings map[string]string, sent map[string]event.Message, deadLetters int) {
	t.Helper()
	var stored []string
	for _, row := range queryBigQuery(t, settings, "SELECT DISTINCT message_id FROM raw UNION DISTINCT SELECT message_id FROM dead_letter") {
		stored = append(stored, row["message_id"].(string))
	}
	slices.Sort(stored)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(sent)), stored); diff != "" {
		t.Errorf("message ids that are stored (-want +got):\n%s", diff)
	}
	letters := queryBigQuery(t, settings, "SELECT message_id, data FROM dead_letters")
	if len(letters) != deadLetters {
		t.Errorf("%d dead letters, want %d", len(letters), deadLetters)
	}
	for _, row := range letters {
		data, _ := row["data"].([]byte) // or null
		if want := sent[row["message_id"].(string)].Data; !bytes.Equal(data, want) {
			t.Errorf("dead letter %s has data %q, was sent %q", row["message_id"], data, want)
		}
	}
}

// deliverAll pushes each body until it is acknowledged, as Pub/Sub does, and fails on
// any answer but 200 and 503. It returns the verdicts by reason, or status where there
// is none, and how often it was refused.
func (s service) deliverAll(t *testing.T, bodies [][]byte) (verdicts map[string]int, refused int) {
	t.Helper()
	const callers, attempts = 16, 200
	verdicts = map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for body := range slices.Chunk(bodies, (len(bodies)+callers-1)/callers) {
		wg.Go(func() {
			for _, one := range body {
				for attempt := range attempts {
					a := s.push(t, "/push", one)
					mu.Lock()
					if a.code == http.StatusOK {
						verdicts[stdcmp.Or(string(a.Reason), string(a.Status))]++
						mu.Unlock()
						break
					}
					refused++
					mu.Unlock()
					if a.code != http.StatusServiceUnavailable || attempt == attempts-1 {
						t.Errorf("attempt %d: answered %d", attempt, a.code)
						break
					}
				}
			}
		})
	}
	wg.Wait()
	return verdicts, refused
}

const poison = "poisoned by the test"

// poisonedBody is a push of an event whose row BigQuery refuses for its value.
func poisonedBody(t *testing.T, id string) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"ip": poison, "user_id": "1", "timestamp": "1995-08-01T06:00:30Z", "http_request": "", "http_response": 200, "num_bytes": 1, "user_agent": "",
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"message": {"data": %q, "messageId": %q, "publishTime": "1995-08-01T06:00:31Z"}}`, base64.StdEncoding.EncodeToString(data), id)
}

// Whatever becomes of appends on their way, what was acknowledged is there, no window
// is wrong, and every answer is 200 or 503.
func TestFaultsOfBigQueryLoseNothingAndCountNothingTwice(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"storage_write", "insert_all"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := newBigQueryProxy(t)
			settings := cloudSettings(t, p)
			settings["raw-method"], settings["commit-interval"] = method, "20ms"
			s := newCloudService(t, settings)
			bodies := testlog.Traffic(t)[:800]
			want := newService(t, t.TempDir(), map[string]string{"counter-retention": "400000h"})
			want.pushAll(t, bodies, 8)
			want.flushAll(t)

			// The quota is not to be had in the request of insertAll that Go's client repeats by
			// itself, so that one is tested alone.
			faults := []fault{none, refused, none, cutAfter, none, closed, none, cutBefore, cutAfter, none, none, quota, none}
			p.set(func(p *bigQueryProxy) {
				p.poison = poison
				p.fault = func(n int) fault { return faults[n%len(faults)] }
			})
			mixed := slices.Clone(bodies)
			for i := range 5 {
				mixed = slices.Insert(mixed, (i+1)*130, poisonedBody(t, fmt.Sprint("poisoned ", i)))
			}
			verdicts, refusals := s.deliverAll(t, mixed)
			if verdicts[string(event.Rejected)] != 5 {
				t.Errorf("verdicts %v, want 5 rejected, the poisoned ones", verdicts)
			}
			t.Logf("%d refusals; verdicts %v", refusals, verdicts)

			// A flush meets the same, and ends with what is right.
			for attempt := 0; ; attempt++ {
				report := s.Flush(t.Context())
				if len(report.Errors) == 0 && report.Remaining == 0 {
					break
				}
				if attempt == 20 {
					t.Fatalf("flush: %+v", report)
				}
			}
			p.set(func(p *bigQueryProxy) { p.fault = nil })
			if diff := cmp.Diff(want.query(t, "SELECT timestamp, page_views FROM windowed_traffic"), windowsInBigQuery(t, settings)); diff != "" {
				t.Errorf("windows (-want +got):\n%s", diff)
			}
			letters := want.query(t, "SELECT 'dead letters', COUNT(*) FROM dead_letters")["dead letters"]
			checkStored(t, settings, messages(t, mixed), int(letters)+5)
			audit, err := s.Audit(t.Context(), time.Time{}, time.Now())
			if err != nil || !audit.Clean() {
				t.Errorf("audit %+v, %v", audit, err)
			}
		})
	}
}

// A column that is gone is nobody's dead letter: all is refused until the table is
// mended, and then all is stored.
func TestADroppedColumnHoldsTheStreamBack(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"storage_write", "insert_all"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := newBigQueryProxy(t)
			settings := cloudSettings(t, p)
			settings["raw-method"], settings["commit-interval"] = method, "1ms"
			s := newCloudService(t, settings)
			bodies := testlog.Traffic(t)[:40]
			s.pushAll(t, bodies[:1], 1)
			p.set(func(p *bigQueryProxy) { p.dropped = "ip" })
			for _, body := range bodies[1:10] {
				response, err := s.client.Post(s.url+"/push", "application/json", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				var answer struct{ Error struct{ Message string } }
				if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
					t.Error(err)
				}
				response.Body.Close()
				if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || !strings.Contains(answer.Error.Message, "ADD COLUMN ip STRING") {
					t.Errorf("answered %d, %q, want 503 and how to mend the table", response.StatusCode, answer.Error.Message)
				}
			}
			p.set(func(p *bigQueryProxy) { p.dropped = "" })
			s.pushAll(t, bodies[1:], 16)
			checkStored(t, settings, messages(t, bodies), 0)
		})
	}
}

// Concurrent pushes share appends, a flush is one append however many windows it
// writes, and with nothing due nothing is sent.
func TestAppendsAreShared(t *testing.T) {
	t.Parallel()
	p := newBigQueryProxy(t)
	settings := cloudSettings(t, p)
	s := newCloudService(t, settings)
	traffic := testlog.Traffic(t)
	s.pushAll(t, traffic[:10], 1) // makes the tables
	p.counts()
	s.pushAll(t, traffic[10:1010], 64)
	if appends, _ := p.counts(); appends > 60 {
		t.Errorf("%d appends for 1,000 events with 64 concurrent pushes, want at most 60", appends)
	} else {
		t.Logf("%d appends for 1,000 events", appends)
	}
	windows := s.flushAll(t)
	if appends, requests := p.counts(); appends != 1 || len(windows) < 10 {
		t.Errorf("a flush of %d windows made %d appends and %d requests, want 1 append", len(windows), appends, requests)
	}
	s.flushAll(t)
	if _, requests := p.counts(); requests != 0 {
		t.Errorf("a flush with nothing due made %d requests, want none", requests)
	}
}
