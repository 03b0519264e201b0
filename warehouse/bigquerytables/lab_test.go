package bigquerytables_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/internal/test/emulator"
	"github.com/tidemark-dev/tidemark/internal/test/warehousetest"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// These are the queries of the lab "Streaming Analytics": the traffic of each minute, and
// how far processing is behind the events.
const (
	trafficQuery = "SELECT timestamp, page_views FROM logs.windowed_traffic ORDER BY timestamp"

	lagQuery = `SELECT
  UNIX_MILLIS(TIMESTAMP(event_timestamp)) - first.millis AS event_millis,
  UNIX_MILLIS(TIMESTAMP(processing_timestamp)) - first.millis AS processing_millis,
  user_id,
  CAST(UNIX_MILLIS(TIMESTAMP(event_timestamp)) - first.millis AS STRING) AS label
FROM logs.raw
CROSS JOIN (
  SELECT MIN(UNIX_MILLIS(TIMESTAMP(event_timestamp))) AS millis
  FROM logs.raw
  WHERE event_timestamp IS NOT NULL) AS first
WHERE event_timestamp IS NOT NULL
ORDER BY event_millis`
)

// labStart is the start of the first window of the lab's tables.
var labStart = time.Date(2026, time.March, 14, 9, 26, 0, 0, time.UTC)

// labTables creates tables with two events and two windows. One event came 2.5 seconds
// late. One window was also written before it was final.
func labTables(t *testing.T) bigquerytables.Config {
	t.Helper()
	cfg := emulated(t, bigquerytables.StorageWrite)
	w := open(t, cfg)
	var rows []warehouse.RawRow
	for i, lag := range []time.Duration{250 * time.Millisecond, 2500 * time.Millisecond} {
		at := labStart.Add(time.Duration(i) * time.Minute)
		rows = append(rows, warehouse.RawRow{
			Event:          accesslog.Record{UserID: "-6120394857710293846", Timestamp: at, HTTPRequest: `"GET fungi.html HTTP/1.0"`, HTTPResponse: 200, NumBytes: 287}.Event(),
			ProcessingTime: at.Add(lag), EventID: "1", MessageID: "1", PublishTime: at, WindowStart: at,
		})
	}
	if err := w.AppendRaw(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	counts := []warehouse.WindowCount{
		{Start: labStart.Add(time.Minute), End: labStart.Add(2 * time.Minute), PageViews: 1, Final: true, WrittenAt: labStart},
		{Start: labStart, End: labStart.Add(time.Minute), PageViews: 2, WrittenAt: labStart},
		{Start: labStart, End: labStart.Add(time.Minute), PageViews: 3, Final: true, WrittenAt: labStart},
	}
	if err := w.AppendCounts(t.Context(), counts); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// The lab's queries return what they would return after the lab's own pipeline.
func TestTheLabsQueriesRunUnchanged(t *testing.T) {
	t.Parallel()
	read := query(labTables(t))
	for sql, want := range map[string][]warehousetest.Row{
		trafficQuery: {
			{"timestamp": labStart, "page_views": int64(3)},
			{"timestamp": labStart.Add(time.Minute), "page_views": int64(1)},
		},
		lagQuery: {
			{"event_millis": int64(0), "processing_millis": int64(250), "user_id": "-6120394857710293846", "label": "0"},
			{"event_millis": int64(60_000), "processing_millis": int64(62_500), "user_id": "-6120394857710293846", "label": "60000"},
		},
	} {
		rows, err := read(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, rows); diff != "" {
			t.Errorf("%s (-want +got)\n%s", sql, diff)
		}
	}
}

// bq, with which the lab reads its tables, can read these tables.
func TestBqReadsTheTables(t *testing.T) {
	t.Parallel()
	cfg := labTables(t)
	bq := bqCommand(t, cfg)
	for _, test := range []struct {
		args    []string
		columns []string // the columns of the answer that are compared, since bq prints times in its own way
		want    []map[string]string
	}{
		{[]string{"query", "--nouse_legacy_sql", trafficQuery}, []string{"page_views"}, []map[string]string{{"page_views": "3"}, {"page_views": "1"}}},
		{[]string{"query", "--nouse_legacy_sql", lagQuery}, []string{"event_millis", "processing_millis", "label"}, []map[string]string{
			{"event_millis": "0", "processing_millis": "250", "label": "0"}, {"event_millis": "60000", "processing_millis": "62500", "label": "60000"},
		}},
		{[]string{"head", "logs.raw"}, []string{"user_id", "http_request", "num_bytes"}, []map[string]string{
			{"user_id": "-6120394857710293846", "http_request": `"GET fungi.html HTTP/1.0"`, "num_bytes": "287"},
			{"user_id": "-6120394857710293846", "http_request": `"GET fungi.html HTTP/1.0"`, "num_bytes": "287"},
		}},
		{[]string{"head", "logs.windowed_traffic_log"}, []string{"page_views"}, []map[string]string{{"page_views": "1"}, {"page_views": "2"}, {"page_views": "3"}}},
	} {
		var rows []map[string]string
		if err := json.Unmarshal(bq(test.args...), &rows); err != nil {
			t.Fatalf("bq %q: %v", test.args, err)
		}
		var got []map[string]string
		for _, row := range rows {
			picked := map[string]string{}
			for _, column := range test.columns {
				picked[column] = row[column]
			}
			got = append(got, picked)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("bq %q (-want +got)\n%s", test.args, diff)
		}
	}
}

// bqCommand returns a function that runs bq on the emulator. bq needs Google's
// description of the API, which is installed with bq. In the description, the address is
// replaced by that of the emulator.
func bqCommand(t *testing.T, cfg bigquerytables.Config) func(args ...string) (json []byte) {
	t.Helper()
	bq, sdk := emulator.CloudCLI(t, "bq")
	description, err := os.ReadFile(filepath.Join(sdk, "platform/bq/discovery_next/bigquery.json"))
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	file, token := filepath.Join(home, "bigquery.json"), filepath.Join(home, "token")
	mine := strings.ReplaceAll(string(description), "https://bigquery.googleapis.com/", "http://"+cfg.RESTHost+"/")
	for name, text := range map[string]string{file: mine, token: "none is asked for"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), bq, append([]string{
			"--api", "http://" + cfg.RESTHost, "--discovery_file", file, "--project_id", cfg.Project, "--format", "json", "--quiet",
		}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+home, "CLOUDSDK_CONFIG="+home, "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE="+token, "CLOUDSDK_CORE_DISABLE_PROMPTS=1")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("bq %q: %v\n%s%s", args, err, out, stderr.String())
		}
		return out
	}
}
