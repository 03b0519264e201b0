package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckExitCodes(t *testing.T) {
	t.Parallel()
	used := t.TempDir()
	startServer(t, used)
	empty := filepath.Join(t.TempDir(), "new")
	for _, test := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"--data-dir", empty}, exitDone, []string{
			"ok       data directory " + empty + ": will be created", "checks: 4, problems: 0, warnings: 0",
		}},
		{[]string{"--data-dir", used}, exitDone, []string{"ok       data directory " + used + ": writable", "problems: 0, warnings: 0"}},
		{[]string{"--data-dir", "check_test.go"}, exitNo, []string{
			"problem  data directory check_test.go: it is a file\n         choose another directory with DATA_DIR, as DATA_DIR=\"$HOME/tidemark\"\n", "problems: 3",
		}},
		{[]string{"--window-duration", "7s"}, exitUsage, []string{"7s"}},
		{[]string{"--backend", "gcp"}, exitUsage, []string{"GOOGLE_CLOUD_PROJECT"}},
		{[]string{"extra"}, exitUsage, []string{"extra"}},
	} {
		code, out, log := runCommand(t, append([]string{"check"}, test.args...)...)
		if code != test.code {
			t.Errorf("check %q: exit code %d, want %d\n%s%s", test.args, code, test.code, out, log)
		}
		for _, text := range test.says {
			if !strings.Contains(out+log, text) {
				t.Errorf("check %q says nothing of %q:\n%s%s", test.args, text, out, log)
			}
		}
	}
}

// The advice for a view has many lines. Each of them must be below the line of its
// finding.
func TestWhatToDoIsUnderTheFinding(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startServer(t, dir)
	execTables(t, dir, "DROP VIEW events; CREATE VIEW events AS -- Revision 99.\nSELECT 1")
	path := filepath.Join(dir, "warehouse.db")
	code, out, _ := runCommand(t, "check", "--data-dir", dir)
	want := "warning  events in " + path + ": a later version of tidemark created it\n         sqlite3 " + path + " 'DROP VIEW \"events\"'\n"
	if code != exitDone || !strings.Contains(out, want) {
		t.Errorf("exit code %d, want 0 and %q:\n%s", code, want, out)
	}
}
