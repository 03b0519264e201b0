package infra_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// Each metric counts the log line that it is for, and no other line of the service. If a
// name changed on one side only, an alert would never fire, or always.
func TestLogMetrics(t *testing.T) {
	m := load(t)
	valid := `{"ip":"","user_id":"7","timestamp":"2026-03-14T09:26:53Z","http_request":"","http_response":200,"num_bytes":1,"user_agent":""}`
	over, cancel := context.WithCancel(t.Context())
	cancel()
	well, broken := newService(t), newService(t)
	broken.dropTable(t)
	lines := map[string]map[string]any{
		"a flush":                     well.flush(t, t.Context()),
		"a flush that failed":         well.flush(t, over),
		"an event":                    well.push(t, t.Context(), "/push/raw", valid),
		"a dead letter":               well.push(t, t.Context(), "/push/raw", "{}"),
		"a dry run of a dead letter":  well.push(t, t.Context(), "/push/raw?dry_run=1", "{}"),
		"an event that is not stored": well.push(t, over, "/push/raw", valid),
		"a table that is gone":        broken.push(t, t.Context(), "/push/raw", valid),
	}
	want := map[string]string{"flushes": "a flush", "dead_letters": "a dead letter", "refused_rows": "a table that is gone"}
	for metric, attributes := range m.objects(t, "log_metrics") {
		filter := m.filter(t, attributes["filter"])
		for name, line := range lines {
			if got := matches(t, filter, line); got != (name == want[metric]) {
				t.Errorf("%s counts %s: %v, by %s\n%v", metric, name, got, filter, line)
			}
		}
	}
	if !strings.Contains(m.resource(t, "google_logging_metric.lines").text("filter"), "${local.log_lines} AND ${each.value.filter}") {
		t.Error("the metrics do not use their filters")
	}
}

// The exclusion leaves out Cloud Run's own entries of good requests to this service. It
// leaves out nothing that a metric counts, or that a page tells users to look for.
func TestExclusion(t *testing.T) {
	m := load(t)
	exclusion := m.resource(t, "google_logging_project_exclusion.good_requests")
	compare(t, "count", exclusion.text("count"), "var.keep_request_log ? 0 : 1")
	compare(t, "keep_request_log", m.evaluate(t, m.variables["keep_request_log"].Attributes["default"].Expr, nil), cty.False)
	compare(t, "filter", exclusion.text("filter"), `"${local.log_lines} AND log_id(\"run.googleapis.com/requests\") AND httpRequest.status<400"`)
	for name, metric := range m.objects(t, "log_metrics") {
		// Cloud Run's own entries have an httpRequest and no jsonPayload.
		if !strings.Contains(metric["filter"], "jsonPayload.") {
			t.Errorf("%s has the filter %s, which may match excluded entries", name, metric["filter"])
		}
	}
	checked := 0
	for path, text := range guides(t) {
		for _, found := range regexp.MustCompile(`httpRequest\.status *([<>=!:]+) *(\d+)`).FindAllStringSubmatch(text, -1) {
			checked++
			if status, _ := strconv.Atoi(found[2]); status < 400 || strings.ContainsAny(found[1], "<!") {
				t.Errorf("%s tells users to look for %s, which is excluded", path, found[0])
			}
		}
	}
	if checked == 0 {
		t.Error("no page looks at Cloud Run's entries: the pattern of this test is wrong")
	}
}

func (m *module) filter(t *testing.T, source string) string {
	t.Helper()
	expression, diagnostics := hclsyntax.ParseExpression([]byte(source), "", hcl.InitialPos)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	return m.evaluate(t, expression, nil).AsString()
}

// matches reports whether a filter matches a line. It knows only the forms of filters that
// metrics.tf uses. A line of level debug does not match, because it is not written.
func matches(t *testing.T, filter string, line map[string]any) bool {
	t.Helper()
	if line["level"] == slog.LevelDebug.String() {
		return false
	}
	for _, term := range strings.Split(filter, " AND ") {
		term, ok := strings.CutPrefix(term, "jsonPayload.")
		if !ok {
			t.Fatalf("filter %s: this test reads jsonPayload only", filter)
		}
		if field, ok := strings.CutSuffix(term, ":*"); ok {
			if line[field] == nil {
				return false
			}
			continue
		}
		field, text, _ := strings.Cut(term, "=")
		var want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if line[field] != want {
			return false
		}
	}
	return true
}

// recorder returns a logger, and a function that returns the last line. The key of the
// message is the one that Cloud Logging uses.
func recorder() (*slog.Logger, func(*testing.T) map[string]any) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.MessageKey {
				a.Key = "message"
			}
			return a
		},
	}))
	return log, func(t *testing.T) map[string]any {
		t.Helper()
		text := strings.TrimSpace(out.String())
		var line map[string]any
		if err := json.Unmarshal([]byte(text[strings.LastIndex(text, "\n")+1:]), &line); err != nil {
			t.Fatal(err)
		}
		return line
	}
}

// A running is a service on a new directory. Its line returns the last line of its log.
type running struct {
	*service.Service
	dir  string
	line func(*testing.T) map[string]any
}

func newService(t *testing.T, env ...string) running {
	t.Helper()
	dir := t.TempDir()
	s, err := settings.Load(map[string]string{"data-dir": dir}, func(name string) (string, bool) {
		for _, variable := range env {
			if value, ok := strings.CutPrefix(variable, name+"="); ok {
				return value, true
			}
		}
		return "", false
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Backend = "local" // set after Load, which refuses it if K_SERVICE is set
	log, line := recorder()
	started, err := service.New(t.Context(), s, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { started.Close(context.Background()) })
	return running{started, dir, line}
}

// dropTable drops the raw table.
func (s running) dropTable(t *testing.T) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.dir, "warehouse.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("DROP TABLE raw"); err != nil {
		t.Fatal(err)
	}
}

func (s running) flush(t *testing.T, ctx context.Context) map[string]any {
	t.Helper()
	s.Flush(ctx)
	return s.line(t)
}

func (s running) push(t *testing.T, ctx context.Context, path, body string) map[string]any {
	t.Helper()
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
	request.Header.Set("X-Goog-Pubsub-Message-Id", "1")
	request.Header.Set("X-Goog-Pubsub-Publish-Time", "2026-03-14T09:27:00Z")
	s.Handler().ServeHTTP(httptest.NewRecorder(), request)
	return s.line(t)
}
