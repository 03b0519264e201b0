// Package docs_test checks that docs/cost.md is right. It measures again what the page
// says was measured, and computes the page's tables again from these figures and the
// prices.
//
//	go test ./docs -update    # writes the figures and tables into the page
package docs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/internal/lab/generator"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
	"github.com/tidemark-dev/tidemark/windowstore"
)

var update = flag.Bool("update", false, "write the figures of cost.md again")

// A price is in dollars for each unit beyond those that are free in a month.
type price struct {
	what   string
	of     string // the unit
	each   float64
	free   float64 // units for each month
	shown  string  // how the page writes price and free units
	source string
}

const (
	gib   = 1 << 30
	tib   = 1 << 40
	month = 30 * 24 * 3600 // seconds
)

var (
	// Publishing uses the other half of the 10 GiB.
	pubsubByte     = price{"Pub/Sub, delivery", "byte", 40.0 / tib, 5 * gib, "$40 a TiB, 1 KiB a request at least; 10 GiB free, of which publishing takes half", "https://cloud.google.com/pubsub/pricing"}
	runRequest     = price{"Cloud Run, requests", "request", 0.40 / 1e6, 2e6, "$0.40 a million; 2 million free", "https://cloud.google.com/run/pricing"}
	runCPU         = price{"Cloud Run, processor", "second of one", 0.000024, 180_000, "$0.000024 a vCPU-second; 180,000 free", "https://cloud.google.com/run/pricing"}
	runMemory      = price{"Cloud Run, memory", "second of 1 GiB", 0.0000025, 360_000, "$0.0000025 a GiB-second; 360,000 free", "https://cloud.google.com/run/pricing"}
	instanceCPU    = price{"the same, billed by instance", "second of one", 0.000018, 240_000, "$0.000018 a vCPU-second; 240,000 free; no price for requests", "https://cloud.google.com/run/pricing"}
	instanceMemory = price{"the same, billed by instance", "second of 1 GiB", 0.000002, 450_000, "$0.000002 a GiB-second; 450,000 free (not confirmed)", "https://cloud.google.com/run/pricing"}
	docRead        = price{"Firestore, reads", "document", 0.03 / 1e5, 30 * 50_000, "$0.03 for 100,000; 50,000 a day free", "https://cloud.google.com/firestore/pricing"}
	docWrite       = price{"Firestore, writes", "document", 0.09 / 1e5, 30 * 20_000, "$0.09 for 100,000; 20,000 a day free", "https://cloud.google.com/firestore/pricing"}
	docDelete      = price{"Firestore, deletes by TTL", "document", 0.01 / 1e5, 0, "$0.01 for 100,000; none free", "https://cloud.google.com/firestore/docs/ttl"}
	appendByte     = price{"BigQuery, Storage Write API", "byte", 0.025 / gib, 2 * tib, "$0.025 a GiB; 2 TiB free", "https://cloud.google.com/bigquery/pricing"}
	storedByte     = price{"BigQuery, storage", "byte for a month", 0.02 / gib, 10 * gib, "$0.02 a GiB for a month; 10 GiB free (not confirmed)", "https://cloud.google.com/bigquery/pricing"}
	scannedByte    = price{"BigQuery, queries", "byte", 6.25 / tib, tib, "$6.25 a TiB, 10 MB a table at least; 1 TiB free", "https://cloud.google.com/bigquery/pricing"}
	loggedByte     = price{"Cloud Logging", "byte", 0.50 / gib, 50 * gib, "$0.50 a GiB; 50 GiB free", "https://cloud.google.com/stackdriver/pricing"}
	job            = price{"Cloud Scheduler", "job", 0.10, 3, "$0.10 a job; 3 free (not confirmed)", "https://cloud.google.com/scheduler/pricing"}
	condition      = price{"Cloud Monitoring, alerts", "condition", 0.10, 0, "$0.10 a condition (announced; not confirmed)", "https://cloud.google.com/stackdriver/pricing"}
	series         = price{"Cloud Monitoring, what alerts read", "series", 0.35 / 1e6, 0, "$0.35 a million series (announced; not confirmed)", "https://cloud.google.com/stackdriver/pricing"}
)

var prices = []price{pubsubByte, runRequest, runCPU, runMemory, instanceCPU, instanceMemory, docRead, docWrite, docDelete,
	appendByte, storedByte, scannedByte, loggedByte, job, condition, series}

func (p price) cost(units float64) float64 { return max(0, units-p.free) * p.each }

// These figures cannot be measured by a test.
const (
	appendTime = 100 * time.Millisecond // an append of rows to BigQuery
	commitTime = 50 * time.Millisecond  // a commit of counts to Firestore
	flushTime  = 500 * time.Millisecond // a flush
	busy       = 0.6                    // the share of an instance's concurrency that Cloud Run uses before it starts another
	slots      = 250                    // var.concurrency
	entryBytes = 1024                   // a small log entry of Cloud Scheduler, or what Cloud Logging adds to a line of ours
)

// The price of Dataflow: one n1-standard-2 with 30 GB of disk, and Streaming Engine.
const (
	dataflowHour = 2*0.069 + 7.5*0.0035557 + 30*0.000054
	dataflowByte = 0.018 / 1e9
)

// rates are the columns of the page, in events a second.
var rates = []float64{0, 0.1, 2, 100, 1000}

// greatest is the greatest rate that is measured. At higher rates an instance works as it
// does at this rate.
const greatest = 200.0

// An instance is what one instance does at a rate.
type instance struct {
	billed  float64 // the share of the time that is paid for
	latency time.Duration
	appends float64 // for each 1,000 events
}

// measure sends the generator's stream to the group commit, in virtual time, with a flush
// and a probe each minute. It measures for how long a request is open.
func measure(t *testing.T, rate float64, duration time.Duration) (m instance) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := &wait{}
		c := newCommitter(w)
		clock := &billing{}
		var latency time.Duration
		var events int
		var requests sync.WaitGroup
		open := func(request func()) {
			requests.Go(func() {
				defer clock.open()()
				request()
			})
		}
		if rate > 0 {
			deliveries, err := generator.Simulate(t.Context(), generator.Config{
				Users: max(10, int(rate*5)), Rate: 60 * rate, Seed: 1, Duration: duration, Start: began,
			}, began)
			if err != nil {
				t.Fatal(err)
			}
			requests.Go(func() {
				for d := range deliveries {
					time.Sleep(time.Until(d.At))
					events++
					open(func() {
						start := time.Now()
						submit(t, c, d.Message)
						clock.mu.Lock()
						latency += time.Since(start)
						clock.mu.Unlock()
					})
				}
			})
		}
		for at := time.Duration(0); at < duration; at += time.Minute {
			time.Sleep(time.Until(began.Add(at)))
			open(func() { time.Sleep(flushTime) })
			time.Sleep(30 * time.Second)
			open(func() { time.Sleep(time.Millisecond) }) // stands for a probe
		}
		requests.Wait()
		m.billed = min(1, clock.billed.Seconds()/time.Since(began).Seconds())
		if events > 0 {
			m.latency = latency / time.Duration(events)
			m.appends = 1000 * float64(w.appends) / float64(events)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// billing adds up the time in which at least one request is open. Each such stretch is
// rounded up to 100 ms, as Cloud Run does.
type billing struct {
	mu     sync.Mutex
	n      int
	from   time.Time
	paid   time.Time // the end of the time that is paid already
	billed time.Duration
}

func (b *billing) open() (done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n++; b.n == 1 {
		b.from = time.Now()
		if b.paid.After(b.from) {
			b.from = b.paid
		}
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.n--; b.n == 0 && time.Now().After(b.from) {
			const step = 100 * time.Millisecond
			stretch := (time.Since(b.from) + step - 1) / step * step
			b.billed += stretch
			b.paid = b.from.Add(stretch)
		}
	}
}

func newCommitter(w *wait) *ingest.Committer {
	return ingest.New(ingest.Config{
		Warehouse: w, Counter: w, IDKind: "message",
		Interval: 200 * time.Millisecond, QueueLength: 10_000, QueueBytes: 1 << 30, BatchRows: 1000, BatchBytes: 4 << 20,
		StepTimeout: 10 * time.Second, Now: time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

var classifier = event.NewClassifier(event.Rules{Schema: accesslog.Schema(), Windows: window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute}, MaxClockSkew: 5 * time.Minute})

func submit(t *testing.T, c *ingest.Committer, m event.Message) {
	if _, err := c.Submit(t.Context(), m, classifier.Classify(m)); err != nil {
		t.Error(err)
	}
}

// wait is a warehouse and a counter store that store nothing, but take as long as real
// ones.
type wait struct {
	mu      sync.Mutex
	appends int
}

func (w *wait) AppendRaw(context.Context, []warehouse.RawRow) error {
	w.mu.Lock()
	w.appends++
	w.mu.Unlock()
	time.Sleep(appendTime)
	return nil
}

func (*wait) AppendDeadLetters(context.Context, []warehouse.DeadLetter) error { return nil }

func (*wait) Register(context.Context) error { return nil }

func (*wait) Add(context.Context, []windowstore.Increment) error {
	time.Sleep(commitTime)
	return nil
}

// Sixty-four pushes are always open. 1,000 events must then take at most 60 appends. So
// the load of an instance is limited neither by BigQuery's quotas nor by the time that an
// append takes.
func TestAppendsOfConcurrentPushes(t *testing.T) {
	t.Parallel()
	const pushers, each = 64, 200
	synctest.Test(t, func(t *testing.T) {
		w := &wait{}
		c := newCommitter(w)
		published := time.Now().UTC()
		var pushes sync.WaitGroup
		for p := range pushers {
			pushes.Go(func() {
				for i := range each {
					submit(t, c, event.Message{ID: fmt.Sprint(p, "-", i), PublishTime: published, PublishTimeSource: event.FromMessage, Data: []byte(payload)})
				}
			})
		}
		pushes.Wait()
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		appends := 1000 * float64(w.appends) / (pushers * each)
		t.Logf("%.1f appends for each 1,000 events", appends)
		if appends > 60 {
			t.Errorf("%.1f appends for each 1,000 events, want at most 60", appends)
		}
		readPage(t).near(t, "appends for 1,000 events, 64 pushes always under way", appends)
	})
}

const payload = `{"ip": "198.51.100.23", "user_id": "1", "lat": 48.8566, "lng": 2.3522, "timestamp": "2000-01-01T00:00:00Z", "http_request": "\"GET fungi.html HTTP/1.0\"", "http_response": 200, "num_bytes": 287, "user_agent": "Mozilla/5.0"}`

// requestLog is the log entry that Cloud Run writes of each request. Its fields are from
// https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry and
// https://cloud.google.com/run/docs/logging, its values are those of a push.
const requestLog = `{
  "insertId": "69b52b2e000ae8d1f1a4b2c3",
  "httpRequest": {
    "requestMethod": "POST", "requestUrl": "https://tidemark-k3j5h7l9qa-uc.a.run.app/push", "requestSize": "2318", "status": 200,
    "responseSize": "690", "userAgent": "CloudPubSub-Google", "remoteIp": "74.125.215.97", "serverIp": "216.239.36.53",
    "latency": "0.253218471s", "protocol": "HTTP/1.1"
  },
  "resource": {
    "type": "cloud_run_revision",
    "labels": {
      "configuration_name": "tidemark", "location": "us-central1", "project_id": "my-project-123", "revision_name": "tidemark-00007-xab",
      "service_name": "tidemark"
    }
  },
  "timestamp": "2026-03-14T09:26:54.713481Z", "severity": "INFO",
  "labels": {
    "instanceId": "0087244a80d6b1c07d9c4d1d3f6b0e0f52c5e9a37a3b1f4a3b2c7d8e9f0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071829",
    "goog-managed-by": "terraform", "app": "tidemark"
  },
  "logName": "projects/my-project-123/logs/run.googleapis.com%2Frequests",
  "trace": "projects/my-project-123/traces/06796866738c859f2f19b7cfb3214824", "receiveTimestamp": "2026-03-14T09:26:54.981004113Z",
  "spanId": "000000000000004a", "traceSampled": true
}`

func requestLogBytes(t *testing.T) int {
	var entry bytes.Buffer
	if err := json.Compact(&entry, []byte(requestLog)); err != nil {
		t.Fatal(err)
	}
	return entry.Len()
}

// lines lets a real service flush once and take one push at LOG_LEVEL=debug. It returns
// the lengths of the log lines of the flush and of the push. At LOG_LEVEL=info only the
// line of the flush is written.
func lines(t *testing.T) (flush, push int) {
	s, err := settings.Load(map[string]string{"data-dir": t.TempDir()}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	measured := func(level slog.Level) (int, int) {
		var out bytes.Buffer
		service, err := service.New(t.Context(), s, service.NewJSONLogger(&out, level, ""))
		if err != nil {
			t.Fatal(err)
		}
		defer service.Close(context.WithoutCancel(t.Context()))
		service.Flush(t.Context())
		flush := out.Len()
		body := `{"message": {"data": "eyJpcCI6ICIxOTguNTEuMTAwLjIzIiwgInVzZXJfaWQiOiAiMSIsICJ0aW1lc3RhbXAiOiAiMjAwMC0wMS0wMVQwMDowMDowMFoiLCAiaHR0cF9yZXF1ZXN0IjogIiIsICJodHRwX3Jlc3BvbnNlIjogMjAwLCAibnVtX2J5dGVzIjogMSwgInVzZXJfYWdlbnQiOiAiIn0=", "messageId": "12345678901234567", "publishTime": "2000-01-01T00:00:01Z"}}`
		answer := httptest.NewRecorder()
		service.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/push", strings.NewReader(body)))
		if !strings.Contains(answer.Body.String(), `"counted"`) {
			t.Fatalf("the push was answered %s", answer.Body)
		}
		return flush, out.Len() - flush
	}
	if _, push := measured(slog.LevelInfo); push != 0 {
		t.Errorf("a push that is counted is logged at LOG_LEVEL=info, in %d bytes, which the page leaves out", push)
	}
	return measured(slog.LevelDebug)
}

// messageBytes returns the average size of the generator's messages, as Pub/Sub counts
// it.
func messageBytes(t *testing.T) int {
	const events = 5000
	config := generator.Default()
	config.Seed, config.Count, config.Start = 1, events, time.Date(2026, 3, 14, 9, 0, 0, 0, time.UTC)
	deliveries, err := generator.Simulate(t.Context(), config, config.Start)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for d := range deliveries {
		total += len(d.Message.Data) + len(d.Message.ID) + len("2026-03-14T09:26:53.713Z")
		for key, value := range d.Message.Attributes {
			total += len(key) + len(value)
		}
	}
	return total / events
}

// A page is the text of cost.md.
type page struct{ text string }

func readPage(t *testing.T) *page {
	t.Helper()
	text, err := os.ReadFile("cost.md")
	if err != nil {
		t.Fatal(err)
	}
	return &page{string(text)}
}

// value returns the number in the row of the given name.
func (p *page) value(t *testing.T, name string) float64 {
	t.Helper()
	found := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(name) + ` \| ([\d.,]+)`).FindStringSubmatch(p.text)
	if found == nil {
		t.Fatalf("cost.md has no row %q", name)
	}
	return number(t, found[1])
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	value, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// near checks that the page's figure differs from the measured one by at most 3 %. They
// can differ because goroutines that are ready at the same instant run in any order.
func (p *page) near(t *testing.T, name string, measured float64) {
	t.Helper()
	t.Logf("%s: %.4g", name, measured)
	if said := p.value(t, name); math.Abs(said-measured) > 0.03*measured {
		t.Errorf("cost.md: %s: %v; measured %.4g", name, said, measured)
	}
}

// block returns where the text begins and ends that is between the comments of the given
// name.
func (p *page) block(t *testing.T, name string) (from, to int) {
	t.Helper()
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	from = strings.Index(p.text, begin)
	to = strings.Index(p.text, end)
	if from < 0 || to < from {
		t.Fatalf("cost.md has no %s ... %s", strings.TrimSpace(begin), end)
	}
	return from + len(begin), to
}

// holds checks that the block has the wanted text. With -update it writes the text
// instead.
func (p *page) holds(t *testing.T, name, want string) {
	t.Helper()
	from, to := p.block(t, name)
	if *update {
		p.text = p.text[:from] + want + p.text[to:]
		return
	}
	if diff := cmp.Diff(want, p.text[from:to]); diff != "" {
		t.Errorf("cost.md, %s (-worked out +page), which go test ./docs -update writes:\n%s", name, diff)
	}
}

// documents are the numbers of documents that Firestore bills for a million events, from
// the page's table.
type documents struct{ reads, writes, deletes float64 }

func (d documents) perMillion() float64 {
	return 1e6 * (d.reads*docRead.each + d.writes*docWrite.each + d.deletes*docDelete.each) / 1e6
}

func (d documents) perMonth(rate, instances float64) float64 {
	millions := rate * month / 1e6 * instances
	return docRead.cost(d.reads*millions) + docWrite.cost(d.writes*millions) + docDelete.cost(d.deletes*millions)
}

// firestore reads the table of documents and checks the dollars in it.
func (p *page) firestore(t *testing.T) map[float64]documents {
	t.Helper()
	measured := map[float64]documents{}
	rows := regexp.MustCompile(`(?m)^\| ([\d.,]+) \| (no|yes) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|$`).FindAllStringSubmatch(p.text, -1)
	if len(rows) != 8 {
		t.Fatalf("cost.md has %d rows of documents, want 8", len(rows))
	}
	for _, row := range rows {
		rate := number(t, row[1])
		d := documents{number(t, row[3]), number(t, row[4]), number(t, row[5])}
		if want := fmt.Sprintf("%.3f", d.perMillion()); row[6] != want {
			t.Errorf("cost.md: %s events/s, lag %s: $%s per million, want %s", row[1], row[2], row[6], want)
		}
		if want := fmt.Sprintf("%.2f", d.perMonth(rate, 1)); row[7] != want {
			t.Errorf("cost.md: %s events/s, lag %s: $%s per month, want %s", row[1], row[2], row[7], want)
		}
		if row[2] == "no" {
			measured[rate] = d
		}
	}
	return measured
}

// naive checks the table about the simple design that is not used.
func (p *page) naive(t *testing.T) {
	t.Helper()
	rows := regexp.MustCompile(`(?m)^\| ([\d.,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \| ([\d.,]+) \|$`).FindAllStringSubmatch(p.text, -1)
	if len(rows) != 4 {
		t.Fatalf("cost.md has %d rows of the naive design, want 4", len(rows))
	}
	for _, row := range rows {
		d := documents{0, number(t, row[2]), number(t, row[3])}
		if want := fmt.Sprintf("%.2f", d.perMillion()); row[4] != want {
			t.Errorf("cost.md: naive, %s events/s: $%s per million, want %s", row[1], row[4], want)
		}
		if want := dollars(d.perMonth(number(t, row[1]), 1)); row[5] != want {
			t.Errorf("cost.md: naive, %s events/s: $%s per month, want %s", row[1], row[5], want)
		}
	}
}

// A model computes the cost of a month from the figures of the page.
type model struct {
	row, rowStored, rowAudited, message, entry, flushLine, cpuMillis float64

	billed    func(rate float64) float64 // the share of the time that one instance is paid for
	latency   float64                    // in seconds, of a busy instance
	documents func(rate float64) documents
}

// instances returns how many instances Cloud Run runs. It is the greater of two numbers:
// one by open requests, one by processor time.
func (m *model) instances(rate float64) float64 {
	return max(1, math.Ceil(rate*m.latency/(busy*slots)), math.Ceil(rate*m.cpuMillis/1000/busy))
}

// A line is a line of the bill.
type line struct {
	name    string
	dollars float64
}

// bill returns the bill of a month at the given rate.
func (m *model) bill(rate float64, byInstance, requestsLogged bool) []line {
	events := rate * month
	n := m.instances(rate)
	flushes := float64(month / 60)
	var run []line
	if byInstance {
		seconds := n * month // the flush of each minute keeps an instance alive
		run = []line{
			{"Cloud Run, requests", 0},
			{"Cloud Run, processor", instanceCPU.cost(seconds)},
			{"Cloud Run, memory", instanceMemory.cost(seconds)},
		}
	} else {
		seconds := n * month * m.billed(rate/n)
		run = []line{
			{"Cloud Run, requests", runRequest.cost(events + flushes)},
			{"Cloud Run, processor", runCPU.cost(seconds)},
			{"Cloud Run, memory", runMemory.cost(seconds)},
		}
	}
	logged := flushes * (m.flushLine + entryBytes + 2*entryBytes) // our line, and two of Cloud Scheduler's
	if requestsLogged {
		logged += (events + flushes) * m.entry
	}
	windows := 33 * flushes // bytes in a month: each flush appends a row of 33 bytes
	scanned := 30 * (max(10e6, 2*24*3600*rate*m.rowAudited) + max(10e6, windows))
	return append(append([]line{{"Pub/Sub, delivery", pubsubByte.cost(events * max(1024, m.message))}}, run...), []line{
		{"Firestore", m.documents(rate/n).perMonth(rate/n, n)},
		{"BigQuery, appends", appendByte.cost(events*m.row + windows)},
		{"BigQuery, storage, for each month that is kept", storedByte.cost(events*m.rowStored + windows)},
		{"BigQuery, an audit each day", scannedByte.cost(scanned)},
		{"Cloud Scheduler", job.cost(1)},
		{"Cloud Logging", loggedByte.cost(logged)},
		{"Cloud Monitoring, five alerts", condition.cost(5) + series.cost(5*flushes)},
	}...)
}

func (m *model) total(rate float64, byInstance, requestsLogged bool) (sum float64) {
	for _, l := range m.bill(rate, byInstance, requestsLogged) {
		sum += l.dollars
	}
	return sum
}

// dataflow returns the cost of the same month on Dataflow: its worker, the data that it
// processes, Pub/Sub, and the tables, which are assumed to cost as much as ours.
func (m *model) dataflow(rate float64) float64 {
	events := rate * month
	sum := dataflowHour*month/3600 + dataflowByte*events*m.message + pubsubByte.cost(events*m.message)
	for _, l := range m.bill(rate, false, false) {
		if strings.HasPrefix(l.name, "BigQuery, ap") || strings.HasPrefix(l.name, "BigQuery, st") {
			sum += l.dollars
		}
	}
	return sum
}

// crossing returns the lowest rate, from 1 event/s on, at which f is greater than g.
func crossing(f, g func(rate float64) float64) float64 {
	for rate := 1.0; rate < 100_000; rate *= 1.001 {
		if f(rate) > g(rate) {
			return rate
		}
	}
	return math.Inf(1)
}

// TestCostPage measures and computes the whole page again, except for the documents of
// Firestore and the bytes of a raw row. Tests of the packages that write these measure
// them.
func TestCostPage(t *testing.T) {
	p := readPage(t)
	m := &model{
		row: p.value(t, "a raw row, as it is appended"), rowStored: p.value(t, "a raw row, as BigQuery bills it"), rowAudited: p.value(t, "of which an audit reads"),
		cpuMillis: p.value(t, "processor time for an event"),
	}
	flushLine, debugLine := lines(t)
	m.flushLine, m.message, m.entry = float64(flushLine), float64(messageBytes(t)), float64(round(requestLogBytes(t)))
	p.holds(t, "sizes", fmt.Sprintf(`| besides | size |
|---|---|
| a message of the generator, with its id, time and attributes | %.0f bytes |
| Cloud Run's own log entry of a request, built from its documentation | about %.0f bytes |
| our line of a flush | at most %d bytes |
| our line of a push that is counted, which only `+"`LOG_LEVEL=debug`"+` writes | at most %d bytes |
`, m.message, m.entry, hundreds(flushLine), hundreds(debugLine)))
	m.flushLine = float64(hundreds(flushLine))
	p.instances(t, m)
	measured := p.firestore(t)
	p.naive(t)
	m.documents = func(rate float64) (d documents) { return between(measured, rate) }

	p.holds(t, "prices", priceTable())
	p.holds(t, "month", m.table())
	p.holds(t, "crossings", m.crossings())
	if *update {
		if err := os.WriteFile("cost.md", []byte(p.text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// round rounds to tens, since ids and times differ in length by some digits.
func round(n int) int { return (n + 5) / 10 * 10 }

// hundreds rounds the length of a log line up to hundreds, since the times in lines
// differ by some digits.
func hundreds(n int) int { return (n + 99) / 100 * 100 }

// between returns the documents at a rate that was not measured. It assumes as many
// documents a second as at the next higher measured rate, but no more for each event than
// at 2 events/s.
func between(measured map[float64]documents, rate float64) documents {
	if d, ok := measured[rate]; ok {
		return d
	}
	for _, at := range []float64{0.1, 2, 100, 1000} {
		if at > rate {
			d := measured[at]
			times := at / rate
			d.writes = min(d.writes*times, measured[2].writes)
			d.reads, d.deletes = min(d.reads*times, measured[2].reads), min(d.deletes*times, measured[2].deletes)
			return d
		}
	}
	d, times := measured[1000], 1000/rate
	return documents{d.reads * times, d.writes * times, d.deletes * times}
}

// instances measures what an instance does at each rate, compares this with the page, and
// gives the page's figures to the model.
func (p *page) instances(t *testing.T, m *model) {
	t.Helper()
	measured := map[float64]instance{}
	table := "| events/s | paid for | latency, ms | appends for 1,000 events |\n|---:|---:|---:|---:|\n"
	for _, at := range []struct {
		rate     float64
		duration time.Duration
	}{{0, time.Hour}, {0.1, 6 * time.Hour}, {1, time.Hour}, {2, time.Hour}, {5, 20 * time.Minute}, {10, 10 * time.Minute}, {20, 5 * time.Minute}, {100, time.Minute}, {greatest, time.Minute}} {
		i := measure(t, at.rate, at.duration)
		measured[at.rate] = i
		table += fmt.Sprintf("| %v | %.2f %% | %d | %.1f |\n", at.rate, 100*i.billed, i.latency.Milliseconds(), i.appends)
	}
	if *update {
		p.holds(t, "instance", table)
	}
	from, to := p.block(t, "instance")
	said := map[float64]instance{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([\d.]+) \| ([\d.]+) % \| (\d+) \| ([\d.]+) \|$`).FindAllStringSubmatch(p.text[from:to], -1) {
		said[number(t, row[1])] = instance{number(t, row[2]) / 100, time.Duration(number(t, row[3])) * time.Millisecond, number(t, row[4])}
	}
	if len(said) != len(measured) {
		t.Errorf("cost.md says what an instance does at %d rates, want %d", len(said), len(measured))
	}
	for rate, got := range measured {
		s := said[rate]
		for what, pair := range map[string][2]float64{"paid for": {s.billed, got.billed}, "latency": {s.latency.Seconds(), got.latency.Seconds()}, "appends": {s.appends, got.appends}} {
			if math.Abs(pair[0]-pair[1]) > 0.03*pair[1] {
				t.Errorf("cost.md: an instance at %v events/s: %s %.4g, measured %.4g", rate, what, pair[0], pair[1])
			}
		}
	}
	m.latency = said[greatest].latency.Seconds()
	m.billed = func(rate float64) float64 { return share(said, rate) }
}

// share returns the share at a rate by linear interpolation between the two nearest
// measured rates.
func share(said map[float64]instance, rate float64) float64 {
	below, above := 0.0, greatest
	for at := range said {
		if at <= rate && at > below {
			below = at
		}
		if at >= rate && at < above {
			above = at
		}
	}
	if rate >= above || above == below {
		return said[above].billed
	}
	return said[below].billed + (said[above].billed-said[below].billed)*(rate-below)/(above-below)
}

func priceTable() string {
	table := "| what | price and free a month | source |\n|---|---|---|\n"
	for _, p := range prices {
		table += fmt.Sprintf("| %s | %s | <%s> |\n", p.what, p.shown, p.source)
	}
	return table
}

// dollars formats an amount: with cents below 100 dollars, and with commas from 1,000 on.
func dollars(d float64) string {
	if d < 100 {
		return strconv.FormatFloat(d, 'f', 2, 64)
	}
	whole := int(math.Round(d))
	if whole >= 1000 {
		return fmt.Sprintf("%d,%03d", whole/1000, whole%1000)
	}
	return strconv.Itoa(whole)
}

func (m *model) table() string {
	table := "| dollars in 30 days, at events/s |"
	for _, rate := range rates {
		table += fmt.Sprintf(" %s |", strings.Replace(strconv.FormatFloat(rate, 'f', -1, 64), "1000", "1,000", 1))
	}
	table += "\n|---|" + strings.Repeat("---:|", len(rates)) + "\n"
	add := func(name string, cell func(rate float64) string) {
		table += "| " + name + " |"
		for _, rate := range rates {
			table += " " + cell(rate) + " |"
		}
		table += "\n"
	}
	for i, l := range m.bill(0, false, false) {
		add(l.name, func(rate float64) string { return dollars(m.bill(rate, false, false)[i].dollars) })
	}
	add("**total, as deployed**", func(rate float64) string { return "**" + dollars(m.total(rate, false, false)) + "**" })
	add("total with `billing = \"instance\"`", func(rate float64) string { return dollars(m.total(rate, true, false)) })
	add("total with `keep_request_log = true`", func(rate float64) string { return dollars(m.total(rate, false, true)) })
	add("Dataflow, one worker", func(rate float64) string { return dollars(m.dataflow(rate)) })
	add("instances", func(rate float64) string { return fmt.Sprint(m.instances(rate)) })
	return table
}

func (m *model) crossings() string {
	at := func(byInstance, logged bool) string {
		return fmt.Sprintf("%.0f", crossing(func(r float64) float64 { return m.total(r, byInstance, logged) }, m.dataflow))
	}
	return fmt.Sprintf(`| Dataflow's one worker is cheaper from | events/s |
|---|---:|
| as deployed | %s |
| with `+"`billing = \"instance\"`"+` | %s |
| with `+"`keep_request_log = true`"+` | %s |

Billing by instance is cheaper than by request from %.1f events/s. The log of requests costs from %.0f events/s.
`, at(false, false), at(true, false), at(false, true),
		crossing(func(r float64) float64 { return m.total(r, false, false) }, func(r float64) float64 { return m.total(r, true, false) }),
		crossing(func(r float64) float64 { return r * month * m.entry }, func(float64) float64 { return loggedByte.free }))
}
