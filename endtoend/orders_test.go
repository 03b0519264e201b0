package endtoend

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // the driver

	"github.com/tidemark-dev/tidemark/internal/test/emulator"
)

const ordersFile = `
name: orders
window: 60s
lateness: 2m
event:
  time: created
  id: field:order_id
  fields:
    - {name: order_id, type: STRING,    mode: REQUIRED, from: order.id}
    - {name: created,  type: TIMESTAMP, mode: REQUIRED, from: order.created, format: unix_ms}
    - {name: country,  type: STRING,    from: customer.address.country}
    - {name: group,    type: INTEGER,   from: customer.group}
    - {name: ms,       type: FLOAT}
    - {name: is_new,   type: BOOLEAN}
    - {name: shipped,  type: TIMESTAMP, from: order.dates.shipped, format: unix_s}
  rest: payload
aggregate:
  columns:
    - {name: select, count: true}
`

// An order is a message, and what the tables must have of it.
type order struct {
	message   string // id
	id        string
	published time.Time
	created   time.Time
	data      string
	reason    string         // of the dead letter that it must be
	columns   map[string]any // by the pipeline file
}

func (o order) window() time.Time { return o.created.Truncate(time.Minute) }
func (o order) late() bool        { return !o.published.Before(o.window().Add(3 * time.Minute)) }

// members are members that no field takes.
var members = []string{
	`"tags":["a",{"b":[null,1e400,{"\u0063":"\ud83d\ude00"}]}]`, `"Order":{"id":"X"}`, `"order_id":"not this"`, `"message_id":7`, `"payload":"{}"`,
	`"":{}`, `"a\"b\u0000é\/":12345678901234567890.50`, `"deep":` + strings.Repeat(`{"a":[`, 200) + strings.Repeat(`]}`, 200), `"x" : { "y" : 1 , "y" : 2 }`,
	`"large":"` + strings.Repeat("日", 50_000) + `"`, `"customer.group":1`,
}

// makeOrders returns two messages of each order, which differ in what they say of it. Of
// every ten messages one is no event, and one is late.
func makeOrders() (orders []order) {
	start := time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)
	for i := range 120 {
		created := start.Add(time.Duration(i) * 4321 * time.Millisecond)
		for copy := range 2 {
			n := 2*i + copy
			o := order{message: fmt.Sprintf("m%d", n), id: fmt.Sprintf("o-%d é", i), published: created.Add(time.Second), created: created}
			if n%10 == 3 {
				o.published = created.Add(time.Hour)
			}
			country := []string{`"FR"`, "null", `"D\u0045"`}[i%3]
			customer := []string{`{"address":{"country":%s},"group":-7}`, `{"group":-7,"address":{"country":"IT"},"address":{"zip":[],"country":%s}}`, `{"group":null,"address":{"country":%s}}`}[n%3]
			number := []string{"12", "7.5", "null", "-0", "1e3"}[n%5]
			top := []string{
				fmt.Sprintf(`"order":{"dates":{"shipped":%d},"id":%q,"created":%d}`, created.Unix()+60, o.id, created.UnixMilli()),
				`"customer":` + fmt.Sprintf(customer, country),
				`"ms":` + number,
				members[n%len(members)], members[(n+3)%len(members)],
			}
			o.columns = map[string]any{
				"order_id": o.id, "created": created, "shipped": created.Truncate(time.Second).Add(time.Minute), "is_new": nil,
				"country": []any{"FR", nil, "DE"}[i%3], "group": []any{int64(-7), int64(-7), nil}[n%3], "ms": []any{12.0, 7.5, nil, 0.0, 1000.0}[n%5],
			}
			if n%4 == 0 {
				top = append(top, `"is_new":true`)
				o.columns["is_new"] = true
			}
			rand.Shuffle(len(top), func(i, j int) { top[i], top[j] = top[j], top[i] })
			o.data = "{" + strings.Join(top, ",") + "}"
			if n%10 == 6 {
				spoil := [][3]string{
					{"bad_json", "{", "["}, {"missing_field", `"created":`, `"Created":`}, {"wrong_type", `"ms":`, `"ms":"1","ms":"2","MS":`},
					{"bad_time", `"created":`, `"created":253402300800000,"c":`}, {"wrong_type", `"customer":`, `"customer":[],"c":`},
				}[n/10%5]
				o.reason, o.data = spoil[0], strings.Replace(o.data, spoil[1], spoil[2], 1)
			}
			orders = append(orders, o)
		}
	}
	return orders
}

// A query returns rows of the tables, as another program reads them.
type query func(t *testing.T, columns, table string) []map[string]any

func TestOrdersAreRightToTheEvent(t *testing.T) {
	t.Parallel()
	program := build(t)
	settings := func() map[string]string {
		return map[string]string{"PIPELINE_FILE": ordersFile, "FLUSH_QUIET": "0s", "COUNTER_RETENTION": "400000h", "AUTH": "none"}
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		s := settings()
		s["DATA_DIR"] = t.TempDir()
		runOrders(t, program, s, querySQLite(filepath.Join(s["DATA_DIR"], "warehouse.db")))
	})
	t.Run("emulators", func(t *testing.T) {
		t.Parallel()
		s := settings()
		s["BACKEND"], s["GOOGLE_CLOUD_PROJECT"], s["FIRESTORE_EMULATOR_HOST"], s["COMMIT_INTERVAL"] = "gcp", emulator.Project(), emulator.Firestore(t), "10ms"
		s["BIGQUERY_EMULATOR_HOST"], s["BIGQUERY_STORAGE_EMULATOR_HOST"] = emulator.BigQuery(t)
		tables := tables{s["BIGQUERY_EMULATOR_HOST"], s["GOOGLE_CLOUD_PROJECT"], "logs"}
		runOrders(t, program, s, func(t *testing.T, columns, table string) []map[string]any {
			return tables.query(t, "SELECT "+columns+" FROM "+table)
		})
	})
}

// runOrders delivers each message twice, in any order, while the server is flushed and
// twice killed, and compares the tables with what was sent.
func runOrders(t *testing.T, program string, settings map[string]string, tables query) {
	t.Helper()
	orders, port := makeOrders(), freePort(t)
	deliveries := append(append([]order(nil), orders...), orders...)
	rand.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })

	s := startServer(t, program, port, settings)
	url := s.url // also after a restart
	queue := make(chan order)
	var acknowledged atomic.Int64
	var pushers sync.WaitGroup
	for range 8 {
		pushers.Go(func() {
			for o := range queue {
				for !pushOrder(t, url, o) {
				}
				acknowledged.Add(1)
			}
		})
	}
	pushers.Go(func() {
		defer close(queue)
		for _, o := range deliveries {
			queue <- o
		}
	})
	for _, third := range []int{1, 2} {
		waitFor(t, "deliveries to be acknowledged", func() bool { return int(acknowledged.Load()) >= third*len(deliveries)/3 })
		s.schedule(t, 2)
		s.kill()
		s.flushes.Wait()
		s = startServer(t, program, port, settings)
	}
	pushers.Wait()
	waitFor(t, "the windows to be written", func() bool {
		report, err := s.flush(t.Context())
		return err == nil && len(report.Windows)+report.Held+report.Remaining == 0
	})
	checkOrders(t, orders, tables)
	if diff := cmp.Diff(auditReport{Waiting: []any{}, Lower: []any{}, Higher: []any{}}, s.audit(t)); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

// pushOrder delivers the message once, and reports whether it was acknowledged.
func pushOrder(t *testing.T, url string, o order) bool {
	body, err := json.Marshal(map[string]any{"message": map[string]any{
		"messageId": o.message, "publishTime": o.published.Format(time.RFC3339Nano), "data": base64.StdEncoding.EncodeToString([]byte(o.data)),
	}})
	if err != nil {
		t.Error(err)
		return true
	}
	response, err := http.Post(url+"/push", "application/json", bytes.NewReader(body))
	if err != nil {
		time.Sleep(10 * time.Millisecond) // the server was killed
		return false
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("message %s: %s: %s", o.message, response.Status, answer)
		return true
	}
	return err == nil && response.StatusCode == http.StatusOK
}

func checkOrders(t *testing.T, orders []order, tables query) {
	t.Helper()
	byMessage, counted, first, reasons := map[string]order{}, map[string]bool{}, map[string]string{}, map[string]string{}
	windows := map[time.Time]int64{}
	for _, o := range orders {
		byMessage[o.message] = o
		if o.reason != "" {
			reasons[o.message] = o.reason + " " + o.data
			continue
		}
		if !o.late() && !counted[o.id] {
			counted[o.id] = true
			windows[o.window()]++
		}
		// The view shows a counted message before a late one, then the smallest id.
		if shown, ok := byMessage[first[o.id]]; !ok || shown.late() && !o.late() || shown.late() == o.late() && o.message < shown.message {
			first[o.id] = o.message
		}
	}
	got := map[time.Time]int64{}
	for _, row := range tables(t, "timestamp, `select`, is_final", "orders") {
		if start := row["timestamp"].(time.Time); got[start] != 0 || row["is_final"] != true {
			t.Errorf("window %v is there twice, or not final", start)
		}
		got[row["timestamp"].(time.Time)] = row["select"].(int64)
	}
	if diff := cmp.Diff(windows, got); diff != "" {
		t.Errorf("windows (-want +got):\n%s", diff)
	}

	stored := map[string]bool{}
	for _, row := range tables(t, "*", "orders_raw") {
		o := byMessage[row["message_id"].(string)]
		stored[o.message] = true
		checkOrder(t, o, row)
	}
	shown := map[string]string{}
	for _, row := range tables(t, "event_id, message_id", "orders_raw_events") {
		shown[row["event_id"].(string)] = row["message_id"].(string)
	}
	if diff := cmp.Diff(first, shown); diff != "" {
		t.Errorf("the message that is shown of each event (-want +got):\n%s", diff)
	}
	letters := map[string]string{}
	for _, row := range tables(t, "message_id, reason, data", "orders_dead_letters") {
		letters[row["message_id"].(string)] = row["reason"].(string) + " " + string(row["data"].([]byte))
	}
	if diff := cmp.Diff(reasons, letters); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	if len(stored)+len(letters) != len(orders) {
		t.Errorf("%d events and %d dead letters are stored of %d messages", len(stored), len(letters), len(orders))
	}
}

// checkOrder compares a raw row with the message: its columns have the fields, and with
// the columns put into it, the rest is the whole event.
func checkOrder(t *testing.T, o order, row map[string]any) {
	t.Helper()
	rest := decoded(t, row["payload"].(string))
	for name := range rest {
		if name == "ms" || name == "is_new" {
			t.Errorf("message %s: the rest has the field %s", o.message, name)
		}
	}
	whole := decoded(t, o.data)
	for _, name := range []string{"ms", "is_new"} { // fields of the outermost object
		if whole[name] == nil {
			delete(whole, name) // null is no value
		} else {
			rest[name] = whole[name] // the column is compared below
		}
	}
	if !reflect.DeepEqual(whole, rest) { // cmp.Diff would take ages where it is deep
		t.Errorf("message %s: the rest is %s, of the event %s", o.message, row["payload"], o.data)
	}
	want := map[string]any{"event_id": o.id, "message_id": o.message, "publish_time": o.published, "window_start": o.window(), "is_late": o.late()}
	for name, value := range o.columns {
		want[name] = value
	}
	delete(row, "payload")
	delete(row, "processing_timestamp")
	if diff := cmp.Diff(want, row); diff != "" {
		t.Errorf("message %s: columns (-want +got):\n%s", o.message, diff)
	}
}

// decoded returns an object with its numbers as they are written.
func decoded(t *testing.T, text string) (object map[string]any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&object); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return object
}

// querySQLite returns rows of a file, with times and truth values by the names of columns.
func querySQLite(path string) query {
	return func(t *testing.T, columns, table string) (found []map[string]any) {
		t.Helper()
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		rows, err := db.QueryContext(t.Context(), "SELECT "+columns+" FROM "+table)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		names, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			row, values, targets := map[string]any{}, make([]any, len(names)), make([]any, len(names))
			for i := range values {
				targets[i] = &values[i]
			}
			if err := rows.Scan(targets...); err != nil {
				t.Fatal(err)
			}
			for i, name := range names {
				row[name] = values[i]
				if n, ok := values[i].(int64); ok && strings.HasPrefix(name, "is_") {
					row[name] = n != 0
				}
				if text, ok := values[i].(string); ok {
					if at, err := time.Parse("2006-01-02T15:04:05.000000Z", text); err == nil {
						row[name] = at
					}
				}
			}
			found = append(found, row)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return found
	}
}
