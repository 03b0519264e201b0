package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/settings"
)

// The help of a command lists the few flags of the command apart from the settings, and
// of the settings only those that most users need.
func TestHelpOfACommandHasItsFlagsAndTheCommonSettings(t *testing.T) {
	t.Parallel()
	for command, wants := range map[string][]string{
		"audit": {"Flags:", "--help", "--repair", "Where the data is:", "--data-dir", "What is counted:", "--window-duration", "tidemark help settings"},
		"serve": {"Flags:", "--help", "Where the data is:", "--data-dir", "What is counted:", "--window-duration", "The server:", "--port", "tidemark help settings"},
	} {
		_, help, _ := runCommand(t, command, "--help")
		rest := help
		for _, want := range wants { // the texts come in this order
			_, after, found := strings.Cut(rest, want)
			if !found {
				t.Errorf("the help of %s has no %s, or has it too early:\n%s", command, want, help)
				break
			}
			rest = after
		}
		if n := strings.Count(help, "\n      --"); n > 25 || strings.Contains(help, "--batch-rows") {
			t.Errorf("the help of %s has %d flags:\n%s", command, n, help)
		}
	}
	if _, help, _ := runCommand(t, "audit", "--help"); strings.Contains(help, "--port") {
		t.Errorf("audit does not listen, and its help has the settings of a server:\n%s", help)
	}
	if _, help, _ := runCommand(t, "--help"); !strings.Contains(help, "serve, dev, flush, audit, check and replay") || !strings.Contains(help, "tidemark settings") {
		t.Errorf("the help does not say which commands have settings, and where they are:\n%s", help)
	}
}

// Every setting must be in exactly one group of the help.
func TestHelpOfTheSettingsHasEachOnce(t *testing.T) {
	t.Parallel()
	var grouped, want []string
	for _, group := range settingsGroups {
		grouped = append(append(grouped, group.common...), group.rest...)
	}
	code, help, _ := runCommand(t, "help", "settings")
	for _, s := range settings.Table() {
		want = append(want, s.Name)
		if n := strings.Count(help, "      --"+s.Flag()+" "); n != 1 {
			t.Errorf("--%s occurs %d times", s.Flag(), n)
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(grouped))); code != exitDone || diff != "" {
		t.Errorf("exit code %d; settings (-have +grouped):\n%s", code, diff)
	}
	if !strings.Contains(help, "--backend local|gcp ") {
		t.Errorf("the choices of a setting are not shown:\n%s", help)
	}
}

func TestVersionIsAlsoAFlag(t *testing.T) {
	t.Parallel()
	code, flag, _ := runCommand(t, "--version")
	_, command, _ := runCommand(t, "version")
	if code != exitDone || flag != command || !strings.HasPrefix(flag, "tidemark ") {
		t.Errorf("exit code %d, the flag prints %q, and the command %q", code, flag, command)
	}
}

func TestAWrongFlagIsExplained(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"serve --windw-duration 3":                 "unknown flag: --windw-duration; did you mean --window-duration?",
		"serve --data_dir x":                       "unknown flag: --data_dir; did you mean --data-dir?",
		"serve --bigquery_storage_emulator_host x": "did you mean --bigquery-storage-emulator-host?",
		"serve --window 3":                         "unknown flag: --window; did you mean --window-duration?",
		"generate --lg --stdout":                   "unknown flag: --lg; did you mean --lag?",
		"version --xyzzy":                          "unknown flag: --xyzzy\n",
		"replay --concurrency abc x":               `--concurrency="abc": want a whole number`,
		"replay --rate fast x":                     `--rate="fast": want a number`,
		"generate --lag=perhaps --stdout":          `--lag="perhaps": want true or false`,
		"generate --duration soon":                 `--duration="soon": want a duration`,
		"audit --windw-duration 3 --fro x":         "did you mean --window-duration?",
	} {
		code, _, said := runCommand(t, strings.Fields(args)...)
		if code != exitUsage || !strings.Contains(said, want) || strings.Contains(said, "strconv") {
			t.Errorf("%s: exit code %d, said %q, want %q", args, code, said, want)
		}
	}
}

// A shell can complete the values of flags that have choices.
func TestCompletionKnowsTheChoices(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"serve --backend":            "local gcp",
		"dev --auth":                 "none iam oidc",
		"audit --event-time":         "payload publish attribute:",
		"flush --event-id":           "message attribute:",
		"serve --log-level":          "debug info warn error",
		"check --raw-method":         "storage_write insert_all",
		"replay --publish-time":      "event now",
		"replay --from-table":        "raw dead_letter",
		"replay --shift-to":          "now",
		"serve --window-duration":    "",
		"completion":                 "bash fish powershell zsh",
		"serve --bigquery-emulator-": "--bigquery-emulator-host",
	} {
		fields := strings.Fields(args)
		if !strings.HasSuffix(args, "-") {
			fields = append(fields, "")
		}
		_, out, _ := runCommand(t, append([]string{"__completeNoDesc"}, fields...)...)
		got, _, _ := strings.Cut(out, ":") // the rest is cobra's directive
		if strings.HasSuffix(want, ":") {
			got = strings.TrimSuffix(out[:strings.LastIndex(out, ":")], "\n")
		}
		if got := strings.Join(strings.Fields(got), " "); got != want {
			t.Errorf("%s: completes to %q, want %q", args, got, want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, script, _ := runCommand(t, "completion", shell); code != exitDone || !strings.Contains(script, "__complete ") {
			t.Errorf("%s: exit code %d, %d bytes", shell, code, len(script))
		}
	}
}

func TestHelpWritesDurationsAsPeopleDo(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{"replay": "(default 5m)", "dev": "(default 10s)", "generate": "0 for no limit", "serve": ""} {
		_, help, _ := runCommand(t, command, "--help")
		if odd := regexp.MustCompile(`\d[hm]0[ms]\b`).FindString(help); odd != "" || !strings.Contains(help, want) {
			t.Errorf("the help of %s has %q, want %q:\n%s", command, odd, want, help)
		}
	}
}
