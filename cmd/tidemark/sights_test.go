package main

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-dev/tidemark/settings"
)

// A sight shows from outside what a setting does: what it sees differs between two values
// of the setting. Words in capitals, for example DIR or REST1, stand for what [newPlace]
// creates.
type sight struct {
	setting string
	shows   string    // what it shows, in words
	values  [2]string // two values of the setting; an empty one is the default
	with    []string  // other settings, as NAME=VALUE
	see     func(t *testing.T, p *place) string
	want    [2]string
}

// Settings for services that keep everything in the cloud, and that run there.
var (
	cloud   = []string{"BACKEND=gcp", "GOOGLE_CLOUD_PROJECT=my-project", "RAW_METHOD=insert_all", "FIRESTORE_EMULATOR_HOST=FIRESTORE1", "BIGQUERY_EMULATOR_HOST=REST1", "BIGQUERY_STORAGE_EMULATOR_HOST=STORAGE1"}
	onCloud = append(slices.Clone(cloud), "K_SERVICE=tidemark", "AUDIENCE=https://a", "PUSH_CALLERS=a@x.y", "FLUSH_CALLERS=a@x.y", "VIEW_CALLERS=a@x.y")
)

// sights has at least one sight for every setting. If you add a setting, add a sight for it.
var sights = []sight{
	{"BACKEND", "rows go to BigQuery", [2]string{"local", "gcp"}, cloud, asked(`(/datasets/)`), [2]string{"", "/datasets/"}},
	{"BACKEND", "an unwrapped push must have a message id", [2]string{"local", "gcp"}, cloud, answered("POST /push/raw", "no event"), [2]string{"200", "400"}},
	{"BACKEND", "counts go to Firestore", [2]string{"local", "gcp"}, cloud, asked(`FIRESTORE1 .*(counter_shards)`), [2]string{"", "counter_shards"}},
	{"BACKEND", "batches wait where each write is billed", [2]string{"local", "gcp"}, cloud, logged(`"COMMIT_INTERVAL":"(\w+)"`), [2]string{"1ms", "200ms"}},
	{"PORT", "the port", [2]string{"PORT1", "PORT2"}, nil, logged(`"http://127.0.0.1:(\d+)"`), [2]string{"PORT1", "PORT2"}},
	{"HOST", "the address that others may reach", [2]string{"", "0.0.0.0"}, nil, logged(`"address":"(.+):\d+"`), [2]string{"", "[::]"}},
	{"DATA_DIR", "where the files are", [2]string{"DIR/one", "DIR/two"}, nil, found("*/warehouse.db"), [2]string{"DIR/one/warehouse.db", "DIR/two/warehouse.db"}},
	{"GOOGLE_CLOUD_PROJECT", "the project of the rows", [2]string{"my-project", "my-other"}, cloud, asked(`/projects/([\w-]+)/datasets`), [2]string{"my-project", "my-other"}},
	{"GOOGLE_CLOUD_PROJECT", "the project of the counters", [2]string{"my-project", "my-other"}, cloud, asked(`projects/([\w-]+)/databases`), [2]string{"my-project", "my-other"}},
	{"BIGQUERY_LOCATION", "where the dataset is made", [2]string{"", "EU"}, cloud, asked(`"location":"(\w+)"`), [2]string{"US", "EU"}},
	{"FIRESTORE_DATABASE", "the database of the counters", [2]string{"", "other"}, cloud, asked(`databases/([^/" ]+)`), [2]string{"(default)", "other"}},
	{"PIPELINE_FILE", "the columns of the rows", [2]string{"", ordersFile}, nil, stored("warehouse.db", "SELECT count(*) FROM pragma_table_info('orders_raw') WHERE name = 'order_id'"), [2]string{"0", "1"}},
	{"PIPELINE", "the pipeline on record", [2]string{"", "other"}, nil, stored("counters.db", "SELECT name FROM pipelines"), [2]string{"minute-traffic", "other"}},
	{"PIPELINE", "the place of the counters", [2]string{"", "other"}, cloud, asked(`pipelines/([\w-]+)/counter_shards`), [2]string{"minute-traffic", "other"}},
	{"DATASET", "the dataset of the rows", [2]string{"", "other"}, cloud, asked(`/datasets/(\w+)/tables`), [2]string{"logs", "other"}},
	{"DATASET", "the tables on record, which are no other pipeline's", [2]string{"", "other"}, cloud, asked(`"(\w+)\.raw"`), [2]string{"logs", "other"}},
	{"RAW_TABLE", "the table of the rows", [2]string{"", "other"}, nil, stored("warehouse.db", "SELECT event_id FROM other"), [2]string{"no such table: other", "1"}},
	{"RAW_TABLE", "the table of the rows, on record", [2]string{"", "other"}, nil, stored("counters.db", "SELECT raw_table FROM pipelines"), [2]string{"raw", "other"}},
	{"AGG_TABLE", "the view of the windows", [2]string{"", "other"}, nil, stored("warehouse.db", "SELECT page_views FROM other"), [2]string{"no such table: other", "1"}},
	{"AGG_TABLE", "the view of the windows, on record", [2]string{"", "other"}, nil, stored("counters.db", "SELECT agg_table FROM pipelines"), [2]string{"windowed_traffic", "other"}},
	{"DEAD_LETTER_TABLE", "the table of the dead letters", [2]string{"", "other"}, nil, stored("warehouse.db", "SELECT reason FROM other"), [2]string{"no such table: other", "bad_json"}},
	{"WINDOW_DURATION", "the window of an event", [2]string{"", "1h"}, nil, verdict("window_start", message{happened: 59 * time.Minute, published: 59 * time.Minute}), [2]string{"2000-01-01T00:59:00.000000Z", "2000-01-01T00:00:00.000000Z"}},
	{"WINDOW_DURATION", "how long windows are, on record", [2]string{"", "1h"}, nil, stored("counters.db", "SELECT window_duration FROM pipelines"), [2]string{"60000000000", "3600000000000"}},
	{"ALLOWED_LATENESS", "how late is late", [2]string{"", "29s"}, nil, verdict("status", message{published: 90 * time.Second}), [2]string{"counted", "late"}},
	{"MAX_CLOCK_SKEW", "how far ahead is too far", [2]string{"", "3m"}, nil, verdict("reason", message{happened: 4 * time.Minute}), [2]string{"", "too_far_ahead"}},
	{"MAX_CLOCK_SKEW", "from when on an audit reads rows, with a day of slack", [2]string{"", "3m"}, cloud, askedByAudit(`"earliest".*"(2000-01-0[12][^"]*)"`), [2]string{"2000-01-01 23:55:00+00:00", "2000-01-01 23:57:00+00:00"}},
	{"EVENT_TIME", "the time that counts", [2]string{"", "publish"}, nil, verdict("event_time", message{published: time.Minute}), [2]string{"2000-01-01T00:00:00.000000Z", "2000-01-01T00:01:00.000000Z"}},
	{"EVENT_TIME", "the time that counts, on record", [2]string{"", "publish"}, nil, stored("counters.db", "SELECT event_time FROM pipelines"), [2]string{"payload", "publish"}},
	{"EVENT_ID", "the id that counts", [2]string{"", "attribute:order"}, nil, verdict("event_id", message{attributes: map[string]string{"order": "7"}}), [2]string{"1", "7"}},
	{"EVENT_ID", "the id that counts, on record", [2]string{"", "attribute:order"}, nil, stored("counters.db", "SELECT event_id FROM pipelines"), [2]string{"message", "attribute:order"}},
	{"EMIT", "a window that has ended and is not due", [2]string{"", "early"}, nil, flushed(90*time.Second, message{}), [2]string{"0 windows, 0 final, 0 remaining", "1 windows, 0 final, 0 remaining"}},
	{"COMMIT_INTERVAL", "when the next batch leaves", [2]string{"", "5s"}, nil, burst(1), [2]string{"200 after 1ms", "200 after 5s"}},
	{"FLUSH_QUIET", "when a window is final", [2]string{"", "1m"}, nil, finalAfter(message{}, false), [2]string{"3m10s", "4m0s"}},
	{"FLUSH_QUIET", "when a window is audited", [2]string{"", "1m"}, nil, auditedAfter("waiting", message{}), [2]string{"3m10s", "4m0s"}},
	{"FLUSH_HOLD_MAX", "when a window is final that is always written to", [2]string{"", "1m"}, nil, finalAfter(message{happened: -time.Hour, published: -time.Hour}, true), [2]string{"10m0s", "1m0s"}},
	{"FLUSH_HOLD_MAX", "when a window that nobody flushes is a difference", [2]string{"", "1m"}, nil, auditedAfter("lower", message{happened: -time.Hour, published: -time.Hour}), [2]string{"15m5s", "6m5s"}},
	{"FLUSH_MAX_WINDOWS", "how many windows a flush writes", [2]string{"", "1"}, nil, flushed(time.Hour, message{}, message{happened: time.Minute, published: time.Minute}), [2]string{"2 windows, 2 final, 0 remaining", "1 windows, 1 final, 1 remaining"}},
	{"FLUSH_TIMEOUT", "how long a flush waits for the tables", [2]string{"5s", "20s"}, nil, waitsForTables("POST /flush"), [2]string{"5s", "20s"}},
	{"FLUSH_TIMEOUT", "how long a repair waits for the tables", [2]string{"5s", "20s"}, nil, waitsForTables("POST /audit"), [2]string{"5s", "20s"}},
	{"COUNTER_RETENTION", "the counters that are left after two hours", [2]string{"", "1h"}, nil, shardsLeftAfter(2 * time.Hour), [2]string{"1", "0"}},
	{"RAW_METHOD", "how rows are appended", [2]string{"", "insert_all"}, cloud, asked(`(insertAll|WriteStream)`), [2]string{"WriteStream", "insertAll"}},
	{"MAX_BODY", "the largest body", [2]string{"", "15MB"}, nil, answered("POST /push/raw", strings.Repeat("x", 14<<20+1)), [2]string{"413", "200"}},
	{"MAX_BODY", "the room for all bodies in flight", [2]string{"", "28MB"}, nil, refusedInFlight(17, 9<<20), [2]string{"1 of 17", "0 of 17"}},
	{"QUEUE_LENGTH", "whether a second message may wait", [2]string{"", "1"}, []string{"COMMIT_INTERVAL=5s"}, burst(2), [2]string{"200 after 5s, 200 after 5s", "200 after 5s, 503 after 0s"}},
	{"BATCH_ROWS", "whether two messages are a batch", [2]string{"", "2"}, []string{"COMMIT_INTERVAL=5s"}, burst(2), [2]string{"200 after 5s, 200 after 5s", "200 after 0s, 200 after 0s"}},
	{"BATCH_BYTES", "whether a message is a batch", [2]string{"", "1B"}, []string{"COMMIT_INTERVAL=5s"}, burst(1), [2]string{"200 after 5s", "200 after 0s"}},
	{"AUTH", "whether a signature is checked here", [2]string{"", "oidc"}, onCloud, answered("POST /push?dry_run=1", "{}", token("https://a", "a@x.y")), [2]string{"400", "401"}},
	{"AUDIENCE", "for whom tokens are", [2]string{"https://a", "https://b"}, onCloud, answered("POST /push?dry_run=1", "{}", token("https://a", "a@x.y")), [2]string{"400", "401"}},
	{"PUSH_CALLERS", "who may push", [2]string{"a@x.y", "b@x.y"}, onCloud, answered("POST /push?dry_run=1", "{}", token("https://a", "a@x.y")), [2]string{"400", "403"}},
	{"FLUSH_CALLERS", "who may flush", [2]string{"a@x.y", "b@x.y"}, onCloud, answered("POST /flush", "", token("https://a", "a@x.y")), [2]string{"200", "403"}},
	{"VIEW_CALLERS", "who may read", [2]string{"a@x.y", "b@x.y"}, onCloud, answered("GET /metrics", "", token("https://a", "a@x.y")), [2]string{"200", "403"}},
	{"ALLOWED_HOSTS", "by which names pages may read", [2]string{"", "a.test"}, nil, answered("GET /metrics", "", "Host: a.test"), [2]string{"403", "200"}},
	{"LOG_LEVEL", "a line of a probe", [2]string{"", "debug"}, nil, logged(`"path":"(/health)"`), [2]string{"", "/health"}},
	{"LOG_LEVEL", "a line of a probe, as text", [2]string{"", "debug"}, []string{"LOG_FORMAT=text"}, logged(`path=(/health)`), [2]string{"", "/health"}},
	{"LOG_FORMAT", "the form of lines", [2]string{"json", "text"}, nil, logged(`(?m)^(\{"|time=)`), [2]string{`{"`, "time="}},
	{"FIRESTORE_EMULATOR_HOST", "whom the counters go to", [2]string{"FIRESTORE1", "FIRESTORE2"}, cloud, asked(`(FIRESTORE.) `), [2]string{"FIRESTORE1", "FIRESTORE2"}},
	{"PUBSUB_EMULATOR_HOST", "whom generate publishes to", [2]string{"STORAGE1", "STORAGE2"}, nil, published, [2]string{"STORAGE1", "STORAGE2"}},
	{"BIGQUERY_EMULATOR_HOST", "whom BigQuery's tables are made by", [2]string{"REST1", "REST2"}, cloud, asked(`(REST.) `), [2]string{"REST1", "REST2"}},
	{"BIGQUERY_STORAGE_EMULATOR_HOST", "whom rows are appended by", [2]string{"STORAGE1", "STORAGE2"}, append(slices.Clone(cloud), "RAW_METHOD=storage_write"), asked(`(STORAGE.) `), [2]string{"STORAGE1", "STORAGE2"}},
}

// Every setting must have an effect that can be seen.
func TestEverySettingIsSeenFromOutside(t *testing.T) {
	t.Parallel()
	unseen := map[string]bool{}
	for _, s := range settings.Table() {
		unseen[s.Name] = true
	}
	for _, s := range sights {
		delete(unseen, s.setting)
		if s.want[0] == s.want[1] {
			t.Errorf("%s: nothing differs: %s", s.setting, s.shows)
		}
		t.Run(s.setting+"/"+s.shows, func(t *testing.T) {
			t.Parallel()
			for i, value := range s.values {
				p := newPlace(t, append(slices.Clone(s.with), s.setting+"="+value))
				if got, want := s.see(t, p), p.fill(s.want[i]); got != want {
					t.Errorf("%s=%s: %s: %q, want %q", s.setting, value, s.shows, got, want)
				}
			}
		})
	}
	for name := range unseen {
		t.Errorf("no sight shows what %s does: add a row to sights that shows a difference between two of its values", name)
	}
}

// Every part of the service must count what it does in the metrics.
func TestEveryPartIsMeasured(t *testing.T) {
	t.Parallel()
	virtually(func(t *testing.T, s running) string {
		s.push(t, message{})
		s.ask("POST /push/raw", strings.NewReader("no event"))
		s.ask("POST /push", strings.NewReader("no envelope"))
		time.Sleep(time.Hour)
		s.flush(t)
		var waiting sync.WaitGroup
		for i := range 3 { // the first batch is written at once
			waiting.Go(func() { s.push(t, message{id: strconv.Itoa(2 + i)}) })
			synctest.Wait()
		}
		metrics := string(s.ask("GET /metrics", nil).body)
		waiting.Wait()
		for _, line := range []string{
			`messages_total{reason="",verdict="counted"} 2`,
			`messages_total{reason="bad_json",verdict="dead_letter"} 1`,
			`publish_to_stored_seconds_count 2`,
			`commit_seconds_count{outcome="ok",step="raw"} 2`,
			`commit_seconds_count{outcome="ok",step="dead_letter"} 1`,
			`commit_seconds_count{outcome="ok",step="count"} 2`,
			`commit_seconds_count{outcome="ok",step="aggregate"} 1`,
			`flushes_total{outcome="ok"} 1`,
			`flush_windows_total 1`,
			`queue_length 2`,
		} {
			if !strings.Contains(metrics, "\ntidemark_"+line+"\n") {
				t.Errorf("the metrics have no line %s:\n%s", line, metrics)
			}
		}
		return ""
	})(t, newPlace(t, []string{"COMMIT_INTERVAL=5s"}))
}

const ordersFile = `
name: orders
event:
  time: created_at
  fields:
    - {name: order_id, type: STRING}
    - {name: created_at, type: TIMESTAMP, mode: REQUIRED}
aggregate:
  columns:
    - {name: orders, count: true}
`
