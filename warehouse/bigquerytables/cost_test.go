package bigquerytables

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/internal/lab/generator"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
)

// The sizes of the generator's raw rows must be those that docs/cost.md computes with.
func TestBytesOfARawRow(t *testing.T) {
	t.Parallel()
	const events = 5000
	table := warehouse.RawTable(accesslog.Layout())
	encoding, err := newEncoding(table.Table)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 3, 14, 9, 0, 0, 0, time.UTC)
	config := generator.Default()
	config.Seed, config.Count, config.Start = 1, events, start
	deliveries, err := generator.Simulate(t.Context(), config, start)
	if err != nil {
		t.Fatal(err)
	}
	classifier := event.NewClassifier(event.Rules{Schema: accesslog.Schema(), Windows: window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute}, MaxClockSkew: 5 * time.Minute})
	// These are the columns that an audit, and a count from the raw rows, read. See
	// queries.go.
	scanned := []string{"processing_timestamp", "event_id", "window_start", "is_late"}
	var appended, stored, audited, n int
	for d := range deliveries {
		n++
		d.Message.ID = fmt.Sprintf("%017d", n) // as long as the ids of Pub/Sub
		v := classifier.Classify(d.Message)
		row := table.Row(&warehouse.RawRow{
			Event: v.Event, ProcessingTime: d.At, EventID: v.EventID, MessageID: d.Message.ID,
			PublishTime: d.Message.PublishTime, WindowStart: v.Window, Late: v.Status == event.Late,
		})
		wire, err := encoding.encode(row)
		if err != nil {
			t.Fatal(err)
		}
		appended += len(wire)
		for i, value := range row {
			size := logicalSize(value)
			stored += size
			if slices.Contains(scanned, table.Columns[i].Name) {
				audited += size
			}
		}
	}
	if n != events {
		t.Fatalf("%d events, want %d", n, events)
	}
	page := readCost(t)
	page.says(t, "a raw row, as it is appended", appended/events)
	page.says(t, "a raw row, as BigQuery bills it", stored/events)
	page.says(t, "of which an audit reads", audited/events)
}

// logicalSize returns the size for which BigQuery bills a value:
// https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#data_type_sizes
func logicalSize(value any) int {
	switch v := value.(type) {
	case nil:
		return 0
	case string:
		return 2 + len(v)
	case bool:
		return 1
	}
	return 8
}

type costPage string

func readCost(t *testing.T) costPage {
	t.Helper()
	text, err := os.ReadFile("../../docs/cost.md")
	if err != nil {
		t.Fatal(err)
	}
	return costPage(text)
}

// says checks the number of bytes in the page's row of the given name.
func (page costPage) says(t *testing.T, name string, bytes int) {
	t.Helper()
	t.Logf("%s: %d bytes", name, bytes)
	found := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(name) + ` \| ([\d,]+) bytes \|`).FindStringSubmatch(string(page))
	if found == nil {
		t.Errorf("docs/cost.md does not say how many bytes %s takes: %d", name, bytes)
		return
	}
	if said, err := strconv.Atoi(strings.ReplaceAll(found[1], ",", "")); err != nil || said != bytes {
		t.Errorf("docs/cost.md: %s takes %s bytes; measured %d", name, found[1], bytes)
	}
}
