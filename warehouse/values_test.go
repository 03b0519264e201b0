package warehouse_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// named returns the values of the item's row by column. It also checks that the item can
// be read back from the row.
func named[T any](t *testing.T, table warehouse.TableOf[T], item *T) map[string]any {
	t.Helper()
	row := table.Row(item)
	back, err := table.Item(row)
	if diff := cmp.Diff(row, table.Row(&back)); err != nil || diff != "" {
		t.Errorf("a row of %s that is written and read again differs: %v (-want +got)\n%s", table.Name, err, diff)
	}
	if len(row) != len(table.Columns) {
		t.Fatalf("a row of %s has %d values, want %d", table.Name, len(row), len(table.Columns))
	}
	values := map[string]any{}
	for i, c := range table.Columns {
		values[c.Name] = row[i]
	}
	return values
}

// at returns a different time for each n.
func at(n int) time.Time { return time.Date(2026, 3, 14, 9, 26, n, 589_793_000, time.UTC) }

// Each value must be in its own column. So that a mix-up shows, no two values of a type
// are equal.
func TestRowsHaveEveryValueInItsColumn(t *testing.T) {
	t.Parallel()
	lat, lng := 48.8566, 2.3522
	raw := warehouse.RawRow{
		Event: accesslog.Record{
			IP: "198.51.100.23", UserID: "-6120394857710293846", UserAgent: "Mozilla/5.0", Lat: &lat, Lng: &lng, Timestamp: at(1),
			HTTPRequest: "GET fungi.html HTTP/1.0", HTTPResponse: 200, NumBytes: 287,
		}.Event(),
		ProcessingTime: at(2), EventID: "event", MessageID: "message", PublishTime: at(3), WindowStart: at(4), Late: true,
	}
	wantRaw := map[string]any{
		"ip": "198.51.100.23", "user_id": "-6120394857710293846", "user_agent": "Mozilla/5.0", "lat": lat, "lng": lng, "event_timestamp": at(1),
		"processing_timestamp": at(2), "http_request": "GET fungi.html HTTP/1.0", "http_response": int64(200), "num_bytes": int64(287),
		"event_id": "event", "message_id": "message", "publish_time": at(3), "window_start": at(4), "is_late": true,
	}
	if diff := cmp.Diff(wantRaw, named(t, warehouse.RawTable(accesslog.Layout()), &raw)); diff != "" {
		t.Errorf("raw row (-want +got):\n%s", diff)
	}

	count := warehouse.WindowCount{Start: at(1), End: at(2), PageViews: 3, Final: true, WrittenAt: at(4)}
	wantCount := map[string]any{"timestamp": at(1), "window_end": at(2), "page_views": int64(3), "is_final": true, "written_at": at(4)}
	if diff := cmp.Diff(wantCount, named(t, warehouse.AggLogTable(accesslog.Layout()), &count)); diff != "" {
		t.Errorf("row of the log (-want +got):\n%s", diff)
	}
}

func TestADeadLetterHasARowForEachPartOfItsData(t *testing.T) {
	t.Parallel()
	data := make([]byte, warehouse.MaxPart+2)
	data[warehouse.MaxPart] = 'x'
	letter := warehouse.DeadLetter{
		ReceivedAt: at(1), Reason: event.BadJSON, Err: "invalid character",
		Message: event.Message{
			ID: "message", PublishTime: at(2), Subscription: "orders", Data: data,
			Attributes: map[string]string{"b": "<2>", "a": "1"},
		},
	}
	want := []map[string]any{{
		"received_at": at(1), "message_id": "message", "publish_time": at(2), "subscription": "orders", "attributes": `{"a":"1","b":"<2>"}`,
		"data": data[:warehouse.MaxPart], "part": int64(1), "parts": int64(2), "reason": "bad_json", "error": "invalid character",
	}, {
		"received_at": at(1), "message_id": "message", "publish_time": at(2), "subscription": "orders", "attributes": `{"a":"1","b":"<2>"}`,
		"data": data[warehouse.MaxPart:], "part": int64(2), "parts": int64(2), "reason": "bad_json", "error": "invalid character",
	}}
	checkLetter(t, letter, want)
	checkLetter(t, warehouse.DeadLetter{ReceivedAt: at(1), Reason: event.Empty, Message: event.Message{ID: "message", PublishTime: at(2)}}, []map[string]any{{
		"received_at": at(1), "message_id": "message", "publish_time": at(2), "subscription": nil, "attributes": nil,
		"data": nil, "part": int64(1), "parts": int64(1), "reason": "empty", "error": nil,
	}})
}

func checkLetter(t *testing.T, letter warehouse.DeadLetter, want []map[string]any) {
	t.Helper()
	var got []map[string]any
	for _, part := range letter.Parts() {
		got = append(got, named(t, warehouse.DeadLetterTable(accesslog.Layout()), &part))
	}
	// The data is compared by another function than the rest, since cmp would take
	// minutes to compute their difference.
	same := cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) })
	if diff := cmp.Diff(want, got, same); len(diff) > 0 {
		t.Errorf("rows (-want +got):\n%.2000s", diff)
	}
}
