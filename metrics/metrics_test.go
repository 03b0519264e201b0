package metrics

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// A clock stands still until a test moves it.
type clock struct{ time.Time }

func (c *clock) now() time.Time          { return c.Time }
func (c *clock) advance(d time.Duration) { c.Time = c.Add(d) }

func newMetrics() (*Metrics, *clock) {
	c := &clock{time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)}
	return New(c.now), c
}

// scrape returns the body of GET /metrics.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("GET /metrics: %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// samples returns Tidemark's own series with their values, read from a scrape. Their
// names are without the prefix.
func samples(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for line := range strings.Lines(scrape(t, m)) {
		line, own := strings.CutPrefix(strings.TrimSpace(line), prefix)
		if !own {
			continue
		}
		cut := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			t.Fatalf("sample %q: %v", line, err)
		}
		values[line[:cut]] = value
	}
	return values
}

// moved returns the series that are not zero, except for the buckets of histograms.
func moved(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	values := samples(t, m)
	for series, value := range values {
		if value == 0 || strings.Contains(series, "_bucket{") {
			delete(values, series)
		}
	}
	return values
}

// expect fails the test unless exactly these series are not zero, with these values.
func expect(t *testing.T, m *Metrics, want map[string]float64) {
	t.Helper()
	if diff := cmp.Diff(want, moved(t, m)); diff != "" {
		t.Errorf("series that moved (-want +got)\n%s", diff)
	}
}

func TestEverySeriesIsZeroAtFirst(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	expect(t, m, map[string]float64{})
}

func TestEveryLabelValueIsThereFromTheStart(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	got := samples(t, m)
	want := []string{
		`messages_total{reason="",verdict="counted"}`, `messages_total{reason="",verdict="late"}`,
		`flushes_total{outcome="ok"}`, `flushes_total{outcome="failed"}`,
	}
	for _, reason := range []string{
		"empty", "bad_utf8", "bad_json", "not_an_object", "missing_field", "wrong_type",
		"bad_time", "too_far_ahead", "missing_attribute", "missing_id", "ambiguous_metadata", "rejected", "panic",
	} {
		want = append(want, `messages_total{reason="`+reason+`",verdict="dead_letter"}`)
	}
	for _, cause := range []string{"queue_full", "closed", "panic", "storage", "canceled"} {
		want = append(want, `message_failures_total{cause="`+cause+`"}`)
	}
	for _, step := range []string{"raw", "dead_letter", "count", "aggregate"} {
		want = append(want, `batch_rows_count{step="`+step+`"}`)
		for _, outcome := range []string{"ok", "refused", "misconfigured", "failed"} {
			want = append(want, `commit_seconds_count{outcome="`+outcome+`",step="`+step+`"}`)
		}
	}
	for _, query := range []string{"count_raw", "audit", "raw_rows", "dead_letters"} {
		want = append(want, `bigquery_scanned_bytes_total{query="`+query+`"}`)
	}
	for _, series := range want {
		if _, ok := got[series]; !ok {
			t.Errorf("no series %s", series)
		}
	}
	labeled := 0
	for series := range got {
		if strings.Contains(series, "{") && !strings.Contains(series, "_bucket{") && !strings.Contains(series, "_sum{") {
			labeled++
		}
	}
	if labeled != len(want) {
		t.Errorf("%d series with labels, want %d", labeled, len(want))
	}
}

func TestNamesAndHelpsAreAsPrometheusWantsThem(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, prefix) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestDescriptionsAreOfAllMetricsOfOurOwn(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	var got []string
	for _, d := range descriptions(t, m) {
		got = append(got, d.Type+" "+d.Name+" "+strings.Join(d.Labels, ","))
		if !strings.HasSuffix(d.Help, ".") && !strings.HasSuffix(d.Help, ").") {
			t.Errorf("%s: help %q is not a sentence", d.Name, d.Help)
		}
		// A scrape must show the same help and type as the description.
		if !strings.Contains(scrape(t, m), "# HELP "+d.Name+" "+d.Help+"\n# TYPE "+d.Name+" "+d.Type+"\n") {
			t.Errorf("%s is not scraped as it is described: %+v", d.Name, d)
		}
	}
	want := []string{
		"histogram tidemark_batch_rows step",
		"counter tidemark_bigquery_scanned_bytes_total query",
		"histogram tidemark_commit_seconds outcome,step",
		"gauge tidemark_firestore_clock_ahead_seconds ",
		"counter tidemark_flush_errors_total ",
		"gauge tidemark_flush_last_success_timestamp_seconds ",
		"histogram tidemark_flush_seconds ",
		"gauge tidemark_flush_windows_held ",
		"gauge tidemark_flush_windows_remaining ",
		"counter tidemark_flush_windows_total ",
		"counter tidemark_flushes_total outcome",
		"counter tidemark_message_failures_total cause",
		"counter tidemark_messages_total reason,verdict",
		"histogram tidemark_publish_to_stored_seconds ",
		"gauge tidemark_queue_length ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTheRuntimeAndTheProcessAreScrapedToo(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	body := scrape(t, m)
	for _, name := range []string{"go_goroutines", "process_cpu_seconds_total"} {
		if !strings.Contains(body, "\n"+name+" ") {
			t.Errorf("no metric %s", name)
		}
	}
}

func TestQueueLengthIsAskedForAtEachScrape(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	length := 0
	m.QueueLength(func() int { return length })
	for _, length = range []int{7, 3} {
		expect(t, m, map[string]float64{"queue_length": float64(length)})
	}
}

func TestNoCountIsLostWhenAllIsUsedAtOnce(t *testing.T) {
	t.Parallel()
	const workers, rounds = 8, 50
	m := New(time.Now)
	store := &stubWarehouse{}
	submits := m.Submitter(submitFunc(func(_ context.Context, _ event.Message, v event.Verdict) (event.Verdict, error) {
		if v.Status == event.Late {
			return v, errors.New("away")
		}
		return v, nil
	}))
	rows, keys := m.Warehouse(store), m.Counter(store)
	run := m.Flush(func(context.Context) flush.Report { return flush.Report{Windows: make([]flush.Window, 1)} })

	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for range rounds {
				_, _ = submits.Submit(t.Context(), event.Message{}, event.Verdict{Status: event.Counted})
				_, _ = submits.Submit(t.Context(), event.Message{}, event.Verdict{Status: event.Late})
				_ = rows.AppendRaw(t.Context(), make([]warehouse.RawRow, 2))
				_ = keys.Add(t.Context(), []windowstore.Increment{{Keys: make([]windowstore.Key, 3)}})
				run(t.Context())
			}
			m.QueueLength(func() int { return 1 })
			if _, err := m.registry.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()

	const n = workers * rounds
	got := moved(t, m)
	for series, want := range map[string]float64{
		`messages_total{reason="",verdict="counted"}`:   n,
		`message_failures_total{cause="storage"}`:       n,
		`batch_rows_sum{step="raw"}`:                    2 * n,
		`batch_rows_sum{step="count"}`:                  3 * n,
		`commit_seconds_count{outcome="ok",step="raw"}`: n,
		`flush_windows_total`:                           n,
		`flushes_total{outcome="ok"}`:                   n,
		`queue_length`:                                  1,
	} {
		if got[series] != want {
			t.Errorf("%s is %v, want %v", series, got[series], want)
		}
	}
}
