package infra_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Each alert says what it means, and links to a page that says what to do.
func TestAlerts(t *testing.T) {
	m := load(t)
	want := []string{"dead-letters", "flush-missing", "oldest-unacked", "refused-rows", "server-errors"}
	alerts := m.objects(t, "alerts")
	compare(t, "alerts", slices.Sorted(maps.Keys(alerts)), want)
	for name, alert := range alerts {
		for _, key := range []string{"title", "severity", "meaning", "query", "duration"} {
			if strings.Trim(alert[key], `"`) == "" {
				t.Errorf("alert %s has no %s", name, key)
			}
		}
		if severity := strings.Trim(alert["severity"], `"`); !slices.Contains([]string{"CRITICAL", "ERROR", "WARNING"}, severity) {
			t.Errorf("alert %s: the provider knows no severity %s", name, severity)
		}
		if _, err := os.Stat(filepath.Join("../docs/playbooks", name+".md")); err != nil {
			t.Errorf("alert %s has no page: %v", name, err)
		}
	}
	policy := m.resource(t, "google_monitoring_alert_policy.alerts")
	compare(t, "for_each", policy.text("for_each"), "var.alerts ? local.alerts : {}")
	compare(t, "link", policy.block(t, "documentation", "links").text("url"), `"${local.playbooks}/${each.key}.md"`)
	condition := policy.block(t, "conditions", "condition_prometheus_query_language")
	compare(t, "query", condition.text("query"), "each.value.query")
	if interval := m.seconds(t, condition, "evaluation_interval"); interval <= 0 || interval%(30*time.Second) != 0 {
		t.Errorf("evaluation_interval is %v, want a multiple of 30 s", interval)
	}
}

// The dashboard sets no position to 0. The API leaves a 0 out of its answer, so each plan
// would show a change.
func TestNoPositionIsZero(t *testing.T) {
	m := load(t)
	chart := cty.ObjectVal(map[string]cty.Value{"title": cty.StringVal("t"), "query": cty.StringVal("q"), "unit": cty.StringVal("1")})
	charts := cty.TupleVal([]cty.Value{chart, chart, chart})
	text := m.evaluateWith(t, m.resource(t, "google_monitoring_dashboard.tidemark").Attributes["dashboard_json"].Expr, nil,
		map[string]cty.Value{"local": cty.ObjectVal(map[string]cty.Value{"charts": charts})})
	var board struct {
		MosaicLayout struct {
			Tiles []struct{ XPos, YPos, Width, Height *int }
		}
	}
	if err := json.Unmarshal([]byte(text.AsString()), &board); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tile := range board.MosaicLayout.Tiles {
		at := ""
		for _, side := range []*int{tile.XPos, tile.YPos, tile.Width, tile.Height} {
			if side == nil {
				at += "- "
			} else {
				at += strconv.Itoa(*side) + " "
			}
		}
		got = append(got, at)
	}
	compare(t, "x, y, width and height", got, []string{"- - 24 16 ", "24 - 24 16 ", "- 16 24 16 "})
}

// If no flush ever succeeded, there is no series, and a comparison with an empty result
// fires no alert.
func TestFlushMissingFiresWithoutSeries(t *testing.T) {
	query := load(t).objects(t, "alerts")["flush-missing"]["query"]
	if !strings.Contains(query, "or vector(0)") {
		t.Errorf("flush-missing asks for %s, which is empty before the first flush", query)
	}
}

// Alerts and charts use all series that are defined, and no others.
func TestSeries(t *testing.T) {
	m := load(t)
	var defined []string
	for _, arg := range m.locals["series"].(*hclsyntax.FunctionCallExpr).Args {
		if object, ok := arg.(*hclsyntax.ObjectConsExpr); ok {
			for _, item := range object.Items {
				defined = append(defined, m.textOf(item.KeyExpr))
			}
		}
	}
	defined = append(defined, slices.Collect(maps.Keys(m.objects(t, "log_metrics")))...)
	used := map[string]bool{}
	for _, file := range []string{"alerts.tf", "dashboard.tf"} {
		for _, found := range regexp.MustCompile(`local\.series\.(\w+)`).FindAllSubmatch(m.sources[file], -1) {
			used[string(found[1])] = true
		}
	}
	compare(t, "series that are used, and series that are defined", slices.Sorted(maps.Keys(used)), slices.Sorted(slices.Values(defined)))
}

// objects returns a local map of objects, with the source text of each attribute.
func (m *module) objects(t *testing.T, local string) map[string]map[string]string {
	t.Helper()
	outer, ok := m.locals[local].(*hclsyntax.ObjectConsExpr)
	if !ok {
		t.Fatalf("local.%s is no map of objects", local)
	}
	all := map[string]map[string]string{}
	for _, item := range outer.Items {
		object := map[string]string{}
		for _, attribute := range item.ValueExpr.(*hclsyntax.ObjectConsExpr).Items {
			object[m.textOf(attribute.KeyExpr)] = m.textOf(attribute.ValueExpr)
		}
		all[m.textOf(item.KeyExpr)] = object
	}
	return all
}

// textOf returns the source text of an expression.
func (m *module) textOf(e hclsyntax.Expression) string {
	return string(e.Range().SliceBytes(m.sources[e.Range().Filename]))
}

// The API of every resource is enabled.
func TestAPIs(t *testing.T) {
	m := load(t)
	apis := map[string]string{
		"google_artifact_registry": "artifactregistry", "google_bigquery": "bigquery", "google_cloud_run_v2": "run", "google_cloud_scheduler": "cloudscheduler",
		"google_firestore": "firestore", "google_logging": "logging", "google_monitoring": "monitoring", "google_project": "cloudresourcemanager",
		"google_pubsub": "pubsub", "google_service_account": "iam", "google_storage": "storage",
	}
	services := m.resource(t, "google_project_service.this")
	enabled := services.text("for_each")
	compare(t, "disable_on_destroy", services.text("disable_on_destroy"), "false")
	for name := range m.resources {
		found := false
		for prefix, api := range apis {
			if strings.HasPrefix(name, prefix) {
				found = true
				if !strings.Contains(enabled, quote(api+".googleapis.com")) {
					t.Errorf("%s needs %s.googleapis.com", name, api)
				}
			}
		}
		if !found {
			t.Errorf("%s: this test does not know its API", name)
		}
	}
}
