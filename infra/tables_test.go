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

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
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

// made returns, by name, the definitions that the service creates in an empty project.
func made(t *testing.T) map[string]definition {
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
		Project: "p", Dataset: "d", Layout: accesslog.Layout(),
		Method: bigquerytables.InsertAll, RESTHost: strings.TrimPrefix(server.URL, "http://"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	if err := tables.Make(ctx); err != nil {
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

// source returns the table that a view reads, and the view's query with ${source} in the
// table's place.
func (d definition) source(t *testing.T) (table, template string) {
	t.Helper()
	names := regexp.MustCompile("`p\\.d\\.([a-z_]+)`").FindAllStringSubmatch(d.View.Query, -1)
	if len(names) != 1 {
		t.Fatalf("view %s reads %d tables, want one", d.TableReference.TableID, len(names))
	}
	return names[0][1], strings.Replace(d.View.Query, names[0][0], "`${source}`", 1) + "\n"
}

// viewColumns returns the columns of a view: the columns of its table, or for
// windowed_traffic the columns in its file. No column of a view may be required.
func viewColumns(t *testing.T, d definition, all map[string]definition) []column {
	t.Helper()
	if d.TableReference.TableID == warehouse.DefaultNames.Agg {
		return readColumns(t, d.TableReference.TableID)
	}
	table, _ := d.source(t)
	columns := append([]column(nil), all[table].Schema.Fields...)
	for i := range columns {
		columns[i].Mode = "NULLABLE"
	}
	return columns
}

func readColumns(t *testing.T, name string) []column {
	t.Helper()
	var columns []column
	if err := json.Unmarshal([]byte(readFile(t, schemaFile(name+".json"))), &columns); err != nil {
		t.Fatal(err)
	}
	return columns
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

// Terraform and the service create the same tables, down to the description of every column.
func TestTables(t *testing.T) {
	m := load(t)
	all := made(t)
	if got := len(m.ofType("google_bigquery_table")); got != len(all) {
		t.Errorf("Terraform creates %d tables and views, the service %d", got, len(all))
	}
	for name, want := range all {
		t.Run(name, func(t *testing.T) {
			columns := want.Schema.Fields
			if want.View != nil {
				columns = viewColumns(t, want, all)
			}
			checkFile(t, name+".json", format(t, columns))
			table := m.resource(t, "google_bigquery_table."+name)
			compare(t, "table_id", table.text("table_id"), quote(name))
			compare(t, "dataset_id", table.text("dataset_id"), "local.dataset_id")
			compare(t, "schema", table.text("schema"), `file("${path.module}/schema/`+name+`.json")`)
			compare(t, "description", m.value(t, table, "description").AsString(), want.Description)
			m.comparePartitions(t, table, want)
			if want.View == nil {
				compare(t, "views", len(table.blocks("view")), 0)
				compare(t, "deletion_protection", table.text("deletion_protection"), "var.deletion_protection")
				// Without this, the next apply drops columns that somebody added.
				compare(t, "ignore_auto_generated_schema", table.text("ignore_auto_generated_schema"), "true")
				return
			}
			source, template := want.source(t)
			checkFile(t, name+".sql", template)
			view := table.block(t, "view")
			compare(t, "query", strings.Join(strings.Fields(view.text("query")), " "), `chomp(templatefile("${path.module}/schema/`+name+
				`.sql", { source = "${var.project}.${local.dataset_id}.${google_bigquery_table.`+source+`.table_id}" }))`)
			compare(t, "use_legacy_sql", m.value(t, view, "use_legacy_sql"), cty.False)
		})
	}
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

// The file of windowed_traffic's columns is written by hand, so this test compares at least
// the names with the view's query.
func TestColumnsOfWindowedTraffic(t *testing.T) {
	query, _, _ := strings.Cut(made(t)[warehouse.DefaultNames.Agg].View.Query, "FROM (")
	var want []string
	for line := range strings.Lines(strings.TrimPrefix(query, "SELECT\n")) {
		words := strings.Fields(strings.TrimRight(line, ",\n"))
		want = append(want, strings.Trim(words[len(words)-1], "`"))
	}
	var got []string
	for _, c := range readColumns(t, warehouse.DefaultNames.Agg) {
		got = append(got, c.Name)
		if c.Description == "" || c.Mode != "NULLABLE" {
			t.Errorf("column %s: description %q, mode %s; want one, and NULLABLE", c.Name, c.Description, c.Mode)
		}
	}
	compare(t, "columns", got, want)
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
