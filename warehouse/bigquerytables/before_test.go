package bigquerytables_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/test/warehousetest"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// request calls the REST API as another program does, and returns the answer.
func (on place) request(t *testing.T, method, path string, body any) (answer map[string]any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+on.rest+"/bigquery/v2/projects/"+on.project+"/"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	err = json.NewDecoder(response.Body).Decode(&answer)
	if refused, _ := answer["insertErrors"].([]any); err != nil || response.StatusCode != http.StatusOK || len(refused) > 0 {
		t.Fatalf("%s %s: %s %v %v", method, path, response.Status, err, answer)
	}
	return answer
}

// writtenBefore creates the dataset that testdata/before.json describes: what the
// version before pipeline files created and stored with EVENT_ID=attribute:id.
func (on place) writtenBefore(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("testdata/before.json")
	if err != nil {
		t.Fatal(err)
	}
	var before struct {
		Tables []map[string]any
		Rows   map[string][]map[string]any
	}
	if err := json.Unmarshal(bytes.ReplaceAll(text, []byte("PROJECT"), []byte(on.project)), &before); err != nil {
		t.Fatal(err)
	}
	on.request(t, "POST", "datasets", map[string]any{"datasetReference": map[string]any{"projectId": on.project, "datasetId": "logs"}, "location": "US"})
	for _, table := range before.Tables {
		on.request(t, "POST", "datasets/logs/tables", table)
	}
	for table, rows := range before.Rows {
		var insert []any
		for _, row := range rows {
			insert = append(insert, map[string]any{"json": row})
		}
		on.request(t, "POST", "datasets/logs/tables/"+table+"/insertAll", map[string]any{"rows": insert})
	}
}

// view returns the description of a view.
func (on place) view(t *testing.T, name string) string {
	t.Helper()
	description, _ := on.request(t, "GET", "datasets/logs/tables/"+name, nil)["description"].(string)
	return description
}

func TestADatasetOfTheVersionBeforeGoesOn(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		for _, method := range methods {
			at := on(t)
			at.writtenBefore(t)
			cfg := at.config(method)
			w := open(t, cfg)
			start := time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)
			check := func(when string, views int64, counted int64) {
				t.Helper()
				rows, err := query(cfg)(t.Context(), "SELECT timestamp, page_views, is_final FROM windowed_traffic")
				if diff := cmp.Diff([]warehousetest.Row{{"timestamp": start, "page_views": views, "is_final": true}}, rows); err != nil || diff != "" {
					t.Errorf("%s: %v, windows (-want +got)\n%s", when, err, diff)
				}
				if counts, err := w.CountRaw(t.Context(), []time.Time{start}); err != nil || !slices.Equal(counts, []int64{counted}) {
					t.Errorf("%s: %v counted in raw, %v, want %d", when, counts, err, counted)
				}
			}
			check("before", 2, 2)

			raw := all(t, w.RawRows(t.Context(), time.Time{}, time.Time{}))
			letters := all(t, w.DeadLetters(t.Context(), time.Time{}, time.Time{}))
			if len(raw) != 3 || raw[0].MessageID != "1" || len(letters) != 1 || string(letters[0].Message.Data) != "{" {
				t.Fatalf("raw rows %+v, dead letters %+v", raw, letters)
			}
			next := raw[1]
			next.EventID, next.MessageID = "e5", "6"
			final := warehouse.WindowCount{Start: start, End: start.Add(time.Minute), PageViews: 3, Final: true, WrittenAt: next.ProcessingTime.Add(time.Hour)}
			if err := w.AppendRaw(t.Context(), []warehouse.RawRow{next, raw[0]}); err != nil {
				t.Fatal(err)
			}
			if err := w.AppendCounts(t.Context(), []warehouse.WindowCount{final}); err != nil {
				t.Fatal(err)
			}
			check("after", 3, 3)
			for _, name := range []string{"events", "windowed_traffic", "dead_letters"} {
				if description := at.view(t, name); !strings.HasSuffix(description, "(Revision 2.)") {
					t.Errorf("%s: the view %s is that of another version: %s", method, name, description)
				}
			}
			rows, err := query(cfg)(t.Context(), "SELECT event_id, message_id, is_late FROM events ORDER BY event_id")
			want := []warehousetest.Row{
				{"event_id": "e1", "message_id": "1", "is_late": false}, // before, 2: it was published first
				{"event_id": "e2", "message_id": "3", "is_late": false},
				{"event_id": "e3", "message_id": "4", "is_late": true},
				{"event_id": "e5", "message_id": "6", "is_late": false},
			}
			if diff := cmp.Diff(want, rows); err != nil || diff != "" {
				t.Errorf("%s: %v, events (-want +got)\n%s", method, err, diff)
			}
			if found, err := w.Audit(t.Context(), time.Time{}, start.Add(time.Hour), 10); err != nil || len(found) != 0 {
				t.Errorf("%s: audit %v, %v", method, found, err)
			}
		}
	})
}

// Two versions of the program may run side by side while one replaces the other.
func TestAViewOfALaterVersionStays(t *testing.T) {
	onEach(t, func(t *testing.T, on func(testing.TB) place) {
		at := on(t)
		at.writtenBefore(t)
		const later = "Each event once. (Revision 1000.)"
		at.request(t, "PATCH", "datasets/logs/tables/events", map[string]any{"description": later})
		cfg := at.config(bigquerytables.StorageWrite)
		w := open(t, cfg)
		start := time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)
		if err := w.AppendCounts(t.Context(), []warehouse.WindowCount{{Start: start, End: start.Add(time.Minute), PageViews: 2, Final: true, WrittenAt: start.Add(time.Hour)}}); err != nil {
			t.Fatal(err)
		}
		if description := at.view(t, "events"); description != later {
			t.Errorf("the later view was replaced by: %s", description)
		}
		if description := at.view(t, "dead_letters"); !strings.HasSuffix(description, "(Revision 2.)") {
			t.Errorf("the view of the version before was not replaced: %s", description)
		}
	})
}
