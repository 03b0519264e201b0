package infra_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// Each variable has a description, and refuses values that would fail later or do harm.
func TestVariables(t *testing.T) {
	m := load(t)
	text := func(values ...string) (all []cty.Value) {
		for _, v := range values {
			all = append(all, cty.StringVal(v))
		}
		return all
	}
	numbers := func(values ...float64) (all []cty.Value) {
		for _, v := range values {
			all = append(all, cty.NumberFloatVal(v))
		}
		return all
	}
	members := func(values ...string) (all []cty.Value) {
		for _, v := range values {
			all = append(all, cty.SetVal(text(v)))
		}
		return all
	}
	settings := func(values ...string) (all []cty.Value) {
		for _, v := range values {
			name, value, _ := strings.Cut(v, "=")
			all = append(all, cty.MapVal(map[string]cty.Value{name: cty.StringVal(value)}))
		}
		return all
	}
	digest := "us-docker.pkg.dev/p/r/tidemark@sha256:" + strings.Repeat("0a", 32)
	long := filepath.Join(t.TempDir(), "long.yaml")
	if err := os.WriteFile(long, bytes.Repeat([]byte("#\n"), 16<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ good, bad []cty.Value }{
		"project":                 {text("my-project-123", "abcdef"), text("", "My Project", "123456", "example.com:p", "ends-in-", "proj/x")},
		"region":                  {text("us-central1", "europe-west10"), text("", "us", "us-central1-a", "US", "nam5")},
		"image":                   {text("", digest), text("tidemark", "tidemark:latest", "us-docker.pkg.dev/p/r/tidemark:v1", digest+"0")},
		"name":                    {text("tidemark", "tm-1"), text("", "abc", "Tidemark", "-tidemark", "tidemark-", strings.Repeat("a", 21))},
		"topic":                   {text("my_topic", "a.b-c"), text("", "projects/p/topics/t", "1st", "goog-events", "ab")},
		"pipeline_file":           {text("", "testdata/every_kind.yaml"), text(long)},
		"pipeline":                {append(text("minute-traffic", "v2"), cty.NullVal(cty.String)), text("", ".hidden", "__reserved", "a/b", strings.Repeat("a", 101))},
		"window_duration":         {append(numbers(1, 60, 3600, 86400), cty.NullVal(cty.Number)), numbers(0, 0.5, -60, 7, 172800)},
		"allowed_lateness":        {append(numbers(0, 120), cty.NullVal(cty.Number)), numbers(-1, 1.5)},
		"settings":                {settings("EVENT_TIME=publish", "EMIT=early", "LOG_LEVEL=debug"), settings("LOG_LEVEL=warn", "event_time", "AUTH", "PORT", "FLUSH_TIMEOUT", "COUNTER_RETENTION", "TYPO")},
		"dataset":                 {text("logs", "Logs_2"), text("", "my-logs", "p.logs", "2logs")},
		"bigquery_location":       {text("US", "EU", "us-central1"), text("", "us", "us-central1-a", "nam5")},
		"firestore_database":      {text("(default)", "tidemark"), text("", "default)", "abc", "Tidemark", "tidemark-")},
		"message_retention_hours": {numbers(1, 168, 744), numbers(0, 745)},
		"counter_retention_hours": {numbers(192, 1000), numbers(0, 168, 191, 192.5)}, // beside 168 of messages
		"max_instances":           {numbers(1, 100), numbers(0, 101, 1.5)},
		"concurrency":             {numbers(1, 1000), numbers(0, 1001, 1.5)},
		"billing":                 {text("request", "instance"), text("", "Request", "always")},
		"viewers":                 {members("user:ann@example.com", "serviceAccount:m@p.iam.gserviceaccount.com"), members("allUsers", "allAuthenticatedUsers", "domain:example.com", "ann@example.com", "user:", "principalSet://x")},
		"deployer":                {text("", "user:ann@example.com"), text("allUsers", "ann@example.com", "group:g@example.com")},
		"alert_email":             {text("", "ann@example.com"), text("ann", "a b@example.com")},
		"dead_letters_tolerated":  {numbers(0, 10), numbers(-1)},
	}
	unchecked := map[string]string{
		"create_topic": "a bool", "create_dataset": "a bool", "deletion_protection": "a bool", "alerts": "a bool", "keep_request_log": "a bool",
		"firestore_location": "only Firestore knows its locations",
	}
	for name, variable := range m.variables {
		t.Run(name, func(t *testing.T) {
			if m.value(t, variable, "description").AsString() == "" || variable.text("type") == "" {
				t.Error("the variable has no description or no type")
			}
			test, ok := tests[name]
			if !ok && unchecked[name] == "" {
				t.Fatal("no test of its validation")
			}
			for want, values := range map[bool][]cty.Value{true: test.good, false: test.bad} {
				for _, v := range values {
					if got := m.valid(t, variable, name, v); got != want {
						t.Errorf("%s is accepted: %v, want %v", v.GoString(), got, want)
					}
				}
			}
		})
	}
	for name := range tests {
		if _, ok := m.variables[name]; !ok {
			t.Errorf("no variable %s", name)
		}
	}
}

func (m *module) valid(t *testing.T, variable block, name string, v cty.Value) bool {
	t.Helper()
	return m.validWith(t, variable, map[string]cty.Value{name: v})
}

// validWith reports whether a variable is valid beside others.
func (m *module) validWith(t *testing.T, variable block, given map[string]cty.Value) bool {
	t.Helper()
	valid := true
	for _, validation := range variable.blocks("validation") {
		valid = valid && m.evaluate(t, validation.Attributes["condition"].Expr, given).True()
	}
	return valid
}

// A variable must not say what the pipeline file says: the service would refuse another
// value. The file may leave the window and the lateness to the variables.
func TestAPipelineFileDecides(t *testing.T) {
	m := load(t)
	silent := filepath.Join(t.TempDir(), "silent.yaml")
	text := regexp.MustCompile(`(?m)^(window|lateness): .*\n`).ReplaceAllString(readFile(t, "testdata/every_kind.yaml"), "")
	if err := os.WriteFile(silent, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	values := map[string]cty.Value{"pipeline": cty.StringVal("every_kind"), "window_duration": cty.NumberIntVal(5400), "allowed_lateness": cty.NumberIntVal(0)}
	for file, want := range map[string]map[string]bool{
		"":                         {"pipeline": true, "window_duration": true, "allowed_lateness": true},
		"testdata/every_kind.yaml": {"pipeline": false, "window_duration": false, "allowed_lateness": false},
		silent:                     {"pipeline": false, "window_duration": true, "allowed_lateness": true},
	} {
		for name, valid := range want {
			if got := m.validWith(t, m.variables[name], map[string]cty.Value{name: values[name], "pipeline_file": cty.StringVal(file)}); got != valid {
				t.Errorf("%s beside the file %q is taken: %v, want %v", name, file, got, valid)
			}
		}
	}
	s := m.deployed(t, map[string]cty.Value{
		"pipeline_file": cty.StringVal(silent), "window_duration": values["window_duration"], "allowed_lateness": values["allowed_lateness"],
		"settings": cty.MapVal(map[string]cty.Value{"EVENT_TIME": cty.StringVal("publish")}),
	})
	if s.WindowDuration != 90*time.Minute || s.AllowedLateness != 0 {
		t.Errorf("windows of %v, lateness %v; want 1h30m and 0", s.WindowDuration, s.AllowedLateness)
	}
}
