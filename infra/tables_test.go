package infra_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/pipeline"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

var update = flag.Bool("update", false, "write schema/ from the code")

// A definition is the service's request to BigQuery that creates a table or view.
type definition struct {
	TableReference   struct{ TableID string }
	Description      string
	Schema           struct{ Fields []column }
	TimePartitioning *struct{ Type, Field string }
	Clustering       *struct{ Fields []string }
	View             *struct {
		Query        string
		UseLegacySQL *bool
	}
}

// A column has the form of BigQuery's JSON schemas, which bq mk also reads.
type column struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Mode        string `json:"mode"`
	Description string `json:"description"`
}

// made returns, by name, the definitions that a service with these settings creates in an
// empty project.
func made(t *testing.T, s settings.Settings) map[string]definition {
	t.Helper()
	var mu sync.Mutex
	found := map[string]definition{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error": {"code": 404, "message": "there is nothing yet", "errors": [{"reason": "notFound"}]}}`)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/tables") {
			var d definition
			if err := json.NewDecoder(r.Body).Decode(&d); err != nil {
				t.Error(err)
			}
			mu.Lock()
			found[d.TableReference.TableID] = d
			mu.Unlock()
		}
		fmt.Fprint(w, "{}")
	}))
	defer server.Close()
	ctx := context.Background()
	tables, err := bigquerytables.New(ctx, bigquerytables.Config{
		Project: s.Project, Dataset: s.Dataset, Layout: s.Layout(),
		Method: bigquerytables.InsertAll, AppendTimeout: time.Minute, Now: time.Now, RESTHost: strings.TrimPrefix(server.URL, "http://"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	if err := tables.Create(ctx); err != nil {
		t.Fatal(err)
	}
	for name, d := range found {
		for i := range d.Schema.Fields {
			if d.Schema.Fields[i].Mode == "" {
				d.Schema.Fields[i].Mode = "NULLABLE"
			}
		}
		found[name] = d
	}
	return found
}

func schemaFile(name string) string { return filepath.Join("schema", name) }

// checkFile compares a file with its wanted content. With -update it writes the file first.
func checkFile(t *testing.T, name, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(schemaFile(name), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, readFile(t, schemaFile(name))); diff != "" {
		t.Errorf("schema/%s differs from the code; run go generate ./infra (-code +file):\n%s", name, diff)
	}
}

// The files of schema/ have what does not depend on the pipeline file, except names: ${count}
// is the column with a window's number of events, ${rest} the column for the rest of an
// event, ${columns} the columns of the raw table, and ${source} the table that a view reads.
func TestTablesFollowTheCode(t *testing.T) {
	for _, table := range warehouse.Tables(warehouse.Layout{Names: warehouse.DefaultNames, Schema: event.Schema{Rest: "${rest}"}, Count: "${count}"}) {
		var columns []column
		for _, c := range table.Columns {
			columns = append(columns, column{c.Name, string(c.Type), "NULLABLE", c.Description})
		}
		checkFile(t, table.Name+".json", format(t, columns))
	}
	lab := load(t).deployed(t, nil)
	all := made(t, lab)
	for name, table := range map[string]string{"events": "raw", "windowed_traffic": "windowed_traffic_log", "dead_letters": "dead_letter"} {
		replacements := []string{"`" + lab.Project + "." + lab.Dataset + "." + table + "`", "`${source}`", "`" + lab.Layout().Count + "`", "`${count}`"}
		if name == "events" {
			var columns []string
			for _, c := range all["raw"].Schema.Fields {
				columns = append(columns, "`"+c.Name+"`")
			}
			replacements = append(replacements, strings.Join(columns, ", "), "${columns}")
		}
		checkFile(t, name+".sql", strings.NewReplacer(replacements...).Replace(all[name].View.Query)+"\n")
	}
}

// deployments are the variables of deployments of several pipelines.
func deployments(t *testing.T) map[string]map[string]cty.Value {
	t.Helper()
	samples, err := os.ReadFile("../testdata/orders.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	var inference pipeline.Inference
	for line := range bytes.Lines(samples) {
		inference.Add(line)
	}
	guessed, err := inference.File("orders")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(readFile(t, "../docs/pipeline-file.md"), "```yaml\n")
	example, _, _ = strings.Cut(example, "```\n")
	file := func(name, text string) cty.Value {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return cty.StringVal(path)
	}
	return map[string]map[string]cty.Value{
		"the lab":             nil,
		"orders, as guessed":  {"pipeline_file": file("guessed.yaml", guessed)},
		"orders, as the page": {"pipeline_file": file("page.yaml", example), "create_dataset": cty.False},
		"every kind of field": {
			"pipeline_file": cty.StringVal("testdata/every_kind.yaml"),
			"dataset":       cty.StringVal("kinds"),
			"settings":      cty.MapVal(map[string]cty.Value{"EVENT_TIME": cty.StringVal("publish")}),
		},
	}
}

// resourceOf has the resource of each of a pipeline's tables and views.
func resourceOf(names warehouse.Names) map[string]string {
	return map[string]string{
		names.Raw: "raw", names.Events(): "events", names.Agg: "windowed_traffic", names.AggLog(): "windowed_traffic_log",
		names.DeadLetter: "dead_letter", names.DeadLetters(): "dead_letters",
	}
}

// Terraform and the service create the same tables, down to the description of every
// column, whatever the pipeline file says.
func TestTables(t *testing.T) {
	m := load(t)
	for name, given := range deployments(t) {
		t.Run(name, func(t *testing.T) {
			s := m.deployed(t, given)
			all := made(t, s)
			if got := len(m.ofType("google_bigquery_table")); got != len(all) {
				t.Errorf("Terraform creates %d tables and views, the service %d", got, len(all))
			}
			for name, resource := range resourceOf(s.Layout().Names) {
				want, ok := all[name]
				if !ok {
					t.Errorf("the service creates no %s", name)
				}
				m.compareTable(t, resource, name, want, deployedTo(given), all)
			}
			m.compareOutputs(t, s, deployedTo(given))
		})
	}
}

// compareTable compares a resource with what the service asks BigQuery to create.
func (m *module) compareTable(t *testing.T, resource, name string, want definition, given map[string]cty.Value, all map[string]definition) {
	t.Helper()
	table := m.resource(t, "google_bigquery_table."+resource)
	text := func(b block, attribute string) string {
		t.Helper()
		return m.evaluate(t, b.Attributes[attribute].Expr, given).AsString()
	}
	compare(t, name+": table_id", text(table, "table_id"), name)
	compare(t, name+": dataset_id", table.text("dataset_id"), "local.dataset_id")
	compare(t, name+": description", text(table, "description"), want.Description)
	var columns []column
	if schema := m.evaluate(t, table.Attributes["schema"].Expr, given); !schema.IsNull() {
		if err := json.Unmarshal([]byte(schema.AsString()), &columns); err != nil {
			t.Fatal(err)
		}
	}
	m.comparePartitions(t, table, want)
	if want.View == nil {
		compare(t, name+": columns", columns, want.Schema.Fields)
		compare(t, name+": views", len(table.blocks("view")), 0)
		compare(t, name+": deletion_protection", table.text("deletion_protection"), "var.deletion_protection")
		// Without this, the next apply drops columns that somebody added.
		compare(t, name+": ignore_auto_generated_schema", table.text("ignore_auto_generated_schema"), "true")
		return
	}
	view := table.block(t, "view")
	compare(t, name+": query", text(view, "query"), want.View.Query)
	compare(t, name+": use_legacy_sql", m.value(t, view, "use_legacy_sql"), cty.False)
	// Terraform creates the table of a view first.
	if !strings.Contains(view.text("query"), "google_bigquery_table.") {
		t.Errorf("%s: the query refers to no resource", name)
	}
	switch {
	case resource == "windowed_traffic":
		compareWindows(t, columns, want.View.Query)
	case resource == "events" && given["pipeline_file"] != cty.NilVal:
		compare(t, name+": columns", len(columns), 0)
	default:
		compare(t, name+": columns", columns, all[tableOf(t, want.View.Query)].Schema.Fields)
	}
}

// compareOutputs compares the tables that the scripts and pages read with the service's.
func (m *module) compareOutputs(t *testing.T, s settings.Settings, given map[string]cty.Value) {
	t.Helper()
	names := s.Layout().Names
	for output, name := range map[string]string{"raw": names.Raw, "events": names.Events(), "windows": names.Agg, "dead_letter": names.DeadLetter} {
		got := m.evaluate(t, m.outputs[output].Attributes["value"].Expr, given)
		compare(t, "output "+output, got.AsString(), s.Project+"."+s.Dataset+"."+name)
	}
	compare(t, "output count_column", m.evaluate(t, m.outputs["count_column"].Attributes["value"].Expr, given).AsString(), s.Layout().Count)
}

// tableOf returns the table that a view reads.
func tableOf(t *testing.T, query string) string {
	t.Helper()
	found := regexp.MustCompile("FROM `[^`]*\\.(\\w+)`").FindAllStringSubmatch(query, -1)
	if len(found) != 1 {
		t.Fatalf("%s\nreads %d tables, want one", query, len(found))
	}
	return found[0][1]
}

func (m *module) comparePartitions(t *testing.T, table block, want definition) {
	t.Helper()
	var clustering []string
	if table.text("clustering") != "" {
		for _, field := range m.value(t, table, "clustering").AsValueSlice() {
			clustering = append(clustering, field.AsString())
		}
	}
	var wantClustering []string
	if want.Clustering != nil {
		wantClustering = want.Clustering.Fields
	}
	compare(t, "clustering", clustering, wantClustering)
	if want.TimePartitioning == nil {
		compare(t, "partitionings", len(table.blocks("time_partitioning")), 0)
		return
	}
	partitioning := table.block(t, "time_partitioning")
	compare(t, "partitioned by", m.value(t, partitioning, "type").AsString()+" of "+m.value(t, partitioning, "field").AsString(),
		want.TimePartitioning.Type+" of "+want.TimePartitioning.Field)
}

// compareWindows compares the columns of the view of windows with the view's query. Their
// file is written by hand, so at least the names must agree.
func compareWindows(t *testing.T, columns []column, query string) {
	t.Helper()
	query, _, _ = strings.Cut(query, "FROM (")
	var want []string
	for line := range strings.Lines(strings.TrimPrefix(query, "SELECT\n")) {
		words := strings.Fields(strings.TrimRight(line, ",\n"))
		want = append(want, strings.Trim(words[len(words)-1], "`"))
	}
	var got []string
	for _, c := range columns {
		got = append(got, c.Name)
		if c.Description == "" || c.Mode != "NULLABLE" {
			t.Errorf("column %s: description %q, mode %s; want one, and NULLABLE", c.Name, c.Description, c.Mode)
		}
	}
	compare(t, "columns of the windows", got, want)
}

// A file that Terraform cannot read as a pipeline file gives no plan.
func TestAWrongPipelineFileGivesNoTables(t *testing.T) {
	m := load(t)
	good := readFile(t, "testdata/every_kind.yaml")
	for name, wrong := range map[string]string{
		"no YAML":       good + "  {",
		"no name":       strings.Replace(good, "name: every_kind", "", 1),
		"another type":  strings.Replace(good, "type: INT64", "type: NUMERIC", 1),
		"no type":       strings.Replace(good, ", type: INT64", "", 1),
		"no aggregate":  good[:strings.Index(good, "aggregate:")],
		"no fields":     strings.Replace(good, "  fields:", "  columns:", 1),
		"another place": strings.Replace(good, "- processing_timestamp", "- processing_time", 1),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "wrong.yaml")
			if err := os.WriteFile(path, []byte(wrong), 0o600); err != nil {
				t.Fatal(err)
			}
			given := map[string]cty.Value{"pipeline_file": cty.StringVal(path)}
			for _, resource := range []string{"raw", "windowed_traffic_log"} {
				for _, attribute := range []string{"table_id", "schema"} {
					e := m.resource(t, "google_bigquery_table."+resource).Attributes[attribute].Expr
					if _, diagnostics := m.try(t, e, given, map[string]cty.Value{}); diagnostics.HasErrors() {
						return
					}
				}
			}
			t.Error("Terraform would create tables")
		})
	}
}

func format(t *testing.T, columns []column) string {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("[\n")
	for i, c := range columns {
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("  ")
		out.Write(line)
		if i < len(columns)-1 {
			out.WriteString(",")
		}
		out.WriteString("\n")
	}
	out.WriteString("]\n")
	return out.String()
}

func quote(text string) string { return `"` + text + `"` }

func compare(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, ok := got.(cty.Value); ok {
		if !g.RawEquals(want.(cty.Value)) {
			t.Errorf("%s is %#v, want %#v", what, got, want)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
