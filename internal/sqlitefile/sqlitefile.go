// Package sqlitefile opens the SQLite files of the embedded stores, all in the
// same way: a write-ahead log, so that readers and the writer do not wait for
// each other; every commit synced to disk before it returns; one connection that
// writes and a few that only read. Other processes of the machine may have the
// file open as well; it must not lie on a network file system.
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
	// busyTimeout is how long a write waits for one of another process. Writes
	// are short; the context ends the wait earlier.
	busyTimeout = 30 * time.Second
	// maxReaders bounds the connections that read at the same time, each with a
	// page cache of its own.
	maxReaders = 4
)

// A Schema is what a file holds.
type Schema struct {
	// Version is kept in the file's user_version. A file of a later version is
	// refused; a new file has version 0.
	Version int
	// ApplicationID is kept in the file's application_id, and a file that has
	// another, or tables and none, is refused. 0 is no such check.
	ApplicationID int
	// Make makes what the file does not have, in a transaction. It is called at
	// every opening.
	Make func(ctx context.Context, tx *sql.Tx, found int) error
}

// A VersionError reports a file that a later version of the program has written.
// It is permanent, and the file was left as it is.
type VersionError struct {
	Path         string
	Found, Known int // versions of the schema
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has schema version %d, and this program knows versions up to %d: run the later version of tidemark that wrote it",
		e.Path, e.Found, e.Known)
}

// A MovedError reports a file that was deleted, moved or replaced while it was open.
// What is written to an open file whose name is gone is lost when the file is closed.
type MovedError struct{ Path string }

func (e *MovedError) Error() string {
	return fmt.Sprintf("%s was deleted, moved or replaced while this program had it open, and what the program still writes is lost: put back what was there, or stop the program and start it again", e.Path)
}

// A File is an open file.
type File struct {
	// Writer has one connection, so that writers of this process queue in Go. It is for
	// reading in step with the writes; [File.Write] writes.
	Writer *sql.DB
	Reader *sql.DB // cannot write

	path   string      // absolute
	opened os.FileInfo // of the file; nil while it is being opened
}

// Open opens the file, making it where it does not exist, in a directory that
// does. It returns a [*VersionError] for a file of a later version. A file that
// it refuses is left as it is.
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

// Inspect runs look in a transaction on the file, which it neither makes nor
// changes. It returns an error that wraps [fs.ErrNotExist] where there is no file,
// and for a file that [Open] refuses that error. Where nobody has the file open, a
// write-ahead log that was left beside it is folded into it.
func Inspect(ctx context.Context, path string, schema Schema, look func(ctx context.Context, tx *sql.Tx) error) (err error) {
	// SQLite opens a file that may not be written for reading only.
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
	// Before anything that writes, the change to a write-ahead log included.
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

// connect returns a pool of connections to the file. None is made before the
// first use.
func connect(path string, options url.Values) (*sql.DB, error) {
	options.Set("_busy_timeout", strconv.FormatInt(busyTimeout.Milliseconds(), 10))
	options.Set("_synchronous", "FULL")
	options.Set("_error_rc", "1") // else a file that cannot be opened is reported as "out of memory"
	name := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: options.Encode()}
	return sql.Open("sqlite", name.String())
}

// Write runs write in a transaction that holds the file's write lock from its
// beginning, and commits it. When it returns nil, all of it is on disk, and whoever
// opens the file next finds it. On an error of write nothing is written; on another
// error all of it may be. The error is a [*MovedError] if the file's name no longer
// leads to the open file.
func (f *File) Write(ctx context.Context, write func(tx *sql.Tx) error) error {
	err := f.transact(ctx, write)
	// After the commit: a file that is moved before it gets what is committed.
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

// checkPlace returns a [*MovedError] unless the file and the write-ahead log are where
// they were opened. It opens neither: closing it again would release SQLite's locks.
func (f *File) checkPlace() error {
	if f.opened == nil {
		return nil
	}
	if now, err := os.Stat(f.path); err != nil || !os.SameFile(now, f.opened) {
		return &MovedError{f.path}
	}
	// The log has what was committed last. It is there while a connection is open.
	if _, err := os.Stat(f.path + "-wal"); err != nil {
		return &MovedError{f.path + "-wal"}
	}
	return nil
}

// migrate has the schema made and marks the file with it.
func migrate(ctx context.Context, tx *sql.Tx, path string, schema Schema) error {
	// Again, now that no other process can be making the schema.
	found, err := version(ctx, tx, path, schema)
	if err != nil {
		return err
	}
	if err := schema.Make(ctx, tx, found); err != nil {
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

// version returns the version of the file's schema, 0 for a new file, or refuses
// the file.
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
		return 0, fmt.Errorf("%s is an SQLite file, but not one of tidemark's of this kind", path)
	case found > schema.Version:
		return 0, &VersionError{Path: path, Found: found, Known: schema.Version}
	}
	return found, nil
}

// turnOnWriteAheadLog does so outside of a transaction, where alone it can be
// done. It stays on with the file.
func turnOnWriteAheadLog(ctx context.Context, db *sql.DB) error {
	// Of two processes that turn it on at once, SQLite tells one that the file is
	// busy without waiting, since each holds a lock that the other wants.
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

// Code returns SQLite's primary result code of an error, or 0 where it is no
// error of SQLite's.
func Code(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Code() & 0xff // the rest is detail
}

// IsFull reports whether an error says that the disk is full.
func IsFull(err error) bool { return Code(err) == sqlite3.SQLITE_FULL }

// IsUnwritable reports whether an error says that the file, or the log beside it,
// may not be written or made.
func IsUnwritable(err error) bool {
	code := Code(err)
	return code == sqlite3.SQLITE_READONLY || code == sqlite3.SQLITE_CANTOPEN || code == sqlite3.SQLITE_PERM
}

// IsDamaged reports whether an error says that the file is no database, or a broken
// one.
func IsDamaged(err error) bool {
	code := Code(err)
	return code == sqlite3.SQLITE_NOTADB || code == sqlite3.SQLITE_CORRUPT
}

// Close closes the file. The last process that has it open folds the write-ahead
// log into it and removes the log.
func (f *File) Close() error {
	var errs []error
	// The writer last, because the readers cannot fold the log.
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

// Prepare prepares statements that run often, once. They are closed with their
// database.
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
