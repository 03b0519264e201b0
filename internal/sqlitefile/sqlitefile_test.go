package sqlitefile_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/internal/sqlitefile/sqlitefault"
)

var schema = sqlitefile.Schema{Version: 1, Create: func(ctx context.Context, tx *sql.Tx, found int) error {
	if found == 1 {
		return nil
	}
	_, err := tx.ExecContext(ctx, "CREATE TABLE notes (note TEXT)")
	return err
}}

// openNew opens a new file in a new directory, which is the only entry of its parent.
func openNew(t *testing.T) (f *sqlitefile.File, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "data", "notes.db")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := sqlitefile.Open(t.Context(), path, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, path
}

func note(ctx context.Context, f *sqlitefile.File, note string) error {
	return f.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO notes VALUES (?)", note)
		return err
	})
}

func wantNotes(t *testing.T, f *sqlitefile.File, want int) {
	t.Helper()
	var n int
	if err := f.Reader.QueryRow("SELECT count(*) FROM notes").Scan(&n); err != nil || n != want {
		t.Errorf("%d notes, %v; want %d", n, err, want)
	}
}

func TestACommitThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	f, path := openNew(t)
	allow := sqlitefault.RefuseCommits(path)
	if err := note(t.Context(), f, "a"); err == nil {
		t.Error("a write returned no error, though its commit failed")
	}
	wantNotes(t, f, 0)
	allow()
	if err := note(t.Context(), f, "a"); err != nil {
		t.Error(err)
	}
	wantNotes(t, f, 1)
}

func TestASchemaWhoseCommitFailsIsAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notes.db")
	allow := sqlitefault.RefuseCommits(path)
	if f, err := sqlitefile.Open(t.Context(), path, schema); err == nil {
		f.Close()
		t.Error("Open succeeded, though the schema was not committed")
	}
	allow()
	f, err := sqlitefile.Open(t.Context(), path, schema)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wantNotes(t, f, 0)
}

func TestAWriteThatFailsWritesNothing(t *testing.T) {
	t.Parallel()
	f, _ := openNew(t)
	refusal := errors.New("refused")
	err := f.Write(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.Exec("INSERT INTO notes VALUES ('a')"); err != nil {
			return err
		}
		return refusal
	})
	if !errors.Is(err, refusal) {
		t.Errorf("Write: %v, want the function's error", err)
	}
	wantNotes(t, f, 0)
}

func TestAWriteToAFileThatIsNoLongerThereIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		harm   func(path string) error
		repair func(path string) error // nil if the test does not repair it
	}{
		"the file is deleted":          {os.Remove, nil},
		"the log is deleted":           {func(path string) error { return os.Remove(path + "-wal") }, nil},
		"the directory is deleted":     {func(path string) error { return os.RemoveAll(filepath.Dir(path)) }, nil},
		"the file is moved":            {func(path string) error { return os.Rename(path, path+".old") }, func(path string) error { return os.Rename(path+".old", path) }},
		"the directory is moved":       {moveDir, moveDirBack},
		"the file is replaced":         {replaceFile, func(path string) error { return os.Rename(path+".old", path) }},
		"the directory is replaced":    {replaceDir, nil},
		"an empty directory is put up": {func(path string) error { return errors.Join(moveDir(path), os.Mkdir(filepath.Dir(path), 0o755)) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, path := openNew(t)
			if err := note(t.Context(), f, "a"); err != nil {
				t.Fatal(err)
			}
			if err := test.harm(path); err != nil {
				t.Fatal(err)
			}
			var moved *sqlitefile.MovedError
			for range 2 {
				if err := note(t.Context(), f, "b"); !errors.As(err, &moved) {
					t.Errorf("Write: %v, want a *MovedError", err)
				}
			}
			if test.repair == nil {
				return
			}
			if err := test.repair(path); err != nil {
				t.Fatal(err)
			}
			if err := note(t.Context(), f, "c"); err != nil {
				t.Errorf("after the repair: %v", err)
			}
		})
	}
}

func moveDir(path string) error {
	return os.Rename(filepath.Dir(path), filepath.Dir(path)+".old")
}

func moveDirBack(path string) error {
	return os.Rename(filepath.Dir(path)+".old", filepath.Dir(path))
}

// replaceFile replaces the file with a copy of it.
func replaceFile(path string) error {
	content, err := os.ReadFile(path)
	return errors.Join(err, os.Rename(path, path+".old"), os.WriteFile(path, content, 0o644))
}

// replaceDir replaces the directory with a copy of it.
func replaceDir(path string) error {
	dir := filepath.Dir(path)
	return errors.Join(moveDir(path), os.CopyFS(dir, os.DirFS(dir+".old")))
}
