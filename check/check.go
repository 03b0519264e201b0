// Package check finds out whether the first push and the first flush would work with the
// settings, without changing anything.
package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse/sqlitetables"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sqlitecounters"
)

// A Level is the severity of a finding.
type Level int

// The levels.
const (
	OK      Level = iota
	Warning       // pushes and flushes work, or the check could not find out whether they do
	Problem       // a push or a flush would fail
)

func (l Level) String() string { return [...]string{"ok", "warning", "problem"}[l] }

// A Finding is the result of one check.
type Finding struct {
	Level Level
	What  string   // in one line
	Do    []string // what to do, in order: commands, SQL statements, settings
}

func ok(format string, args ...any) Finding {
	return Finding{OK, fmt.Sprintf(format, args...), nil}
}

func warning(do []string, format string, args ...any) Finding {
	return Finding{Warning, fmt.Sprintf(format, args...), do}
}

func problem(do []string, format string, args ...any) Finding {
	return Finding{Problem, fmt.Sprintf(format, args...), do}
}

// Run checks everything that a first push needs, with the settings as they are. Run
// changes nothing: for what the first push creates, the finding only says that it will be
// created. If a check fails, the other checks still run. Every call to a service has a
// time limit.
func Run(ctx context.Context, s settings.Settings) []Finding {
	return (&checker{settings: s, who: findAccount}).run(ctx)
}

// A checker runs the checks.
type checker struct {
	settings settings.Settings
	account  account // whose credentials were found

	// who finds the account.
	who func(context.Context) (account, error)
	// Hosts that a test uses in place of Google's services. They are empty to use the
	// services, or the emulators that the settings name.
	bigQueryHost, storageHost, firestoreHost, adminHost, projectsURL string
}

func (c *checker) run(ctx context.Context) []Finding {
	s := c.settings
	findings := []Finding{ok("pipeline file: %s", s.PipelineFile)}
	if !s.Local() {
		return append(findings, c.google(ctx)...)
	}
	findings = append(findings, c.directory(), c.counterFile(ctx))
	return append(findings, c.tableFile(ctx)...)
}

// directory checks the data directory.
func (c *checker) directory() Finding {
	dir := c.settings.DataDir
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.newDirectory()
	case err != nil:
		return problem(chooseDir, "data directory %s: %v", dir, err)
	case !info.IsDir():
		return problem(chooseDir, "data directory %s: it is a file", dir)
	}
	if err := tryToWrite(dir); err != nil {
		return problem(takeOver(dir), "data directory %s cannot be written by this user: %v", dir, err)
	}
	return ok("data directory %s: writable", dir)
}

var chooseDir = []string{`choose another directory with DATA_DIR, as DATA_DIR="$HOME/tidemark"`}

// takeOver returns what users can do who cannot write the directory. If the directory
// holds only Tidemark's files, its owner can be changed to the user. Any other directory
// may belong to the system, as /etc: a change of its owner could break the machine.
func takeOver(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return chooseDir
	}
	command := `sudo chown "$(id -un)" ` + shellQuote(dir)
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !ownFile.MatchString(entry.Name()) {
			return chooseDir
		}
		command += " " + shellQuote(filepath.Join(dir, entry.Name()))
	}
	return []string{command}
}

// ownFile matches the names of the files in a data directory: the lock, the databases,
// and the files that SQLite keeps beside the databases.
var ownFile = regexp.MustCompile(`^(lock|(counters|warehouse)\.db(-wal|-shm|-journal)?)$`)

// newDirectory checks whether the data directory, which does not exist, can be created.
func (c *checker) newDirectory() Finding {
	dir, err := filepath.Abs(c.settings.DataDir)
	if err != nil {
		return problem(chooseDir, "data directory %s: %v", c.settings.DataDir, err)
	}
	parent := filepath.Dir(dir)
	for _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist); _, err = os.Stat(parent) {
		parent = filepath.Dir(parent)
	}
	if err := tryToWrite(parent); err != nil {
		return problem(chooseDir, "data directory %s does not exist and cannot be created: %v", dir, err)
	}
	return ok("data directory %s: will be created by the first start", dir)
}

// tryToWrite creates a directory in dir and removes it again.
func tryToWrite(dir string) error {
	probe, err := os.MkdirTemp(dir, ".tidemark-check-")
	if err != nil {
		return err
	}
	return os.Remove(probe)
}

// counterFile checks the counters in SQLite.
func (c *checker) counterFile(ctx context.Context) Finding {
	ctx, cancel := context.WithTimeout(ctx, settings.StepTimeout)
	defer cancel()
	path := service.SQLiteCounters(c.settings).Path
	recorded, others, err := sqlitecounters.Inspect(ctx, service.SQLiteCounters(c.settings))
	if mismatch, found := errors.AsType[*windowstore.MeaningError](err); found {
		return c.meaningProblem(mismatch)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ok("counters %s: will be created by the first start", path)
	case err != nil:
		return c.fileProblem(path, err)
	case !recorded && len(others) > 0:
		return ok("counters %s: pipeline %q will be recorded by the first push; on record is %s", path, c.settings.Pipeline, strings.Join(others, ", "))
	case !recorded:
		return ok("counters %s: pipeline %q will be recorded by the first push", path, c.settings.Pipeline)
	}
	return ok("counters %s: pipeline %q is on record with these settings", path, c.settings.Pipeline)
}

func (c *checker) meaningProblem(err *windowstore.MeaningError) Finding {
	do := []string{"set what is on record, or"}
	if c.settings.Local() {
		do = append(do, "use another DATA_DIR, or")
	}
	return problem(append(do, "start afresh with a new name in PIPELINE and tables of its own in RAW_TABLE and AGG_TABLE"), "pipeline %q: the settings do not fit what is on record: %s", err.Pipeline, strings.Join(err.Problems, "; "))
}

// tableFile checks the tables in SQLite.
func (c *checker) tableFile(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, settings.StepTimeout)
	defer cancel()
	path := service.SQLiteTables(c.settings).Path
	found, err := sqlitetables.Inspect(ctx, service.SQLiteTables(c.settings))
	if errors.Is(err, fs.ErrNotExist) {
		return []Finding{ok("tables %s: will be created by the first start", path)}
	}
	if err != nil {
		return []Finding{c.fileProblem(path, err)}
	}
	var findings []Finding
	add := func(level Level, f sqlitetables.Fault) {
		do := []string{"sqlite3 " + shellQuote(path) + " " + shellQuote(f.Fix)}
		// One statement may fix several faults.
		if last := len(findings) - 1; last >= 0 && slices.Equal(findings[last].Do, do) {
			findings[last].What += "; " + f.What
			return
		}
		findings = append(findings, Finding{level, fmt.Sprintf("%s in %s: %s", f.Table, path, f.What), do})
	}
	for _, f := range found.Faults {
		add(Problem, f)
	}
	for _, f := range found.Stale {
		add(Warning, f)
	}
	if len(found.Missing) > 0 {
		findings = append(findings, ok("tables %s: %s will be created by the next start", path, strings.Join(found.Missing, ", ")))
	}
	if findings == nil {
		findings = append(findings, ok("tables %s: as this version creates them", path))
	}
	return findings
}

// fileProblem returns the finding for a file that cannot be used.
func (c *checker) fileProblem(path string, err error) Finding {
	_, later := errors.AsType[*sqlitefile.VersionError](err)
	do := chooseDir
	switch {
	case later:
		do = []string{"run the later version of tidemark, or " + chooseDir[0]}
	case errors.Is(err, fs.ErrPermission):
		do = takeOver(c.settings.DataDir)
	case sqlitefile.IsDamaged(err):
		do = []string{"mv " + shellQuote(path) + " " + shellQuote(path+".old"), "the next start creates a new file; if the file is another program's, " + chooseDir[0]}
	}
	return problem(do, "%s: %s", path, oneLine(err))
}

// oneLine returns the text of an error without line breaks.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// shellQuote quotes text as one word of a shell command.
func shellQuote(text string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+="
	if text != "" && strings.Trim(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
