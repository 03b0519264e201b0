// Package sqlitecounters keeps the counters in one SQLite file: the store of a
// pipeline that runs on a single machine.
//
// SQLite lets one transaction write at a time, so shards, which exist to keep
// writers apart, have nothing to do here: a window's counter is one shard. Every
// write is durable when it returns (write-ahead log, synchronous=FULL). Several
// processes of the machine may have the file open at the same time; it must not
// lie on a network file system.
//
// A shard's row holds how many keys the shard has, so that counting a window
// reads one row however many keys it holds. The number is exact: the keys of a
// live shard are written in one place only, [Store.Add], which in the same
// transaction adds to it how many rows its insert made (a key that was there
// makes none), and keys are deleted only after their shard's row is gone.
package sqlitecounters

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// Config is what [Open] needs. All fields are required.
type Config struct {
	Path     string // of the file, which is made when absent, in a directory that exists
	Pipeline string
	Meaning  windowstore.Meaning
	Now      func() time.Time // the store's clock, read to the microsecond
}

// Store is a [windowstore.Store] in an SQLite file. Window starts are whole
// seconds.
type Store struct {
	config     Config
	file       *sqlitefile.File
	statements statements
	// pipelineID is the pipeline's row once this store knows it to be on record
	// with its own meaning, which then never changes; 0 before.
	pipelineID atomic.Int64
}

var _ windowstore.Store = (*Store)(nil)

// Open opens the file, making it when it is absent. It returns a
// [*windowstore.MeaningError] where the pipelines on record do not let this
// one have its meaning, and a [*sqlitefile.VersionError] where the file was written by a
// later version of the program.
func Open(ctx context.Context, config Config) (*Store, error) {
	s := &Store{config: config}
	if err := s.open(ctx); err != nil {
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
		}
		return nil, s.wrap("open", err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	s.file, err = sqlitefile.Open(ctx, s.config.Path, fileSchema)
	if err != nil {
		return err
	}
	recorded, err := recordedMeanings(ctx, s.file.Writer)
	if err != nil {
		return err
	}
	if err := windowstore.CheckMeaning(s.config.Pipeline, s.config.Meaning, recorded); err != nil {
		return err
	}
	return s.statements.prepare(ctx, s.file)
}

// Inspect reports whether the pipeline is on record in the file, and returns the
// errors of [Open]; it makes and changes nothing. Where there is no file the error
// wraps [fs.ErrNotExist].
func Inspect(ctx context.Context, config Config) (recorded bool, err error) {
	err = sqlitefile.Inspect(ctx, config.Path, fileSchema, func(ctx context.Context, tx *sql.Tx) error {
		if isNew, err := isNewFile(ctx, tx); err != nil || isNew {
			return err
		}
		meanings, err := recordedMeanings(ctx, tx)
		if err != nil {
			return err
		}
		_, recorded = meanings[config.Pipeline]
		return windowstore.CheckMeaning(config.Pipeline, config.Meaning, meanings)
	})
	if err != nil {
		return false, (&Store{config: config}).wrap("inspect", err)
	}
	return recorded, nil
}

// isNewFile reports whether nothing was ever made in the file.
func isNewFile(ctx context.Context, tx *sql.Tx) (isNew bool, err error) {
	err = tx.QueryRowContext(ctx, "SELECT count(*) = 0 FROM sqlite_schema").Scan(&isNew)
	return isNew, err
}

// Close closes the file.
func (s *Store) Close() error {
	if err := s.file.Close(); err != nil {
		return s.wrap("close", err)
	}
	return nil
}

// wrap says which action on which file err comes from, and what to do where a
// person can do something.
func (s *Store) wrap(action string, err error) error {
	if sqlitefile.IsFull(err) {
		return fmt.Errorf("%s counters in %s: no space left on the disk: %w", action, s.config.Path, err)
	}
	return fmt.Errorf("%s counters in %s: %w", action, s.config.Path, err)
}

// write runs f in a transaction that holds the file's write lock from its
// beginning.
func (s *Store) write(ctx context.Context, action string, f func(*sql.Tx) error) error {
	if err := s.file.Write(ctx, f); err != nil {
		return s.wrap(action, err)
	}
	return nil
}

// micros is how instants are stored: microseconds since the Unix epoch.
func (s *Store) micros() int64 { return s.config.Now().UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
