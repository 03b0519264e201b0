package infra_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/metrics"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// Each alert has a page with the alert's title, and each page has an alert. All pages have
// the same parts in the same order.
func TestPlaybooks(t *testing.T) {
	m := load(t)
	alerts := m.objects(t, "alerts")
	files, err := filepath.Glob("../docs/playbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, file := range files {
		pages = append(pages, strings.TrimSuffix(filepath.Base(file), ".md"))
	}
	compare(t, "pages", pages, slices.Sorted(maps.Keys(alerts)))
	for name, alert := range alerts {
		text := readFile(t, filepath.Join("../docs/playbooks", name+".md"))
		title, _, _ := strings.Cut(text, "\n")
		if want := "# " + strings.Trim(alert["title"], `"`); !strings.EqualFold(title, want) {
			t.Errorf("%s.md begins with %q, want %q", name, title, want)
		}
		rest := text
		for _, part := range []string{"**Means**", "**Not at risk**", "**At risk**", "\n## Look\n", "\n## Causes\n", "\n## Over when\n"} {
			before, after, ok := strings.Cut(rest, part)
			if rest = after; !ok {
				t.Errorf("%s.md has no %q in its place", name, strings.TrimSpace(part))
				rest = before
			}
		}
	}
}

// documents returns the text of every page, by its path from this directory.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{"README.md": readFile(t, "README.md")}
	files, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("../docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		found[file] = readFile(t, file)
	}
	return found
}

// guides returns the pages that say how to operate a deployment.
func guides(t *testing.T) map[string]string {
	t.Helper()
	found := documents(t)
	maps.DeleteFunc(found, func(path, _ string) bool {
		return path != "../docs/operations.md" && path != "../docs/logs.md" && !strings.HasPrefix(path, "../docs/playbooks/")
	})
	return found
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fence    = regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```$")
	codeSpan = regexp.MustCompile("`[^`\n]+`")
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// prose returns a text without its blocks of code.
func prose(text string) string { return fence.ReplaceAllString(text, "") }

// For every link to a file, the file exists, and so does the heading that the link names.
func TestLinksResolve(t *testing.T) {
	t.Parallel()
	for path, text := range documents(t) {
		for _, found := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(prose(text), ""), -1) {
			target, err := url.Parse(found[1])
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			if target.Scheme != "" {
				continue
			}
			file := path
			if target.Path != "" {
				file = filepath.Join(filepath.Dir(path), target.Path)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s: %v", path, found[1], err)
				continue
			}
			if target.Fragment != "" && !slices.Contains(anchors(readFile(t, file)), target.Fragment) {
				t.Errorf("%s links to %s, and there is no such heading", path, found[1])
			}
		}
	}
}

// anchors returns the names that GitHub gives the headings of a page.
func anchors(text string) []string {
	var names []string
	for _, found := range heading.FindAllStringSubmatch(prose(text), -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N}\- _]`).ReplaceAllString(strings.ToLower(found[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// Every metric that a page names exists: in the program, or as a count of its log lines.
func TestMetricsOfTheDocumentsExist(t *testing.T) {
	m := load(t)
	scrape := httptest.NewRecorder()
	metrics.New(time.Now).Handler().ServeHTTP(scrape, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	exists := map[string]bool{}
	for _, typed := range regexp.MustCompile(`(?m)^# TYPE (tidemark_\w+) (\w+)$`).FindAllStringSubmatch(scrape.Body.String(), -1) {
		exists[typed[1]] = true
		if typed[2] == "histogram" {
			exists[typed[1]+"_bucket"], exists[typed[1]+"_count"], exists[typed[1]+"_sum"] = true, true, true
		}
	}
	for name := range m.objects(t, "log_metrics") {
		exists["tidemark_"+name] = true
	}
	checked := 0
	for path, text := range documents(t) {
		// A group, as in grep -E '^tidemark_(a|b)', stands for each of its names.
		text = regexp.MustCompile(`tidemark_\(([a-z_|]+)`).ReplaceAllStringFunc(text, func(group string) string {
			return "tidemark_" + strings.ReplaceAll(strings.TrimPrefix(group, "tidemark_("), "|", " tidemark_")
		})
		for _, name := range regexp.MustCompile(`tidemark_[a-z_]*[a-z]`).FindAllString(text, -1) {
			checked++
			if !exists[name] {
				t.Errorf("%s names the metric %s, which does not exist", path, name)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d metrics are named", checked)
	}
}

// notSettings look like settings, but are not.
var notSettings = []string{
	"TIDEMARK_TOKEN", "BQEMULATOR_PYTHON", "ATTRIBUTES", // environment variables, but not settings
	"SYSTEM_TIME", "UNIX_MILLIS", "RESOURCE_EXHAUSTED", "SIGNATURE_REMOVED_BY_GOOGLE", // words of other software
}

// Every setting that a page names exists. Two forms in a span of code count as a setting: a
// word in capitals with an underscore, and a word in capitals before an equals sign.
func TestSettingsOfTheDocumentsExist(t *testing.T) {
	exists := map[string]bool{"AGG_TABLE_log": true}
	for _, setting := range settings.Table() {
		exists[setting.Name] = true
	}
	for _, name := range notSettings {
		exists[name] = true
	}
	checked := 0
	for path, text := range documents(t) {
		for _, span := range codeSpan.FindAllString(prose(text), -1) {
			for _, found := range regexp.MustCompile(`(?:^|[^\w$"'(:.])([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b|^([A-Z][A-Z_]{2,})=`).FindAllStringSubmatch(strings.Trim(span, "`"), -1) {
				name := found[1] + found[2]
				checked++
				if !exists[name] {
					t.Errorf("%s names the setting %s in %s, which does not exist", path, name, span)
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d settings are named", checked)
	}
}

// Every table, column, variable, log field and reason that the guides name exists. A span
// of code counts as a name if it is a single word with an underscore.
func TestNamesOfTheGuidesExist(t *testing.T) {
	m := load(t)
	exists := map[string]bool{
		"ignore_changes": true, "client_version": true, // of Terraform
		"response_code": true, // of Cloud Monitoring
	}
	for name := range m.variables {
		exists[name] = true
	}
	for _, table := range warehouse.Tables(accesslog.Layout()) {
		exists[table.Name] = true
		for _, column := range table.Columns {
			exists[column.Name] = true
		}
	}
	for _, view := range []string{warehouse.DefaultNames.Agg, warehouse.DefaultNames.Events(), warehouse.DefaultNames.DeadLetters()} {
		exists[view] = true
	}
	for _, reason := range []event.Reason{event.Empty, event.BadUTF8, event.BadJSON, event.NotAnObject, event.MissingField, event.WrongType,
		event.BadTime, event.TooFarAhead, event.MissingAttribute, event.MissingID, event.AmbiguousMetadata, event.Rejected, event.Panic} {
		exists[string(reason)] = true
	}
	for _, setting := range settings.Table() {
		exists[setting.Name] = true
	}
	fields := logFields(t)
	maps.Copy(exists, fields)
	for path, text := range guides(t) {
		for _, span := range codeSpan.FindAllString(prose(text), -1) {
			name := strings.Trim(span, "`")
			if regexp.MustCompile(`^[a-zA-Z]+(_[a-zA-Z]+)+$`).MatchString(name) && !exists[name] && !strings.HasPrefix(name, "tidemark_") {
				t.Errorf("%s names %s, which does not exist", path, span)
			}
		}
		// Filters of the service's own log lines.
		for _, filter := range regexp.MustCompile(`\blogs '([^']*)'`).FindAllStringSubmatch(text, -1) {
			for _, field := range regexp.MustCompile(`jsonPayload\.(\w+)`).FindAllStringSubmatch(filter[1], -1) {
				if !fields[field[1]] {
					t.Errorf("%s filters by %s, which no line of the log has", path, field[0])
				}
			}
		}
	}
}

// operations.md says what is normal on each chart of the dashboard.
func TestChartsAreExplained(t *testing.T) {
	text := readFile(t, "../docs/operations.md")
	titles := regexp.MustCompile(`title = "([^"]+)"`).FindAllStringSubmatch(string(load(t).sources["dashboard.tf"]), -1)
	if len(titles) == 0 {
		t.Error("no charts")
	}
	for _, title := range titles {
		if !strings.Contains(text, "\n| "+title[1]+" | ") {
			t.Errorf("operations.md does not say what is normal on the chart %q", title[1])
		}
	}
}

// logFields returns the fields of the service's log lines.
func logFields(t *testing.T) map[string]bool {
	t.Helper()
	const event = `{"ip":"","user_id":"7","timestamp":"2026-03-14T09:26:53Z","http_request":"","http_response":200,"num_bytes":1,"user_agent":""}`
	well, broken := newService(t, "FLUSH_QUIET=0", "FLUSH_MAX_WINDOWS=1"), newService(t)
	broken.dropTable(t)
	fields := map[string]bool{
		"caller":            true, // which only a service with AUTH writes
		"firestore_ahead_s": true, // which a service writes only if clocks differ
	}
	for _, line := range []map[string]any{
		well.push(t, t.Context(), "/push/raw", event),
		well.push(t, t.Context(), "/push/raw", strings.Replace(event, "09:26", "09:27", 1)),
		well.flush(t, t.Context()), // one of the two windows is written
		well.push(t, t.Context(), "/push/raw", "{}"),
		broken.push(t, t.Context(), "/push/raw", event),
	} {
		for field := range line {
			fields[field] = true
		}
	}
	return fields
}

// Every block of commands parses as shell, and every block of JSON is valid.
func TestBlocksOfTheDocumentsParse(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash in PATH to parse the commands")
	}
	checked := 0
	for path, text := range documents(t) {
		for _, block := range fence.FindAllStringSubmatch(text, -1) {
			switch block[1] {
			case "sh":
				checked++
				cmd := exec.Command(bash, "-n")
				cmd.Stdin = strings.NewReader(block[2])
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s\n%s", path, err, block[2], out)
				}
			case "json":
				if !json.Valid([]byte(block[2])) {
					t.Errorf("%s: not valid JSON:\n%s", path, block[2])
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d blocks of commands", checked)
	}
}
