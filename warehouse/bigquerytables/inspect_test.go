package bigquerytables_test

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// Inspect must find nothing wrong with tables that the program itself has created.
func TestInspectFindsNothingWrongWithWhatMakeMakes(t *testing.T) {
	t.Parallel()
	tables := serve(t, &fake{}, bigquerytables.InsertAll)
	if err := tables.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range tables.Inspect(t.Context()) {
		names = append(names, string(o.Kind)+" "+o.ID)
		if o.Missing || o.Err != nil || o.Faults != nil || o.Differences != nil {
			t.Errorf("%s: %+v", o.ID, o)
		}
	}
	want := []string{"dataset p.logs", "table p.logs.raw", "table p.logs.windowed_traffic_log", "table p.logs.dead_letter",
		"view p.logs.events", "view p.logs.windowed_traffic", "view p.logs.dead_letters"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("what Inspect looked at (-want +got):\n%s", diff)
	}
}

// The lab's own pipeline creates both tables with text in place of times, and a table in
// place of the view windowed_traffic. Inspect must name each column that does not fit,
// with the statements that fix it.
func TestInspectNamesEveryFaultOfTheLabsTables(t *testing.T) {
	t.Parallel()
	f := withTables()
	lab := func(names ...string) (columns []warehouse.Column) {
		for _, name := range names {
			columns = append(columns, warehouse.Column{Name: name, Type: warehouse.String, Nullable: true})
		}
		return columns
	}
	raw := append(rawTable.Columns[:5:5], lab("event_timestamp", "processing_timestamp")...)
	f.tables["raw"] = resource(append(raw, rawTable.Columns[7:10]...))
	f.tables["windowed_traffic"] = resource(lab("page_views", "timestamp"))
	f.tables["windowed_traffic"]["type"] = "TABLE"
	tables := serve(t, f, bigquerytables.InsertAll)
	found := map[string]bigquerytables.Object{}
	for _, o := range tables.Inspect(t.Context()) {
		found[o.Name] = o
	}
	alter := "ALTER TABLE `p.logs.raw` "
	add := func(column, columnType string) bigquerytables.Fault {
		return bigquerytables.Fault{What: "column " + column + " is missing", Fix: []string{alter + "ADD COLUMN " + columnType + ";"}}
	}
	replace := func(column string) bigquerytables.Fault {
		return bigquerytables.Fault{What: "column " + column + " is STRING, want TIMESTAMP", Fix: []string{
			alter + "RENAME COLUMN `" + column + "` TO `" + column + "_old`;", alter + "ADD COLUMN `" + column + "` TIMESTAMP;",
		}}
	}
	want := []bigquerytables.Fault{
		replace("event_timestamp"), replace("processing_timestamp"),
		add("event_id STRING", "`event_id` STRING"), add("message_id STRING", "`message_id` STRING"),
		add("publish_time TIMESTAMP", "`publish_time` TIMESTAMP"), add("window_start TIMESTAMP", "`window_start` TIMESTAMP"),
		add("is_late BOOLEAN", "`is_late` BOOL"),
	}
	if diff := cmp.Diff(want, found["raw"].Faults); diff != "" {
		t.Errorf("faults of raw (-want +got):\n%s", diff)
	}
	var differences []string
	for _, d := range found["raw"].Differences {
		differences = append(differences, d.What)
	}
	if diff := cmp.Diff([]string{
		"it is not partitioned by day of processing_timestamp, so that queries read all of it",
		"it is not clustered by window_start, so that queries read more of it",
	}, differences); diff != "" {
		t.Errorf("differences of raw (-want +got):\n%s", diff)
	}
	agg := found["windowed_traffic"].Faults
	if len(agg) != 1 || agg[0].What != "it is a TABLE, want a view" {
		t.Errorf("faults of windowed_traffic: %+v", agg)
	}
	if events := found["events"]; !events.Missing {
		t.Errorf("events: %+v, want it to be missing", events)
	}
}

// A REQUIRED column must first be made nullable: under its new name it would still need a
// value in each row.
func TestARequiredColumnOfTheWrongTypeIsMadeNullableFirst(t *testing.T) {
	t.Parallel()
	f := withTables()
	columns := append([]warehouse.Column{}, rawTable.Columns...)
	columns[0].Type = warehouse.Bytes
	f.tables["raw"] = resource(columns)
	got := serve(t, f, bigquerytables.InsertAll).Inspect(t.Context())[1].Faults
	want := []bigquerytables.Fault{{What: "column ip is BYTES, want STRING", Fix: []string{
		"ALTER TABLE `p.logs.raw` ALTER COLUMN `ip` DROP NOT NULL;",
		"ALTER TABLE `p.logs.raw` RENAME COLUMN `ip` TO `ip_old`;",
		"ALTER TABLE `p.logs.raw` ADD COLUMN `ip` STRING;",
	}}}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// A column with a length or a precision refuses values that are longer. Inspect must name
// such a column.
func TestInspectNamesANarrowedColumn(t *testing.T) {
	t.Parallel()
	f := withTables()
	alter := "ALTER TABLE `p.logs.dead_letter` "
	narrow(f.tables["dead_letter"], "part", map[string]any{"type": "NUMERIC", "mode": "NULLABLE", "precision": "5", "scale": "2"})
	narrow(f.tables["dead_letter"], "parts", map[string]any{"type": "BIGNUMERIC", "mode": "NULLABLE", "precision": "5"})
	narrow(f.tables["dead_letter"], "publish_time", map[string]any{"mode": "NULLABLE", "timestampPrecision": "12"})
	narrow(f.tables["dead_letter"], "received_at", map[string]any{"timestampPrecision": "6"})
	narrow(f.tables["dead_letter"], "data", map[string]any{"maxLength": "1024", "mode": "REQUIRED"})
	got := serve(t, f, bigquerytables.InsertAll).Inspect(t.Context())[3].Faults
	want := []bigquerytables.Fault{
		{What: "column publish_time is TIMESTAMP(12), want TIMESTAMP", Fix: []string{alter + "RENAME COLUMN `publish_time` TO `publish_time_old`;", alter + "ADD COLUMN `publish_time` TIMESTAMP;"}},
		{What: "column data is BYTES(1024), want BYTES", Fix: []string{alter + "ALTER COLUMN `data` SET DATA TYPE BYTES;"}},
		{What: "column data is REQUIRED, want NULLABLE", Fix: []string{alter + "ALTER COLUMN `data` DROP NOT NULL;"}},
		{What: "column part is NUMERIC(5, 2), want INTEGER", Fix: []string{alter + "RENAME COLUMN `part` TO `part_old`;", alter + "ADD COLUMN `part` INT64;"}},
		{What: "column parts is BIGNUMERIC(5), want INTEGER", Fix: []string{alter + "RENAME COLUMN `parts` TO `parts_old`;", alter + "ADD COLUMN `parts` INT64;"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// The case of a column's name does not matter. A column that the owner has added is a
// fault only if it is REQUIRED.
func TestInspectOfColumnsThatTheOwnerChanged(t *testing.T) {
	t.Parallel()
	f := withTables()
	narrow(f.tables["raw"], "lat", map[string]any{"name": "LAT"})
	narrow(f.tables["raw"], "lng", map[string]any{"mode": "REPEATED"})
	schema := f.tables["raw"]["schema"].(map[string]any)
	schema["fields"] = append(schema["fields"].([]any),
		map[string]any{"name": "team", "type": "STRING"},
		map[string]any{"name": "cost", "type": "INTEGER", "mode": "REQUIRED", "defaultValueExpression": "0"},
		map[string]any{"name": "owner", "type": "STRING", "mode": "REQUIRED"},
	)
	got := serve(t, f, bigquerytables.InsertAll).Inspect(t.Context())[1].Faults
	alter := "ALTER TABLE `p.logs.raw` "
	want := []bigquerytables.Fault{
		{What: "column lng is ARRAY<FLOAT>, want FLOAT", Fix: []string{alter + "RENAME COLUMN `lng` TO `lng_old`;", alter + "ADD COLUMN `lng` FLOAT64;"}},
		{What: "column owner is REQUIRED, and Tidemark has no value for it", Fix: []string{alter + "ALTER COLUMN `owner` DROP NOT NULL;"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// If a table is partitioned by month, or the column is not the first of the clusters,
// queries read more than necessary. Inspect must report this as a difference.
func TestInspectNamesOtherPartitionsAndClusters(t *testing.T) {
	t.Parallel()
	f := withTables()
	maps.Copy(f.tables["raw"], map[string]any{
		"timePartitioning": map[string]any{"type": "MONTH", "field": "processing_timestamp"}, "clustering": map[string]any{"fields": []any{"event_id", "window_start"}},
		"requirePartitionFilter": true,
	})
	raw := serve(t, f, bigquerytables.InsertAll).Inspect(t.Context())[1]
	var got []string
	for _, f := range append(raw.Faults, raw.Differences...) {
		got = append(got, f.What)
	}
	want := []string{
		"it requires a filter on its partitions, which audits and flushes of old windows do not have",
		"it is not partitioned by day of processing_timestamp, so that queries read all of it",
		"it is not clustered by window_start, so that queries read more of it",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults and differences (-want +got):\n%s", diff)
	}
}

func TestOpenStreamAppendsNothing(t *testing.T) {
	t.Parallel()
	f := withTables()
	tables := serve(t, f, bigquerytables.StorageWrite)
	if err := tables.OpenStream(t.Context(), "raw"); err != nil {
		t.Error(err)
	}
	if err := tables.OpenStream(t.Context(), "gone"); err == nil {
		t.Error("opening the stream of a table that does not exist returned no error")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.appends != 0 {
		t.Errorf("%d appends", f.appends)
	}
}
