// Package sqlitefile opens the SQLite files of the embedded stores, all in the same way.
// A file has a write-ahead log, so that readers and the writer do not wait for each other.
// Every commit is synced to disk before it returns. One connection writes, and a few only
// read. Other processes of the machine may have the file open too. The file must not be on a
// network file system.
package sqlitefile

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// busyTimeout is how long a write waits for a write of another process. Writes are
	// short, and the context can end the wait earlier.
	busyTimeout = 30 * time.Second
	// maxReaders is the most connections that read at a time. Each has its own page cache.
	maxReaders = 4
)

// A Schema says what a file contains.
type Schema struct {
	// Version is kept in the file's user_version. Open refuses a file with a later version.
	// A new file has version 0.
	Version int
	// ApplicationID is kept in the file's application_id. Open refuses a file that has
	// another id, or that has tables but no id. If ApplicationID is 0, Open accepts any id.
	ApplicationID int
	// Create creates what the file lacks, in a transaction. Open always calls it. The file has
	// the version found.
	Create func(ctx context.Context, tx *sql.Tx, found int) error
}

// A VersionError reports a file that a later version of the program wrote. The error is
// permanent, and the file was not changed.
type VersionError struct {
	Path         string
	Found, Known int // versions of the schema
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has schema version %d, and this program knows versions up to %d: run the later version of tidemark that wrote it",
		e.Path, e.Found, e.Known)
}

// A MovedError reports a file that was deleted, moved or replaced while it was open. If the
// name no longer leads to the open file, everything that is written to it later is lost when
// it is closed.
type MovedError struct{ Path string }

func (e *MovedError) Error() string {
	return fmt.Sprintf("%s was deleted, moved or replaced while this program had it open, and everything that the program still writes is lost: put the original file back, or restart the program", e.Path)
}

// A File is an open file.
type File struct {
	// Writer has one connection, so that writers of this process queue in Go. Use it for
	// reads that must be in order with the writes. Write with [File.Write].
	Writer *sql.DB
	Reader *sql.DB // cannot write

	path   string      // absolute
	opened os.FileInfo // of the file; nil while it is being opened
}

// Open opens the file. It creates the file if it does not exist, but not the directory. It
// returns a [*VersionError] for a file of a later version. It does not change a file that it
// refuses.
func Open(ctx context.Context, path string, schema Schema) (*File, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f := &File{path: absolute}
	if err := f.open(ctx, path, schema); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Inspect runs look in a transaction on the file. It neither creates nor changes the file.
// If there is no file, it returns an error that wraps [fs.ErrNotExist]. For a file that
// [Open] refuses, it returns the error of Open. If no process has the file open, SQLite
// moves the content of a remaining write-ahead log into the file.
func Inspect(ctx context.Context, path string, schema Schema, look func(ctx context.Context, tx *sql.Tx) error) (err error) {
	// SQLite would open a file without write permission for reading only.
	if file, err := os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return err
	} else if err := file.Close(); err != nil {
		return err
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	db, err := connect(absolute, url.Values{"mode": {"rw"}, "_pragma": {"query_only(1)"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := version(ctx, tx, path, schema); err != nil {
		return err
	}
	return look(ctx, tx)
}

func (f *File) open(ctx context.Context, path string, schema Schema) (err error) {
	if f.Writer, err = connect(f.path, url.Values{"_txlock": {"immediate"}}); err != nil {
		return err
	}
	f.Writer.SetMaxOpenConns(1)
	// The check comes before anything that writes. Turning the write-ahead log on writes too.
	if _, err := version(ctx, f.Writer, path, schema); err != nil {
		return err
	}
	if err := turnOnWriteAheadLog(ctx, f.Writer); err != nil {
		return fmt.Errorf("turn on the write-ahead log: %w", err)
	}
	err = f.Write(ctx, func(tx *sql.Tx) error { return migrate(ctx, tx, path, schema) })
	if err != nil {
		return err
	}
	if f.opened, err = os.Stat(f.path); err != nil {
		return err
	}
	if f.Reader, err = connect(f.path, url.Values{"mode": {"ro"}}); err != nil {
		return err
	}
	f.Reader.SetMaxOpenConns(maxReaders)
	f.Reader.SetMaxIdleConns(maxReaders)
	return nil
}

// connect returns a pool of connections to the file. The pool connects at its first use.
func connect(path string, options url.Values) (*sql.DB, error) {
	options.Set("_busy_timeout", strconv.FormatInt(busyTimeout.Milliseconds(), 10))
	options.Set("_synchronous", "FULL")
	options.Set("_error_rc", "1") // without this, a file that cannot be opened is reported as "out of memory"
	name := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: options.Encode()}
	return sql.Open("sqlite", name.String())
}

// Write runs write in a transaction and commits the transaction. The transaction holds the
// file's write lock from its beginning. If Write returns nil, everything is on disk, and
// whoever opens the file next finds it. If write returns an error, nothing is written. After
// another error, everything may be written. The error is a [*MovedError] if the file's name
// no longer leads to the open file.
func (f *File) Write(ctx context.Context, write func(tx *sql.Tx) error) error {
	err := f.transact(ctx, write)
	// The check comes after the commit: the file may be moved just before the commit, which
	// then writes to the moved file.
	if moved := f.checkPlace(); moved != nil {
		return moved
	}
	return err
}

func (f *File) transact(ctx context.Context, write func(tx *sql.Tx) error) error {
	tx, err := f.Writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing
	if err := write(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// checkPlace returns a [*MovedError] unless the file and the write-ahead log are still where
// they were opened. It must not open them: closing them again would release SQLite's locks.
func (f *File) checkPlace() error {
	if f.opened == nil {
		return nil
	}
	if now, err := os.Stat(f.path); err != nil || !os.SameFile(now, f.opened) {
		return &MovedError{f.path}
	}
	// The log has the latest commits. It exists while a connection is open.
	if _, err := os.Stat(f.path + "-wal"); err != nil {
		return &MovedError{f.path + "-wal"}
	}
	return nil
}

// migrate creates the schema, and records it in the file.
func migrate(ctx context.Context, tx *sql.Tx, path string, schema Schema) error {
	// Check again: now no other process can be creating the schema.
	found, err := version(ctx, tx, path, schema)
	if err != nil {
		return err
	}
	if err := schema.Create(ctx, tx, found); err != nil {
		return err
	}
	if found == schema.Version {
		return nil
	}
	marks := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", schema.ApplicationID, schema.Version)
	if _, err := tx.ExecContext(ctx, marks); err != nil {
		return fmt.Errorf("set the schema version: %w", err)
	}
	return nil
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// version returns the version of the file's schema, or 0 for a new file. It returns an error
// for a file that does not fit the schema.
func version(ctx context.Context, db querier, path string, schema Schema) (int, error) {
	var application, found, objects int
	err := db.QueryRowContext(ctx, `
		SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id, pragma_user_version`).Scan(&application, &found, &objects)
	isNew := application == 0 && found == 0 && objects == 0
	switch {
	case err != nil:
		return 0, fmt.Errorf("read the schema version: %w", err)
	case schema.ApplicationID != 0 && application != schema.ApplicationID && !isNew:
		return 0, fmt.Errorf("%s is an SQLite file, but not a file of this kind that tidemark wrote", path)
	case found > schema.Version:
		return 0, &VersionError{Path: path, Found: found, Known: schema.Version}
	}
	return found, nil
}

// turnOnWriteAheadLog turns on the write-ahead log, which is possible only outside a
// transaction. The log stays on when the file is closed.
func turnOnWriteAheadLog(ctx context.Context, db *sql.DB) error {
	// If two processes turn the log on at once, each holds a lock that the other wants. One
	// of them then gets SQLITE_BUSY at once, without a wait.
	waiting, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	for {
		var mode string
		err := db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		if err == nil && mode != "wal" {
			return fmt.Errorf("the journal mode stays %q: is the file on a network file system?", mode)
		}
		if err == nil || Code(err) != sqlite3.SQLITE_BUSY {
			return err
		}
		select {
		case <-waiting.Done():
			return cmp.Or(ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Code returns SQLite's primary result code of an error, or 0 if the error is not from
// SQLite.
func Code(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff // the rest is detail
}

// IsFull reports whether an error says that the disk is full.
func IsFull(err error) bool { return Code(err) == sqlite3.SQLITE_FULL }

// IsUnwritable reports whether an error says that the file or its log may not be written or
// created.
func IsUnwritable(err error) bool {
	code := Code(err)
	return code == sqlite3.SQLITE_READONLY || code == sqlite3.SQLITE_CANTOPEN || code == sqlite3.SQLITE_PERM
}

// IsDamaged reports whether an error says that the file is not a database, or is damaged.
func IsDamaged(err error) bool {
	code := Code(err)
	return code == sqlite3.SQLITE_NOTADB || code == sqlite3.SQLITE_CORRUPT
}

// Close closes the file. When the last process closes the file, SQLite moves the content of
// the write-ahead log into the file and removes the log.
func (f *File) Close() error {
	var errs []error
	// The writer must be last, because a reader cannot move the log's content.
	for _, db := range []*sql.DB{f.Reader, f.Writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// A Prepared is a statement to prepare.
type Prepared struct {
	Statement **sql.Stmt
	DB        *sql.DB
	SQL       string
}

// Prepare prepares statements that run often. Closing their database closes them.
func Prepare(ctx context.Context, all ...Prepared) error {
	for _, p := range all {
		statement, err := p.DB.PrepareContext(ctx, p.SQL)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", p.SQL, err)
		}
		*p.Statement = statement
	}
	return nil
}
