package service_test

import (
	"bytes"
	stdcmp "cmp"
	"context"
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
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
	"github.com/tidemark-dev/tidemark/internal/memfirestore"
	"github.com/tidemark-dev/tidemark/internal/test/emulator"
	"github.com/tidemark-dev/tidemark/internal/test/membigquery"
	"github.com/tidemark-dev/tidemark/internal/test/testlog"
)

// cloudSettings returns settings for a new project on the emulators, with the proxy in
// front of BigQuery.
func cloudSettings(t *testing.T, p *bigQueryProxy) map[string]string {
	t.Helper()
	return map[string]string{
		"backend": "gcp", "google-cloud-project": emulator.Project(), "firestore-emulator-host": emulator.Firestore(t),
		"bigquery-emulator-host": p.rest, "bigquery-storage-emulator-host": p.grpc,
		"counter-retention": "400000h", // so that the windows of 1995 are counted by their counters
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

// windowsInBigQuery returns the page views in windowed_traffic, by the start of the
// window.
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

// If the traffic log goes through the whole server into BigQuery, the tables are right.
// This holds whether counts come from the counters or from the raw rows.
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
			s.deliverAll(t, traffic, 64)
			s.flushRepeatedly(t)

			if diff := cmp.Diff(testlog.TrafficWindows(t), windowsInBigQuery(t, settings)); diff != "" {
				t.Errorf("windows (-want +got):\n%s", diff)
			}
			totals := queryBigQuery(t, settings, `SELECT COUNTIF(NOT is_late) AS counted, COUNTIF(is_late) AS late,
				(SELECT COUNT(*) FROM windowed_traffic WHERE NOT is_final) AS not_final FROM events`)
			if want := []map[string]any{{"counted": int64(testlog.Counted), "late": int64(testlog.Late), "not_final": int64(0)}}; !cmp.Equal(want, totals) {
				t.Errorf("totals %v, want %v", totals, want)
			}
			checkStored(t, settings, messages(t, traffic), testlog.DeadLetters)
			audit, err := s.Auditor().Run(t.Context(), time.Time{}, time.Now())
			if err != nil || !audit.Clean() || len(audit.Waiting) != 0 {
				t.Errorf("audit %+v, %v", audit, err)
			}
		})
	}
}

// checkStored checks that each message is in the raw rows or in the dead letters. It also
// checks the number of dead letters, and that they have the bytes that were sent.
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
		data, _ := row["data"].([]byte) // NULL gives nil
		if want := sent[row["message_id"].(string)].Data; !bytes.Equal(data, want) {
			t.Errorf("dead letter %s has data %q, was sent %q", row["message_id"], data, want)
		}
	}
}

// deliverAll pushes the bodies from the given number of callers at once. As Pub/Sub does,
// it pushes each body until it is acknowledged. Any status but 200 and 503 fails the
// test. It returns how often each verdict came, by reason or else by status, and the
// number of refusals. Some refusals are normal, since a busy emulator may take longer
// than a write is allowed to.
func (s harness) deliverAll(t *testing.T, bodies [][]byte, callers int) (verdicts map[string]int, refused int) {
	t.Helper()
	const attempts = 200
	verdicts = map[string]int{}
	queue := make(chan []byte)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for body := range queue {
				for attempt := range attempts {
					a := s.push(t, "/push", body)
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
	for _, body := range bodies {
		queue <- body
	}
	close(queue)
	wg.Wait()
	return verdicts, refused
}

// flushRepeatedly flushes, as a scheduler does, until a flush has no error and leaves no
// window. It returns the windows that were published and the number of flushes.
func (s harness) flushRepeatedly(t *testing.T) (windows []flush.Window, runs int) {
	t.Helper()
	for {
		report := s.Flush(t.Context())
		runs++
		windows = append(windows, report.Windows...)
		if len(report.Errors)+report.Held+report.Remaining == 0 {
			return windows, runs
		}
		if runs == 20 {
			t.Fatalf("after %d flushes: held %d, left %d, errors %v", runs, report.Held, report.Remaining, report.Errors)
		}
	}
}

const poison = "poisoned by the test"

// poisonedBody returns the push of an event whose row BigQuery refuses for its value.
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

// Whatever happens to appends on their way to BigQuery, acknowledged messages are stored,
// no count is wrong, and every answer is 200 or 503.
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

			faults := []fault{none, refused, none, cutAfter, none, closed, none, cutBefore, cutAfter, none, none, quota, none}
			p.set(func(p *bigQueryProxy) {
				p.poison = poison
				p.fault = func(n int) fault { return faults[n%len(faults)] }
			})
			mixed := slices.Clone(bodies)
			for i := range 5 {
				mixed = slices.Insert(mixed, (i+1)*130, poisonedBody(t, fmt.Sprint("poisoned ", i)))
			}
			verdicts, refusals := s.deliverAll(t, mixed, 16)
			if verdicts[string(event.Rejected)] != 5 {
				t.Errorf("verdicts %v, want 5 rejected: the poisoned events", verdicts)
			}
			t.Logf("%d refusals; verdicts %v", refusals, verdicts)

			// The appends of a flush meet the same faults, and the counts are right in
			// the end.
			s.flushRepeatedly(t)
			p.set(func(p *bigQueryProxy) { p.fault = nil })
			if diff := cmp.Diff(want.query(t, "SELECT timestamp, page_views FROM windowed_traffic"), windowsInBigQuery(t, settings)); diff != "" {
				t.Errorf("windows (-want +got):\n%s", diff)
			}
			letters := want.query(t, "SELECT 'dead letters', COUNT(*) FROM dead_letters")["dead letters"]
			checkStored(t, settings, messages(t, mixed), int(letters)+5)
			audit, err := s.Auditor().Run(t.Context(), time.Time{}, time.Now())
			if err != nil || !audit.Clean() {
				t.Errorf("audit %+v, %v", audit, err)
			}
		})
	}
}

// An audit does not read partitions older than its first window minus MAX_CLOCK_SKEW and
// a day. The day is for messages that were pushed by hand, whose publish time may be
// after the server's time.
func TestAuditsPruneByTheClockSkewAndADay(t *testing.T) {
	t.Parallel()
	bigQuery := membigquery.New(t)
	rest, grpc := bigQuery.Start(t)
	s := newCloudService(t, map[string]string{
		"backend": "gcp", "google-cloud-project": "p", "firestore-emulator-host": memfirestore.New(time.Now).Start(t),
		"bigquery-emulator-host": rest, "bigquery-storage-emulator-host": grpc, "max-clock-skew": "7m",
	})
	from := time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)
	if _, err := s.Auditor().Run(t.Context(), from, from.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	queries := bigQuery.Queries()
	if want := event.FormatTime(from.Add(-24*time.Hour - 7*time.Minute)); len(queries) == 0 || queries[len(queries)-1].Parameters["earliest"] != want {
		t.Errorf("queries %+v, want the last to begin at %s", queries, want)
	}
}

// An event that is refused alone becomes a dead letter at once. It does not wait for
// other events, since on a quiet pipeline none may come.
func TestAPoisonedEventAloneIsADeadLetterAtOnce(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"storage_write", "insert_all"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := newBigQueryProxy(t)
			settings := cloudSettings(t, p)
			settings["raw-method"] = method
			s := newCloudService(t, settings)
			s.deliverAll(t, testlog.Traffic(t)[:1], 1) // creates the tables
			p.set(func(p *bigQueryProxy) { p.poison = poison })
			body := poisonedBody(t, "poisoned")
			if a := s.push(t, "/push", body); a.code != http.StatusOK || a.Reason != event.Rejected {
				t.Errorf("answered %d, %s, want 200 and a dead letter that is rejected", a.code, a.Reason)
			}
			checkStored(t, settings, messages(t, [][]byte{testlog.Traffic(t)[0], body}), 1)
		})
	}
}

// If a column of the table is missing, no event becomes a dead letter. All pushes are
// refused until the table is repaired. Then all events are stored, by a process that has
// written before and also by one that has not.
func TestADroppedColumnHoldsTheStreamBack(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"storage_write", "insert_all"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := newBigQueryProxy(t)
			settings := cloudSettings(t, p)
			settings["raw-method"], settings["commit-interval"] = method, "1ms"
			s := newCloudService(t, settings)
			started := newCloudService(t, settings)
			bodies := testlog.Traffic(t)[:40]
			s.deliverAll(t, bodies[:1], 1)
			p.set(func(p *bigQueryProxy) { p.dropped = "ip" })
			for _, body := range bodies[1:10] {
				s.refusedFor(t, body, "ADD COLUMN `ip` STRING")
				started.refusedFor(t, body, "ADD COLUMN `ip` STRING")
			}
			p.set(func(p *bigQueryProxy) { p.dropped = "" })
			s.deliverAll(t, bodies[1:20], 16)
			started.deliverAll(t, bodies[20:], 16)
			checkStored(t, settings, messages(t, bodies), 0)
		})
	}
}

// refusedFor pushes the body until it is refused for the given reason. Any answer but 503
// with Retry-After fails the test.
func (s harness) refusedFor(t *testing.T, body []byte, reason string) {
	t.Helper()
	for range 20 {
		response, err := s.client.Post(s.url+"/push", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Error struct{ Message string } }
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			t.Error(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Fatalf("answered %d, %q, want 503 with Retry-After", response.StatusCode, answer.Error.Message)
		}
		if strings.Contains(answer.Error.Message, reason) {
			return
		}
		t.Logf("refused: %s", answer.Error.Message) // for example if the emulator was too slow to look at the table
	}
	t.Errorf("no refusal says %q", reason)
}

// If BigQuery never answers an append, the push is refused in time, so that it comes
// again. A flush ends with an error too. Afterwards everything is stored and counted as
// if this had not happened.
func TestAHangingBigQueryIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	appendsHang := func(p *bigQueryProxy) { p.fault = func(int) fault { return hangs } }
	for _, tc := range []struct {
		name, method string
		hang         func(*bigQueryProxy)
	}{
		{"append", "storage_write", appendsHang},
		{"insert", "insert_all", appendsHang},
		{"opening a stream", "storage_write", func(p *bigQueryProxy) { p.hangsOpen = true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newBigQueryProxy(t)
			settings := cloudSettings(t, p)
			settings["raw-method"] = tc.method
			bodies := testlog.Traffic(t)[:100]
			want := newService(t, t.TempDir(), map[string]string{"counter-retention": "400000h"})
			want.pushAll(t, bodies, 8)
			want.flushAll(t)
			newCloudService(t, settings).deliverAll(t, bodies[:50], 8) // creates the tables, with another service, so that s has no open stream yet
			s := newCloudService(t, settings)

			p.set(tc.hang)
			s.client.Timeout = delivery.AckDeadline             // Pub/Sub waits no longer than this
			s.refusedFor(t, bodies[50], "append 1 rows to raw") // the error must be the append's, and not the handler's, which waits longer
			// This flush would take FLUSH_TIMEOUT, so its caller gives up earlier.
			ctx, leave := context.WithTimeout(t.Context(), time.Second)
			defer leave()
			if report := s.Flush(ctx); len(report.Errors) == 0 || len(report.Windows) != 0 {
				t.Errorf("a flush that cannot append: %+v, want errors and no window", report)
			}
			p.set(func(p *bigQueryProxy) { p.fault, p.hangsOpen = nil, false })

			s.deliverAll(t, bodies[50:], 8)
			s.flushRepeatedly(t)
			if diff := cmp.Diff(want.query(t, "SELECT timestamp, page_views FROM windowed_traffic"), windowsInBigQuery(t, settings)); diff != "" {
				t.Errorf("windows (-want +got):\n%s", diff)
			}
			checkStored(t, settings, messages(t, bodies), int(want.query(t, "SELECT 'dead letters', COUNT(*) FROM dead_letters")["dead letters"]))
			audit, err := s.Auditor().Run(t.Context(), time.Time{}, time.Now())
			if err != nil || !audit.Clean() || len(audit.Waiting) != 0 {
				t.Errorf("audit %+v, %v", audit, err)
			}
		})
	}
}

// Concurrent pushes share appends. A flush makes one append, however many windows it
// writes. If no window is due, it sends nothing.
func TestAppendsAreShared(t *testing.T) {
	t.Parallel()
	p := newBigQueryProxy(t)
	settings := cloudSettings(t, p)
	s := newCloudService(t, settings)
	traffic := testlog.Traffic(t)
	s.deliverAll(t, traffic[:10], 1) // creates the tables
	p.counts()
	_, refused := s.deliverAll(t, traffic[10:1010], 64)
	c := p.counts()
	said := fmt.Sprintf("%d answered appends for 1,000 events with 64 concurrent pushes (%d appends got no answer in time, %d pushes were refused and repeated)",
		c.appends-c.unanswered, c.unanswered, refused)
	if c.appends-c.unanswered > 60 {
		t.Errorf("%s, want at most 60", said)
	}
	t.Log(said)
	windows, runs := s.flushRepeatedly(t)
	c = p.counts()
	if n := c.appends - c.unanswered; n < 1 || n > runs || len(windows) < 10 {
		t.Errorf("%d flushes of %d windows made %d appends that were answered, and %d that were not, want 1 for each flush", runs, len(windows), n, c.unanswered)
	}
	s.flushRepeatedly(t)
	if c := p.counts(); c.requests != 0 {
		t.Errorf("a flush with nothing due made %d requests, want none", c.requests)
	}
}
