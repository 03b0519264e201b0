// Package sqlitehouse is the warehouse in one SQLite file, for a machine with
// nothing else configured. A person opens the same file with the sqlite3 shell,
// also while the program runs, and finds the tables and views under the names
// they have in BigQuery.
//
// SQLite has fewer types than BigQuery. A TIMESTAMP is text as
// [event.FormatTime] writes it, so that times sort and compare as text does; a
// BOOLEAN is 0 or 1. What is absent is NULL, never empty: a dead letter's data,
// attributes, subscription and error.
//
// The file is in write-ahead mode, so readers and the writer do not wait for
// each other, and an append is synced to disk before it returns. Other processes
// may have the file open as well; a writer waits for another's transaction, up
// to five seconds or the end of its context.
package sqlitehouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// Config says which file a warehouse is in.
type Config struct {
	// Path is the database file. It and its directory are made if they do not
	// exist.
	Path string
	// Names are the names of the tables. Several pipelines may share a file under
	// different names.
	Names warehouse.Names
}

// A Warehouse is a [warehouse.Warehouse] in a SQLite file.
type Warehouse struct {
	path  string
	names warehouse.Names

	writer  *sql.DB // one connection: SQLite has one writer, and a queue here is fairer than its busy wait
	readers *sql.DB // cannot write

	insertRaw, insertCount, insertDeadLetter *sql.Stmt // of writer
	countRaw                                 *sql.Stmt // of readers
}

var _ warehouse.Warehouse = (*Warehouse)(nil)

// busyTimeout is how long a writer waits for another process's transaction.
const busyTimeout = 5 * time.Second

// maxReaders bounds the connections that count at the same time, each with a
// page cache of its own.
const maxReaders = 4

// Open opens the warehouse in the file, and makes the file, the tables and the
// views that do not exist. It changes nothing that exists: an error is a
// [*warehouse.TableError] where a table is not what the schema says, and names
// both versions where the file was written by a newer Tidemark.
func Open(ctx context.Context, c Config) (*Warehouse, error) {
	w, err := open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open warehouse %s: %w", c.Path, err)
	}
	return w, nil
}

func open(ctx context.Context, c Config) (_ *Warehouse, err error) {
	if err := c.Names.Check(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	w := &Warehouse{path: c.Path, names: c.Names}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()

	if w.writer, err = sql.Open("sqlite", dataSource(path, "mode=rwc", "_txlock=immediate", "_pragma=synchronous(FULL)")); err != nil {
		return nil, err
	}
	w.writer.SetMaxOpenConns(1)
	if err := migrate(ctx, w.writer, c.Names); err != nil {
		return nil, err
	}

	if w.readers, err = sql.Open("sqlite", dataSource(path, "mode=ro")); err != nil {
		return nil, err
	}
	w.readers.SetMaxOpenConns(maxReaders)
	w.readers.SetMaxIdleConns(maxReaders)
	return w, w.prepare(ctx)
}

// dataSource returns the driver's name for the file with the given options.
func dataSource(path string, options ...string) string {
	// Escaped, since a path may hold the question mark that begins the options.
	source := "file:" + (&url.URL{Path: path}).EscapedPath() +
		// busy_timeout first, so that the pragmas after it wait too. _error_rc
		// keeps stale texts out of the driver's errors.
		fmt.Sprintf("?_error_rc=1&_pragma=busy_timeout(%d)", busyTimeout.Milliseconds())
	for _, option := range options {
		source += "&" + option
	}
	return source
}

func (w *Warehouse) prepare(ctx context.Context) error {
	for _, p := range []struct {
		stmt **sql.Stmt
		db   *sql.DB
		text string
	}{
		{&w.insertRaw, w.writer, insertInto(warehouse.RawTable(w.names))},
		{&w.insertCount, w.writer, insertInto(warehouse.AggLogTable(w.names))},
		{&w.insertDeadLetter, w.writer, insertInto(warehouse.DeadLetterTable(w.names))},
		{&w.countRaw, w.readers, countRawQuery(w.names)},
	} {
		stmt, err := p.db.PrepareContext(ctx, p.text)
		if err != nil {
			return err
		}
		*p.stmt = stmt
	}
	return nil
}

// Close closes the file.
func (w *Warehouse) Close() error {
	var errs []error
	// The writer last: the last connection to close folds the write-ahead log
	// into the file, and the readers cannot.
	for _, db := range []*sql.DB{w.readers, w.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close warehouse %s: %w", w.path, err)
	}
	return nil
}
