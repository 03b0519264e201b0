package service_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

const ordersFile = `
name: orders
event:
  time: created_at
  id: field:order
  fields:
    - {name: order,      type: STRING,    mode: REQUIRED, from: order.id}
    - {name: created_at, type: TIMESTAMP, mode: REQUIRED, from: order.created, format: unix_ms}
    - {name: group,      type: STRING,    from: customer.address.country}
    - {name: amount,     type: INTEGER,   mode: REQUIRED}
    - {name: ms,         type: FLOAT}
  rest: payload
aggregate:
  columns:
    - {name: select, count: true}
`

var ordersStart = time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)

// orderBodies returns pushes of orders, with each order in two messages. It also returns
// what SQL must find: the number of orders in each minute, and the amount and the rest of
// each order.
func orderBodies() (bodies [][]byte, counts, amounts map[string]int64, rests map[string]string) {
	counts, amounts, rests = map[string]int64{}, map[string]int64{}, map[string]string{}
	for i := range 200 {
		created := ordersStart.Add(time.Duration(i) * 1377 * time.Millisecond)
		country := []string{`"FR"`, "null", `"DE"`}[i%3]
		rest := fmt.Sprintf(`{"order":{"id":"o-%[1]d","created":%[2]d},"customer":{"id":%[1]d,"address":{"country":%[3]s}},"tags":["a",{"b":1e400}]}`, i, created.UnixMilli(), country)
		data := fmt.Sprintf(`{"amount":1,"amount":%d,"ms":%d,%s`, i, i%7, rest[1:])
		counts[event.FormatTime(created.Truncate(time.Minute))]++
		amounts[fmt.Sprintf("o-%d", i)], rests[fmt.Sprintf("o-%d", i)] = int64(i), rest
		for copy := range 2 {
			bodies = append(bodies, envelope.Encode(event.Message{
				ID: fmt.Sprintf("%d-%d", i, copy), PublishTime: created.Add(time.Second), Data: []byte(data),
			}))
		}
	}
	return bodies, counts, amounts, rests
}

func TestEventsOfAPipelineFileAreStoredAndCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := map[string]string{"pipeline-file": ordersFile}
	bodies, counts, amounts, rests := orderBodies()
	for range 3 { // redelivers all of them, in another order, to a new process
		s := startOn(t, dir, file)
		rand.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
		s.pushAll(t, bodies, 16)
		s.flushAll(t)
	}
	s := startOn(t, dir, file)
	if diff := cmp.Diff(counts, s.query(t, `SELECT timestamp, "select" FROM orders`)); diff != "" {
		t.Errorf("counts (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(amounts, s.query(t, `SELECT "order", amount FROM orders_raw_events`)); diff != "" {
		t.Errorf("amounts (-want +got)\n%s", diff)
	}
	if got := s.query(t, `SELECT ifnull("group", 'none'), count(*) FROM orders_raw_events GROUP BY 1`); got["FR"] != 67 || got["none"] != 67 || got["DE"] != 66 {
		t.Errorf("countries %v", got)
	}
	if report := s.audit(t, "GET"); !report.Clean() || len(report.Waiting) > 0 {
		t.Errorf("audit: %+v", report)
	}
	tables, loaded := archive(t, dir, map[string]string{"pipeline-file": ordersFile})
	var again [][]byte
	for row, err := range tables.RawRows(t.Context(), time.Time{}, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		if row.Rest != rests[row.EventID] || row.MessageID != strings.TrimPrefix(row.EventID, "o-")+"-0" {
			t.Errorf("event %s of message %s has the rest %s, want %s", row.EventID, row.MessageID, row.Rest, rests[row.EventID])
		}
		m, err := row.Message(loaded.PipelineFile.Schema, loaded.EventID, loaded.EventTime)
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, envelope.Encode(m))
	}
	// If the stored rows are sent to a service with an empty data directory, its table
	// must be the same.
	copied := startOn(t, t.TempDir(), file)
	copied.pushAll(t, again, 16)
	copied.flushAll(t)
	if diff := cmp.Diff(counts, copied.query(t, `SELECT timestamp, "select" FROM orders`)); diff != "" {
		t.Errorf("counts of the stored rows (-want +got)\n%s", diff)
	}
}

func TestAFlushNamesTheCountOfThePipelineFile(t *testing.T) {
	t.Parallel()
	s := startOn(t, t.TempDir(), map[string]string{"pipeline-file": ordersFile})
	bodies, _, _, _ := orderBodies()
	s.pushAll(t, bodies[:2], 1)
	text, err := json.Marshal(s.Flush(t.Context()))
	if err != nil || !strings.Contains(string(text), `"windows":[{"window_start":"2026-03-14T09:26:00.000000Z","select":1,"is_final":true}]`) {
		t.Errorf("report %s, %v", text, err)
	}
}

// The fields of a pipeline file may change. Here one is added, one is removed, and one is
// no longer required.
func TestTheFieldsOfAPipelineFileMayChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bodies, counts, _, _ := orderBodies()
	half := len(bodies) / 2
	startOn(t, dir, map[string]string{"pipeline-file": ordersFile}).pushAll(t, bodies[:half], 4)
	changed := strings.NewReplacer(
		"type: INTEGER,   mode: REQUIRED}", "type: INTEGER}\n    - {name: customer, type: INTEGER, from: customer.id}",
		"    - {name: ms,         type: FLOAT}\n", "").Replace(ordersFile)
	s := startOn(t, dir, map[string]string{"pipeline-file": changed})
	s.pushAll(t, bodies[half:], 4)
	s.flushAll(t)
	if diff := cmp.Diff(counts, s.query(t, `SELECT timestamp, "select" FROM orders`)); diff != "" {
		t.Errorf("counts (-want +got)\n%s", diff)
	}
	want := map[string]int64{"-": int64(half), "ms": int64(half), "customer": int64(len(bodies) - half)}
	got := s.query(t, `SELECT 'ms', count(ms) FROM orders_raw UNION SELECT 'customer', count(customer) FROM orders_raw UNION SELECT '-', count(*) - count(customer) FROM orders_raw`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got)\n%s", diff)
	}
	if s.query(t, `SELECT 'customer', count(customer) FROM orders_raw_events`)["customer"] == 0 {
		t.Error("the view events does not have the new field")
	}
	if without := s.push(t, "/push/raw", []byte(`{"order": {"id": "x", "created": 1773480413589}}`)); without.Status == event.DeadLetter {
		t.Errorf("an event without amount is %v", without)
	}
}

func TestAPipelineFileOfAnotherMeaningIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bodies, _, _, _ := orderBodies()
	startOn(t, dir, map[string]string{"pipeline-file": ordersFile}).pushAll(t, bodies[:1], 1)
	for change, want := range map[[2]string]string{
		{"time: created_at", "time: shipped_at"}:          "EVENT_TIME is payload:created_at from order.created, unix_ms on record and payload:shipped_at in this process",
		{"format: unix_ms", "format: unix_s"}:             "EVENT_TIME is payload:created_at from order.created, unix_ms on record and payload:created_at from order.created, unix_s in this process",
		{"id: field:order", "id: message"}:                "EVENT_ID is field:order on record and message in this process",
		{"name: orders\n", "name: orders\nwindow: 10s\n"}: "WINDOW_DURATION is 60s on record and 10s in this process",
		{"type: INTEGER", "type: FLOAT"}:                  "column amount has type INTEGER, want REAL",
		{"name: select, count", "name: total, count"}:     "column total is missing",
	} {
		text := strings.Replace(ordersFile, change[0], change[1], 1)
		if strings.Contains(text, "shipped_at") {
			text = strings.Replace(text, "  rest:", "    - {name: shipped_at, type: TIMESTAMP, mode: REQUIRED}\n  rest:", 1)
		}
		s, err := settings.Load(map[string]string{"data-dir": dir, "pipeline-file": text}, func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		_, err = service.New(t.Context(), s, slog.New(slog.NewTextHandler(io.Discard, nil)))
		_, isMeaning := errors.AsType[*windowstore.MeaningError](err)
		_, isTable := errors.AsType[*warehouse.TableError](err)
		if err == nil || !isMeaning && !isTable || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", slices.Collect(slices.Values(change[:])), err, want)
		}
	}
}

// testdata/before was written by the version before pipeline files existed. It has the
// edge cases, and three messages with the same data.
func TestADataDirectoryOfTheVersionBeforeGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"warehouse", "counters"} {
		text, err := os.ReadFile("testdata/before/" + name + ".sql")
		if err != nil {
			t.Fatal(err)
		}
		file, err := sql.Open("sqlite", filepath.Join(dir, name+".db"))
		if err == nil {
			_, err = file.Exec(string(text))
		}
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	s := startOn(t, dir, nil)
	count := func() map[string]int64 { return s.query(t, "SELECT timestamp, page_views FROM windowed_traffic") }
	before := count()
	if before["2026-03-14T09:26:00.000000Z"] != 17 || len(before) != 4 {
		t.Fatalf("counts %v", before)
	}
	if got := s.query(t, "SELECT message_id, 1 FROM events WHERE message_id LIKE 'same-%'"); len(got) != 3 {
		t.Errorf("events %v", got)
	}
	if got := s.query(t, "SELECT name, sql LIKE '%Revision 2.%' FROM sqlite_schema WHERE type = 'view'"); got["events"] != 1 || got["windowed_traffic"] != 1 || got["dead_letters"] != 1 {
		t.Errorf("views of this revision: %v", got)
	}
	again := envelope.Encode(event.Message{ID: "same-3", PublishTime: time.Date(2026, 3, 14, 9, 26, 53, 500_000_000, time.UTC),
		Data: []byte(`{"ip":"a","user_id":"1","timestamp":"2026-03-14T09:26:53Z","http_request":"","http_response":200,"num_bytes":1,"user_agent":""}`)})
	s.pushAll(t, [][]byte{again}, 1)
	s.flushAll(t)
	if diff := cmp.Diff(before, count()); diff != "" {
		t.Errorf("counts after a redelivery (-before +after)\n%s", diff)
	}
	if report := s.audit(t, "GET"); !report.Clean() {
		t.Errorf("audit %+v", report)
	}
}
