// Package sqlitecounters keeps the counters in one SQLite file: the store of a
// pipeline that runs on a single machine.
//
// SQLite lets one transaction write at a time, so shards, which keep writers apart,
// have no purpose here: a window's counter is one shard. Every write is durable when
// it returns (write-ahead log, synchronous=FULL). Several processes of the machine
// may have the file open at the same time. The file must not be on a network file
// system.
//
// A shard's row holds the number of keys of the shard, so that counting a window
// reads one row however many keys there are. The number is exact. Only [Store.Add]
// writes the keys of a live shard. In the same transaction Add adds to the number how
// many rows its insert created (a key that exists creates none). Keys are deleted
// only after the row of their shard was deleted.
package sqlitecounters

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// Config is what [Open] needs. All fields are required.
type Config struct {
	Path     string // of the file; Open creates the file, but not its directory
	Pipeline string
	Meaning  windowstore.Meaning
	Now      func() time.Time // the store's clock, with microsecond precision
}

// Store is a [windowstore.Store] in an SQLite file. Window starts are whole
// seconds.
type Store struct {
	config     Config
	file       *sqlitefile.File
	statements statements
	// pipelineID is the id of the pipeline's row, once the store knows that the
	// pipeline is on record with the store's meaning; 0 before. The id then never
	// changes.
	pipelineID atomic.Int64
}

var _ windowstore.Store = (*Store)(nil)

// Open opens the file, and creates the file if it does not exist. If the Meaning does
// not fit the pipelines on record, Open returns a [*windowstore.MeaningError]. If a
// later version of the program wrote the file, Open returns a
// [*sqlitefile.VersionError].
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

// Inspect reports whether the pipeline is on record in the file, and which others are, and returns the
// errors that [Open] would return. It creates and changes nothing. If the file does
// not exist, the error wraps [fs.ErrNotExist].
func Inspect(ctx context.Context, config Config) (recorded bool, others []string, err error) {
	err = sqlitefile.Inspect(ctx, config.Path, fileSchema, func(ctx context.Context, tx *sql.Tx) error {
		if isNew, err := isNewFile(ctx, tx); err != nil || isNew {
			return err
		}
		meanings, err := recordedMeanings(ctx, tx)
		if err != nil {
			return err
		}
		_, recorded = meanings[config.Pipeline]
		for _, name := range slices.Sorted(maps.Keys(meanings)) {
			if name != config.Pipeline {
				others = append(others, name)
			}
		}
		return windowstore.CheckMeaning(config.Pipeline, config.Meaning, meanings)
	})
	if err != nil {
		return false, nil, (&Store{config: config}).wrap("inspect", err)
	}
	return recorded, others, nil
}

// isNewFile reports whether nothing was ever created in the file.
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

// wrap adds the action and the file to err, and names the cause if an operator can
// remove it.
func (s *Store) wrap(action string, err error) error {
	if sqlitefile.IsFull(err) {
		return fmt.Errorf("%s counters in %s: no space left on the disk: %w", action, s.config.Path, err)
	}
	return fmt.Errorf("%s counters in %s: %w", action, s.config.Path, err)
}

// write runs f in a transaction that holds the file's write lock from the beginning.
func (s *Store) write(ctx context.Context, action string, f func(*sql.Tx) error) error {
	if err := s.file.Write(ctx, f); err != nil {
		return s.wrap(action, err)
	}
	return nil
}

// micros returns the present time as the file stores times: microseconds since the
// Unix epoch.
func (s *Store) micros() int64 { return s.config.Now().UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
