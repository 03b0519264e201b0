// Package sqlitetables is the warehouse in one SQLite file, for a machine on which
// nothing else is configured. Users may open the file with the sqlite3 shell, even
// while the program runs. They find the tables and views under the same names as in
// BigQuery.
//
// SQLite has fewer types than BigQuery. A TIMESTAMP is text as [event.FormatTime]
// writes it, so that text sorts and compares as the times do. A BOOLEAN is 0 or 1. An
// absent value is NULL, never empty: a dead letter's data, attributes, subscription
// and error.
//
// An append is synced to disk before it returns. See package sqlitefile.
package sqlitetables

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// Config says which file a warehouse is in.
type Config struct {
	// Path is the database file. Open creates the file, but not its directory.
	Path string
	// Layout has the names and the columns of the tables. Several pipelines may share a
	// file under different names.
	Layout warehouse.Layout
}

// A Warehouse is a [warehouse.Warehouse] in a SQLite file.
type Warehouse struct {
	path    string
	layout  warehouse.Layout
	raw     warehouse.TableOf[warehouse.RawRow]
	counts  warehouse.TableOf[warehouse.WindowCount]
	letters warehouse.TableOf[warehouse.LetterPart]
	file    *sqlitefile.File

	insertRaw, insertCount, insertDeadLetter *sql.Stmt // of the writer
	countRaw, audit                          *sql.Stmt // of the reader
}

var _ warehouse.Warehouse = (*Warehouse)(nil)

// Open opens the warehouse in the file. It creates the file, the tables and the views
// that do not exist, adds the columns of new fields of the event, and replaces views
// with another definition unless a later version of the program created them. It
// changes nothing else that exists. If a table does not fit the schema, the error is
// a [*warehouse.TableError]. If a later version of the program wrote the file, the
// error is a [*sqlitefile.VersionError].
func Open(ctx context.Context, c Config) (*Warehouse, error) {
	w, err := open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open warehouse %s: %w", c.Path, err)
	}
	return w, nil
}

func open(ctx context.Context, c Config) (*Warehouse, error) {
	if err := c.Layout.Check(); err != nil {
		return nil, err
	}
	file, err := sqlitefile.Open(ctx, c.Path, sqlitefile.Schema{
		Version: schemaVersion,
		Create:  func(ctx context.Context, tx *sql.Tx, _ int) error { return createTables(ctx, tx, c.Layout) },
	})
	if err != nil {
		return nil, err
	}
	w := &Warehouse{
		path: c.Path, layout: c.Layout, file: file,
		raw: warehouse.RawTable(c.Layout), counts: warehouse.AggLogTable(c.Layout), letters: warehouse.DeadLetterTable(c.Layout),
	}
	err = sqlitefile.Prepare(ctx,
		sqlitefile.Prepared{Statement: &w.insertRaw, DB: file.Writer, SQL: insertInto(w.raw.Table)},
		sqlitefile.Prepared{Statement: &w.insertCount, DB: file.Writer, SQL: insertInto(w.counts.Table)},
		sqlitefile.Prepared{Statement: &w.insertDeadLetter, DB: file.Writer, SQL: insertInto(w.letters.Table)},
		sqlitefile.Prepared{Statement: &w.countRaw, DB: file.Reader, SQL: countRawQuery(w.layout)},
		sqlitefile.Prepared{Statement: &w.audit, DB: file.Reader, SQL: auditQuery(w.layout)},
	)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return w, nil
}

// Close closes the file.
func (w *Warehouse) Close() error {
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("close warehouse %s: %w", w.path, err)
	}
	return nil
}
