package settings_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/settings"
)

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestDefaultsAreGood(t *testing.T) {
	t.Parallel()
	s, err := settings.Load(nil, env())
	if err != nil {
		t.Fatal(err)
	}
	if s.Host != "127.0.0.1" || s.Auth != "none" || s.CommitInterval != time.Millisecond || s.WindowDuration != time.Minute {
		t.Errorf("defaults: %+v", s)
	}
}

func TestAFlagWinsOverTheEnvironmentAndThatOverTheDefault(t *testing.T) {
	t.Parallel()
	s, err := settings.Load(map[string]string{"port": "1"}, env("PORT", "2", "EMIT", "early", "PIPELINE", ""))
	if err != nil {
		t.Fatal(err)
	}
	if s.Port != 1 || s.Emit != "early" || s.Pipeline != "minute-traffic" {
		t.Errorf("port %d, emit %s, pipeline %s", s.Port, s.Emit, s.Pipeline)
	}
}

func TestAnEmptyKServiceIsNotCloudRun(t *testing.T) {
	t.Parallel()
	s, err := settings.Load(nil, env("K_SERVICE", ""))
	if err != nil || s.Host != "127.0.0.1" || s.Auth != "none" {
		t.Errorf("host %q, auth %q, %v", s.Host, s.Auth, err)
	}
}

func TestANameUsedThriceIsOneProblem(t *testing.T) {
	t.Parallel()
	_, err := settings.Load(nil, env("RAW_TABLE", "x", "AGG_TABLE", "X", "DEAD_LETTER_TABLE", "x"))
	if err == nil || strings.Count(err.Error(), "used twice") != 1 {
		t.Errorf("error %v, want one problem", err)
	}
}

func TestABadProjectIsOneProblem(t *testing.T) {
	t.Parallel()
	_, err := settings.Load(nil, env("BACKEND", "gcp", "GOOGLE_CLOUD_PROJECT", "p`"))
	if err == nil || strings.Count(err.Error(), "GOOGLE_CLOUD_PROJECT") != 1 || !strings.Contains(err.Error(), "is not letters, digits") {
		t.Errorf("error %v, want one problem", err)
	}
}

func TestADurationWithoutUnitIsSeconds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"60": time.Minute, "1.5": 1500 * time.Millisecond, "0": 0, "2m": 2 * time.Minute, "1h30m": 90 * time.Minute} {
		s, err := settings.Load(nil, env("FLUSH_QUIET", text))
		if err != nil || s.FlushQuiet != want {
			t.Errorf("%s is %v, %v; want %v", text, s.FlushQuiet, err, want)
		}
	}
}

func TestEveryProblemIsNamedAtOnceWithItsValue(t *testing.T) {
	t.Parallel()
	bad := map[string]string{
		"BACKEND": "aws", "PORT": "70000", "PIPELINE": "a/b", "DATASET": "my-logs", "GOOGLE_CLOUD_PROJECT": "my project", "RAW_TABLE": "raw; DROP TABLE raw",
		"WINDOW_DURATION": "7s", "ALLOWED_LATENESS": "-1s", "MAX_CLOCK_SKEW": "soon", "EVENT_TIME": "attribute:", "EVENT_ID": "payload",
		"EMIT": "often", "COMMIT_INTERVAL": "x", "FLUSH_MAX_WINDOWS": "0", "FLUSH_TIMEOUT": "0", "COUNTER_RETENTION": "0", "RAW_METHOD": "dml",
		"MAX_BODY": "10MB", "QUEUE_LENGTH": "many", "BATCH_BYTES": "-4MB", "AUTH": "basic", "PUSH_CALLERS": "somebody",
		"LOG_LEVEL": "loud", "LOG_FORMAT": "xml", "FIRESTORE_EMULATOR_HOST": "localhost",
	}
	_, err := settings.Load(nil, func(name string) (string, bool) { value, ok := bad[name]; return value, ok })
	if err == nil {
		t.Fatal("no error")
	}
	for name, value := range bad {
		found := false
		for line := range strings.Lines(err.Error()) {
			found = found || strings.Contains(line, name) && strings.Contains(line, value)
		}
		if !found {
			t.Errorf("no line names %s and %s:\n%v", name, value, err)
		}
	}
}

func TestSettingsAreCheckedAgainstEachOther(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		env  []string
		says string
	}{
		{[]string{"K_SERVICE", "tidemark", "AUTH", "none"}, "anyone on the internet"},
		{[]string{"K_SERVICE", "tidemark"}, "AUTH=iam needs AUDIENCE"},
		{[]string{"K_SERVICE", "tidemark", "AUDIENCE", "https://x", "FLUSH_CALLERS", "f@x"}, "AUTH=iam needs PUSH_CALLERS"},
		{[]string{"AUTH", "oidc", "AUDIENCE", "https://x", "PUSH_CALLERS", "p@x"}, "AUTH=oidc needs FLUSH_CALLERS"},
		{[]string{"AUTH", "iam", "AUDIENCE", "https://x", "PUSH_CALLERS", "p@x", "FLUSH_CALLERS", "f@x"}, "K_SERVICE is not set"},
		{[]string{"AUTH", "none", "PUSH_CALLERS", "p@x"}, "AUTH=none checks no callers"},
		{[]string{"VIEW_CALLERS", "p@x"}, "AUTH=none checks no callers"},
		{[]string{"AUTH", "oidc", "PUSH_CALLERS", "serviceAccount:p@x"}, "without serviceAccount:"},
		{[]string{"AUTH", "oidc", "PUSH_CALLERS", "allUsers"}, "not one e-mail address"},
		{[]string{"AUTH", "oidc", "PUSH_CALLERS", "p@x,"}, "not one e-mail address"},
		{[]string{"AUTH", "oidc", "PUSH_CALLERS", "*@project.iam.gserviceaccount.com"}, "no pattern"},
		{[]string{"AUTH", "oidc", "PUSH_CALLERS", "p@x."}, "not one e-mail address"},
		{[]string{"AUTH", "oidc", "PUSH_CALLERS", "p@x@y"}, "not one e-mail address"},
		{[]string{"AUTH", "oidc", "PUSH_CALLERS", "p@x\u200b"}, "not one e-mail address"},
		{[]string{"AUTH", "oidc", "PUSH_CALLERS", "p@x;q@x"}, "not one e-mail address"},
		{[]string{"AUTH", "oidc", "PUSH_CALLERS", " "}, "not one e-mail address"},
		{[]string{"ALLOWED_HOSTS", "tidemark.internal:8080"}, "not one name of a host"},
		{[]string{"ALLOWED_HOSTS", "http://tidemark.internal"}, "without http://"},
		{[]string{"ALLOWED_HOSTS", "*.internal"}, "no pattern"},
		{[]string{"BACKEND", "gcp", "GOOGLE_CLOUD_PROJECT", "my-project", "BIGQUERY_EMULATOR_HOST", "localhost:9050"}, "BIGQUERY_STORAGE_EMULATOR_HOST=: one is an emulator"},
		{[]string{"BACKEND", "gcp", "GOOGLE_CLOUD_PROJECT", "my-project", "BIGQUERY_STORAGE_EMULATOR_HOST", "localhost:9060"}, "BIGQUERY_EMULATOR_HOST=, BIGQUERY_STORAGE_EMULATOR_HOST=localhost:9060: one is an emulator"},
		{[]string{"BACKEND", "gcp", "GOOGLE_CLOUD_PROJECT", "my-project", "RAW_METHOD", "insert_all", "BIGQUERY_STORAGE_EMULATOR_HOST", "localhost:9060"}, "BIGQUERY_EMULATOR_HOST=, BIGQUERY_STORAGE_EMULATOR_HOST=localhost:9060: one is an emulator"},
		{[]string{"ALLOWED_LATENESS", "700000h", "FLUSH_QUIET", "700000h", "FLUSH_HOLD_MAX", "700000h"}, "ALLOWED_LATENESS=700000h, MAX_CLOCK_SKEW=5m, FLUSH_QUIET=700000h, FLUSH_HOLD_MAX=700000h"},
		{[]string{"COUNTER_RETENTION", "876000h", "ALLOWED_LATENESS", "876000h", "FLUSH_QUIET", "876000h"}, "more than two centuries"},
		{[]string{"ALLOWED_HOSTS", "tidemark,"}, "not one name of a host"},
		{[]string{"K_SERVICE", "tidemark"}, "BACKEND=local on Cloud Run (K_SERVICE is set) would keep what was acknowledged in files"},
		{[]string{"RAW_TABLE", "windowed_traffic"}, "used twice"},
		{[]string{"COMMIT_INTERVAL", "1h"}, "COMMIT_INTERVAL=1h: more than 5s"},
		{[]string{"FLUSH_TIMEOUT", "10m"}, "FLUSH_TIMEOUT=10m: it must be from 1s to 110s"},
		{[]string{"FLUSH_QUIET", "1h30"}, "1h30"},
		{[]string{"COUNTER_RETENTION", "2000000h"}, "century"},
		{[]string{"FLUSH_QUIET", "1e1"}, "in seconds, as 90 or 1.5"},
		{[]string{"LOG_LEVEL", "info+2"}, "want debug, info, warn or error"},
		{[]string{"BACKEND", "gcp"}, "GOOGLE_CLOUD_PROJECT"},
		{[]string{"GOOGLE_CLOUD_PROJECT", "p`; DROP TABLE raw"}, "is not letters, digits"},
	} {
		_, err := settings.Load(nil, env(tc.env...))
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%q: error %v, want one that says %q", tc.env, err, tc.says)
		}
	}
}

func TestCallersAreReadExactlyAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	callers := []string{"BACKEND", "gcp", "GOOGLE_CLOUD_PROJECT", "my-project", "AUDIENCE", "https://x/", "PUSH_CALLERS", "a@x, B@x", "FLUSH_CALLERS", "f@x"}
	for auth, env := range map[string]func(string) (string, bool){
		"iam":  env(append(callers, "K_SERVICE", "tidemark")...),
		"oidc": env(append(callers, "AUTH", "oidc")...),
	} {
		s, err := settings.Load(nil, env)
		if err != nil {
			t.Fatal(err)
		}
		if s.Auth != auth || s.Audience != "https://x/" || !slices.Equal(s.PushCallers, []string{"a@x", "B@x"}) || len(s.ViewCallers) != 0 {
			t.Errorf("%s: auth %s, audience %s, push callers %q, view callers %q", auth, s.Auth, s.Audience, s.PushCallers, s.ViewCallers)
		}
	}
	s, err := settings.Load(nil, env(append(callers, "K_SERVICE", "tidemark", "AUTH", "oidc")...))
	if err != nil || s.Auth != "oidc" {
		t.Errorf("a service on Cloud Run that anyone may invoke: auth %s, %v", s.Auth, err)
	}
}

func TestTheSettingsAreLoggedOnceByName(t *testing.T) {
	t.Parallel()
	s, err := settings.Load(map[string]string{"window-duration": "10"}, env())
	if err != nil {
		t.Fatal(err)
	}
	logged := map[string]string{}
	for _, attr := range s.LogValue().Group() {
		logged[attr.Key] = attr.Value.String()
	}
	if logged["WINDOW_DURATION"] != "10" || logged["COMMIT_INTERVAL"] != "1ms" || logged["AUTH"] != "none" || len(logged) != len(settings.Table()) {
		t.Errorf("logged %v", logged)
	}
}

func TestOnlySettingsThatAreNotTheDefaultsAreChosen(t *testing.T) {
	t.Parallel()
	s, err := settings.Load(map[string]string{"port": "9000", "emit": "final"}, env("WINDOW_DURATION", "10", "DATA_DIR", "./data", "HOST", ""))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"PORT=9000", "WINDOW_DURATION=10"}, s.Chosen()); diff != "" {
		t.Errorf("chosen (-want +got):\n%s", diff)
	}
}

// The table in docs/settings.md must be the one that this code produces.
func TestEverySettingIsOnItsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	want := "| setting | default | |\n|---|---|---|\n"
	for _, s := range settings.Table() {
		value := ""
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		want += fmt.Sprintf("| `%s` | %s | %s |\n", s.Name, value, s.Usage)
	}
	_, rest, _ := strings.Cut(string(page), "<!-- settings -->\n")
	got, _, found := strings.Cut(rest, "<!-- /settings -->")
	if diff := cmp.Diff(want, got); !found || diff != "" {
		t.Errorf("docs/settings.md does not have the table of the code (-code +page):\n%s\nIt should be:\n%s", diff, want)
	}
}
