package endtoend

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/test/emulator"
)

// tables is a dataset, read as a program other than Tidemark would read it.
type tables struct {
	host, project, dataset string
}

// query returns the rows that a query finds in the dataset.
func (db tables) query(t *testing.T, sql string) []map[string]any {
	t.Helper()
	rows, err := emulator.QueryBigQuery(t.Context(), db.host, db.project, db.dataset, sql)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// A windowRow is a row of windowed_traffic.
type windowRow struct {
	PageViews int64
	Final     bool
}

// windows returns the rows of windowed_traffic, by the start of their window.
func (db tables) windows(t *testing.T) map[time.Time]windowRow {
	t.Helper()
	windows := map[time.Time]windowRow{}
	for _, row := range db.query(t, "SELECT timestamp, page_views, is_final FROM windowed_traffic") {
		start := row["timestamp"].(time.Time)
		if _, twice := windows[start]; twice {
			t.Errorf("two rows for the window %s", start)
		}
		windows[start] = windowRow{row["page_views"].(int64), row["is_final"].(bool)}
	}
	return windows
}

// check compares the tables with the messages that were published and that this
// subscription pushed.
func (db tables) check(t *testing.T, messages []published, subscription string) {
	t.Helper()
	windows, events := recount(messages)
	want := map[time.Time]windowRow{}
	for start, n := range windows {
		want[start] = windowRow{n, true}
	}
	if diff := cmp.Diff(want, db.windows(t)); diff != "" {
		t.Errorf("windowed_traffic (-want +got):\n%s", diff)
	}
	stored := map[string]bool{}
	for _, row := range db.query(t, "SELECT window_start, event_id, is_late FROM events") {
		stored[eventKey(row["window_start"].(time.Time), row["event_id"].(string))] = row["is_late"].(bool)
	}
	if diff := cmp.Diff(events, stored); diff != "" {
		t.Errorf("events, and whether they are late (-want +got):\n%s", diff)
	}
	db.checkRaw(t, messages)
	db.checkDeadLetters(t, messages, subscription)
}

// checkRaw compares each raw row with its message. A message has several rows if an
// acknowledgement of it was lost.
func (db tables) checkRaw(t *testing.T, messages []published) {
	t.Helper()
	want := map[string]map[string]any{}
	for _, p := range messages {
		if p.reason == "" {
			want[p.id] = p.rawRow()
		}
	}
	got := map[string]map[string]any{}
	for _, row := range db.query(t, "SELECT * EXCEPT (processing_timestamp) FROM raw") {
		id := row["message_id"].(string)
		if first, twice := got[id]; twice && !cmp.Equal(first, row) {
			t.Errorf("two raw rows of message %s differ:\n%s", id, cmp.Diff(first, row))
		}
		got[id] = row
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("raw rows by message (-want +got):\n%s", diff)
	}
}

// A letter is what a dead letter stores of its message.
type letter struct {
	Reason, Data, Subscription string
	PublishTime                time.Time
	Parts                      []string // "1 of 2", "2 of 2"
}

// maxPart is how many bytes of a message's data fit into one row of a dead letter.
const maxPart = 4 << 20

// checkDeadLetters compares the dead letters with the subscription's messages that are no
// events. If a message came unwrapped, its dead letter has the other HTTP headers among
// the attributes.
func (db tables) checkDeadLetters(t *testing.T, messages []published, subscription string) {
	t.Helper()
	want, attributes := map[string]letter{}, map[string]map[string]string{}
	for _, p := range messages {
		if p.reason == "" {
			continue
		}
		l := letter{Reason: p.reason, Data: string(p.data), Subscription: subscription, PublishTime: p.publishTime}
		parts := max(1, (len(p.data)+maxPart-1)/maxPart)
		for part := range parts {
			l.Parts = append(l.Parts, fmt.Sprintf("%d of %d", part+1, parts))
		}
		want[p.id], attributes[p.id] = l, p.attributes
	}
	got := map[string]letter{}
	for _, row := range db.query(t, "SELECT message_id, reason, data, subscription, publish_time, part, parts, attributes FROM dead_letters ORDER BY message_id, part") {
		id := row["message_id"].(string)
		data, _ := row["data"].([]byte) // NULL gives nil
		from, _ := row["subscription"].(string)
		got[id] = letter{
			Reason: row["reason"].(string), Data: got[id].Data + string(data), Subscription: from, PublishTime: row["publish_time"].(time.Time),
			Parts: append(got[id].Parts, fmt.Sprintf("%d of %d", row["part"], row["parts"])),
		}
		kept := map[string]string{}
		if text, ok := row["attributes"].(string); ok {
			if err := json.Unmarshal([]byte(text), &kept); err != nil {
				t.Errorf("attributes of dead letter %s: %v: %s", id, err, text)
			}
		}
		for name, value := range attributes[id] {
			if kept[name] != value {
				t.Errorf("dead letter %s has the attribute %s=%q, was sent %q", id, name, kept[name], value)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dead letters by message (-want +got):\n%s", diff)
	}
}

// deliveries returns how often each message was stored.
func (db tables) deliveries(t *testing.T) map[string]int64 {
	t.Helper()
	stored := map[string]int64{}
	for _, row := range db.query(t, `SELECT message_id, COUNT(*) AS deliveries FROM (
			SELECT message_id FROM raw UNION ALL SELECT message_id FROM dead_letter WHERE part = 1
		) GROUP BY message_id`) {
		stored[row["message_id"].(string)] = row["deliveries"].(int64)
	}
	return stored
}
