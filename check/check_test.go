package check

import (
	"database/sql"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// settingsOf returns settings as the environment gives them.
func settingsOf(t *testing.T, environment map[string]string) settings.Settings {
	t.Helper()
	s, err := settings.Load(nil, func(name string) (string, bool) { value, ok := environment[name]; return value, ok })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// levels returns the numbers of findings that are warnings and that are problems.
func levels(findings []Finding) (warnings, problems int) {
	for _, f := range findings {
		switch f.Level {
		case Warning:
			warnings++
		case Problem:
			problems++
		}
	}
	return warnings, problems
}

// wantFinding checks that one of the findings has the level, and that its text and its
// advice contain what and do.
func wantFinding(t *testing.T, findings []Finding, level Level, what, do string) {
	t.Helper()
	for _, f := range findings {
		if f.Level == level && strings.Contains(f.What, what) && strings.Contains(strings.Join(f.Do, "\n"), do) {
			return
		}
	}
	t.Errorf("no %v says %q, and to do %q:\n%s", level, what, do, listing(findings))
}

func listing(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(f.Level.String() + ": " + strings.Join(append([]string{f.What}, f.Do...), "\n\t") + "\n")
	}
	return b.String()
}

// start starts a service, which creates its files, and sends it a message. This records
// the pipeline. Then it stops the service.
func start(t *testing.T, environment map[string]string) {
	t.Helper()
	running, err := service.New(t.Context(), settingsOf(t, environment), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	push := httptest.NewRequest(http.MethodPost, "/push/raw", strings.NewReader("no event"))
	push.Header.Set("x-goog-pubsub-message-id", "1")
	running.Handler().ServeHTTP(answer, push)
	if err := running.Close(t.Context()); err != nil || answer.Code != http.StatusOK {
		t.Fatalf("answer %d %s, %v", answer.Code, answer.Body, err)
	}
}

func execSQLite(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// contents returns the content of every file below the directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			found[path] = "directory"
			return err
		}
		text, err := os.ReadFile(path)
		found[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCheckOnOneMachine(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "made", "later")
	environment := map[string]string{"DATA_DIR": dir}
	unchanged := func() []Finding {
		t.Helper()
		before := contents(t, parent)
		findings := Run(t.Context(), settingsOf(t, environment))
		if diff := cmp.Diff(before, contents(t, parent)); diff != "" {
			t.Errorf("check has changed files (-before +after):\n%s", diff)
		}
		return findings
	}

	findings := unchanged()
	wantFinding(t, findings, OK, "pipeline file: event time event_timestamp, event id message, count page_views, fields: ip STRING REQUIRED,", "")
	if warnings, problems := levels(findings); len(findings) != 4 || warnings+problems > 0 {
		t.Errorf("before the first start:\n%s", listing(findings))
	}
	wantFinding(t, findings, OK, "data directory "+dir+": will be created", "")

	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, environment)
	findings = unchanged()
	if warnings, problems := levels(findings); warnings+problems > 0 {
		t.Errorf("after the first start:\n%s", listing(findings))
	}
	wantFinding(t, findings, OK, `pipeline "minute-traffic" is on record with these settings`, "")
	wantFinding(t, findings, OK, "warehouse.db: as this version creates them", "")

	// A server may be running.
	unlock, err := service.Lock(settingsOf(t, environment))
	if err != nil {
		t.Fatal(err)
	}
	findings = unchanged()
	if warnings, problems := levels(findings); warnings+problems > 0 {
		t.Errorf("beside a server:\n%s", listing(findings))
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}

	environment["PIPELINE"] = "other"
	wantFinding(t, unchanged(), Problem, `RAW_TABLE raw belongs to pipeline "minute-traffic"`, "a new name in PIPELINE")
	environment["RAW_TABLE"], environment["AGG_TABLE"] = "other_raw", "other"
	findings = unchanged()
	if warnings, problems := levels(findings); warnings+problems > 0 {
		t.Errorf("another pipeline:\n%s", listing(findings))
	}
	wantFinding(t, findings, OK, "other_raw, other_log, other_raw_events, other will be created", "")
}

func TestCheckFindsProblemsOnOneMachine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		damage      func(t *testing.T, dir string)
		environment map[string]string
		level       Level
		what, do    string
	}{
		"another window": {
			environment: map[string]string{"WINDOW_DURATION": "10s"}, level: Problem,
			what: "WINDOW_DURATION is 60s on record and 10s in this process", do: "use another DATA_DIR",
		},
		"a column is missing": {
			damage: func(t *testing.T, dir string) {
				execSQLite(t, filepath.Join(dir, "warehouse.db"), "DROP VIEW events; ALTER TABLE raw DROP COLUMN ip")
			},
			level: Problem, what: "column ip is missing", do: `warehouse.db 'ALTER TABLE "raw" ADD COLUMN "ip" TEXT'`,
		},
		"a stale view": {
			damage: func(t *testing.T, dir string) {
				execSQLite(t, filepath.Join(dir, "warehouse.db"), "DROP VIEW events; CREATE VIEW events AS -- Revision 99.\nSELECT 1")
			},
			level: Warning, what: "events in ", do: `DROP VIEW "events"`,
		},
		"a later version": {
			damage: func(t *testing.T, dir string) {
				execSQLite(t, filepath.Join(dir, "counters.db"), "PRAGMA user_version = 99")
			},
			level: Problem, what: "schema version 99", do: "run the later version",
		},
		"no database": {
			damage: func(t *testing.T, dir string) {
				if err := os.WriteFile(filepath.Join(dir, "counters.db"), []byte(strings.Repeat("text ", 1000)), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			level: Problem, what: "file is not a database", do: "mv ",
		},
		"a file for a directory": {
			environment: map[string]string{"DATA_DIR": "check_test.go"}, level: Problem,
			what: "it is a file", do: "another directory",
		},
		"a directory in a file": {
			environment: map[string]string{"DATA_DIR": "check_test.go/data"}, level: Problem,
			what: "not a directory", do: "another directory",
		},
		"a directory that cannot be made": {
			environment: map[string]string{"DATA_DIR": "/proc/tide mark/data"}, level: Problem,
			what: "cannot be created", do: "another directory",
		},
		"a directory of the system": {
			environment: map[string]string{"DATA_DIR": "/proc"}, level: Problem,
			what: "data directory /proc cannot be written", do: "another directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			environment := map[string]string{"DATA_DIR": dir}
			start(t, environment)
			if test.damage != nil {
				test.damage(t, dir)
			}
			for name, value := range test.environment {
				environment[name] = value
			}
			findings := Run(t.Context(), settingsOf(t, environment))
			wantFinding(t, findings, test.level, test.what, test.do)
			if _, problems := levels(findings); (problems > 0) != (test.level == Problem) {
				t.Errorf("%d problems:\n%s", problems, listing(findings))
			}
			if len(findings) < 3 {
				t.Errorf("a problem stopped other checks:\n%s", listing(findings))
			}
		})
	}
}

// Changing the owner of a system directory can break a machine. So check suggests this
// command only for a directory that has nothing but Tidemark's own files.
func TestOnlyADirectoryOfOurOwnFilesIsTakenOver(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tide mark")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, map[string]string{"DATA_DIR": dir})
	want := []string{fmt.Sprintf(`sudo chown "$(id -un)" '%[1]s' '%[1]s/counters.db' '%[1]s/warehouse.db'`, dir)}
	if diff := cmp.Diff(want, takeOver(dir)); diff != "" {
		t.Errorf("a directory of our files (-want +got):\n%s", diff)
	}
	for name, dirOf := range map[string]func(t *testing.T) string{
		"another program's file": func(t *testing.T) string {
			if err := os.WriteFile(filepath.Join(dir, "passwd"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		},
		"an empty directory": func(t *testing.T) string { return t.TempDir() },
		"a link to another file": func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.Symlink("/etc/passwd", filepath.Join(dir, "counters.db")); err != nil {
				t.Fatal(err)
			}
			return dir
		},
		"the root":          func(*testing.T) string { return "/" },
		"the system's":      func(*testing.T) string { return "/etc" },
		"no such directory": func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") },
	} {
		if got := strings.Join(takeOver(dirOf(t)), "\n"); strings.Contains(got, "sudo") || !strings.Contains(got, "another directory") {
			t.Errorf("%s: suggests %q", name, got)
		}
	}
}

func TestFindAccount(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"a service account": {
			`{"type": "service_account", "client_email": "a@p.iam.gserviceaccount.com", "token_uri": "http://127.0.0.1:1"}`,
			"serviceAccount:a@p.iam.gserviceaccount.com",
		},
		"a person as a service account": {
			`{"type": "impersonated_service_account", "service_account_impersonation_url":
				"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/b@p.iam.gserviceaccount.com:generateAccessToken",
				"source_credentials": {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}}`,
			"serviceAccount:b@p.iam.gserviceaccount.com",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "credentials.json")
			if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
			got, err := findAccount(t.Context())
			if err != nil || got.member != test.want {
				t.Errorf("account %q, %v; want %q", got.member, err, test.want)
			}
		})
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "absent.json"))
	findings := Run(t.Context(), settingsOf(t, map[string]string{"BACKEND": "gcp", "GOOGLE_CLOUD_PROJECT": "p"}))
	wantFinding(t, findings, Problem, "absent.json", "gcloud auth application-default login")
	if len(findings) != 2 { // one of the pipeline file, and this one
		t.Errorf("without credentials:\n%s", listing(findings))
	}
}
