package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
	"github.com/tidemark-dev/tidemark/warehouse/sqlitetables"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/firestorecounters"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
	"github.com/tidemark-dev/tidemark/windowstore/sqlitecounters"
)

// openStores opens the counters and the tables. SQLite allows one writer per file. So
// counters and tables have separate files: the append of one batch and the increment of
// the batch before it can be written at the same time.
func (t *Service) openStores(ctx context.Context) error {
	if t.settings.Local() {
		if err := createDir(t.settings); err != nil {
			return err
		}
	}
	// Counters first: opening them may refuse the settings, and then no table must be
	// created.
	clock := clockWatch{log: t.log, metrics: t.metrics}
	counters, err := openCounters(ctx, t.settings, clock.ahead)
	if err != nil {
		return err
	}
	t.counters = counters
	config := BigQueryConfig(t.settings)
	config.QueryTimeout = t.settings.FlushTimeout
	config.Scanned = func(query string, bytes int64) {
		t.metrics.Scanned(query, bytes)
		t.log.Info("query", "query", query, "scanned_bytes", bytes)
	}
	rows, err := openTables(ctx, t.settings, config)
	if err != nil {
		return err
	}
	t.warehouse = t.metrics.Warehouse(rows)
	return nil
}

// OpenWarehouse opens only the tables of the configured backend, for a command that reads
// them. A server may be running. OpenWarehouse refuses what [CheckStored] and [New]
// refuse: with settings that do not fit the pipeline on record, the command would misread
// the pipeline's rows. The caller closes the warehouse.
func OpenWarehouse(ctx context.Context, s settings.Settings) (warehouse.Warehouse, error) {
	if err := CheckStored(ctx, s); err != nil {
		return nil, err
	}
	if err := checkMeaning(ctx, s); err != nil {
		return nil, err
	}
	return openTables(ctx, s, BigQueryConfig(s))
}

// checkMeaning returns a [*windowstore.MeaningError] if the settings do not fit the
// pipelines on record. It records nothing.
func checkMeaning(ctx context.Context, s settings.Settings) error {
	// SQLite keeps the record in the file of the counters: without the file there is
	// nothing to compare.
	if _, err := os.Stat(SQLiteCounters(s).Path); err != nil && s.Local() {
		return nil
	}
	counters, err := openCounters(ctx, s, nil)
	if err != nil {
		return err
	}
	if c, ok := counters.(FirestoreCounters); ok { // SQLite counters compared the settings when they were opened
		_, err = c.Recorded(ctx)
	}
	return errors.Join(err, counters.Close())
}

// CheckStored returns an error that wraps [fs.ErrNotExist] if the backend is local and
// nothing was ever stored there. It also returns an error if only other pipelines have
// stored something there. If DATA_DIR or PIPELINE_FILE is wrong, a command that reads
// stored data must not create empty tables and report that it found nothing.
func CheckStored(ctx context.Context, s settings.Settings) error {
	if !s.Local() {
		return nil
	}
	if _, err := os.Stat(SQLiteTables(s).Path); err != nil {
		return fmt.Errorf("nothing is stored in the data directory %s, or DATA_DIR is wrong: %w", s.DataDir, err)
	}
	// Other errors are those of opening the file, which comes next.
	recorded, others, err := sqlitecounters.Inspect(ctx, SQLiteCounters(s))
	if err == nil && !recorded && len(others) > 0 {
		return fmt.Errorf("the data directory %s has nothing of pipeline %q; it has %s: set PIPELINE_FILE (or PIPELINE) to the pipeline that is meant, or choose another DATA_DIR",
			s.DataDir, s.Pipeline, strings.Join(others, ", "))
	}
	return nil
}

// openCounters opens the counters. SQLite counters refuse settings that do not fit the
// pipelines on record. Firestore counters compare the settings only before the first
// write. If clockAhead is not nil, it is called with how far Firestore's clock is ahead.
func openCounters(ctx context.Context, s settings.Settings, clockAhead func(time.Duration)) (windowstore.Store, error) {
	if !s.Local() {
		config := FirestoreConfig(s)
		config.ClockAhead = clockAhead
		counters, err := OpenFirestore(ctx, s, config)
		if err != nil {
			return nil, err // not an empty store in an interface
		}
		return counters, nil
	}
	counters, err := sqlitecounters.Open(ctx, SQLiteCounters(s))
	if err != nil {
		return nil, explainDir(s, err)
	}
	return counters, nil
}

// meaning returns the settings that decide what the pipeline's counters mean.
func meaning(s settings.Settings) windowstore.Meaning {
	m := windowstore.Meaning{
		WindowDuration: s.WindowDuration,
		EventTime:      s.EventTimeMeaning(),
		EventID:        s.EventID.String(),
		RawTable:       s.Tables.Raw,
		AggTable:       s.Tables.Agg,
	}
	if !s.Local() {
		// A database may serve several datasets.
		m.RawTable, m.AggTable = s.Dataset+"."+m.RawTable, s.Dataset+"."+m.AggTable
	}
	return m
}

// SQLiteCounters returns the configuration of the counters in SQLite.
func SQLiteCounters(s settings.Settings) sqlitecounters.Config {
	return sqlitecounters.Config{Path: filepath.Join(s.DataDir, "counters.db"), Pipeline: s.Pipeline, Meaning: meaning(s), Now: time.Now}
}

// FirestoreConfig returns the configuration of the connection to Firestore.
func FirestoreConfig(s settings.Settings) firestorecounters.Config {
	return firestorecounters.Config{
		Project: s.Project, Database: s.FirestoreDatabase, EmulatorHost: s.FirestoreEmulator, CallTimeout: settings.StepTimeout,
		CountTimeout: s.FlushTimeout,
	}
}

// OpenFirestore opens the counters in Firestore. The caller closes them.
func OpenFirestore(ctx context.Context, s settings.Settings, config firestorecounters.Config) (FirestoreCounters, error) {
	database, err := firestorecounters.Open(ctx, config)
	if err != nil {
		return FirestoreCounters{}, err
	}
	store := sharded.New(sharded.Config{
		Documents: database.Pipeline(s.Pipeline), Pipeline: s.Pipeline, Meaning: meaning(s),
		Writer: sharded.NewWriter(), Now: time.Now,
	})
	return FirestoreCounters{store, database}, nil
}

// FirestoreCounters is a store of counters that owns its connection and closes it.
type FirestoreCounters struct {
	*sharded.Store
	*firestorecounters.Database
}

// Close closes the connection.
func (c FirestoreCounters) Close() error { return c.Database.Close() }

// openTables opens the tables. Only tables in BigQuery have a config. BigQuery is called
// by the first use, so an error comes from the settings or the credentials.
func openTables(ctx context.Context, s settings.Settings, config bigquerytables.Config) (warehouse.Warehouse, error) {
	if s.Local() {
		w, err := sqlitetables.Open(ctx, SQLiteTables(s))
		if err != nil {
			return nil, explainDir(s, err)
		}
		return w, nil
	}
	w, err := bigquerytables.New(ctx, config)
	if err != nil {
		return nil, err
	}
	return bigQueryWarehouse{w, s.FlushTimeout}, nil
}

// SQLiteTables returns the configuration of the tables in SQLite.
func SQLiteTables(s settings.Settings) sqlitetables.Config {
	return sqlitetables.Config{Path: filepath.Join(s.DataDir, "warehouse.db"), Layout: s.Layout()}
}

// clockSlack is how far the publish time of a message may be ahead of the clock of the
// process that stores the message. Pub/Sub's publish times are ahead by a moment at most.
// The slack is for messages that are pushed by hand from a machine whose clock is wrong.
const clockSlack = 24 * time.Hour

// commandTimeout bounds a query of a command. The user waits for it, so it may take
// longer than a flush.
const commandTimeout = 5 * time.Minute

// BigQueryConfig returns the configuration of the tables in BigQuery, for a command.
func BigQueryConfig(s settings.Settings) bigquerytables.Config {
	return bigquerytables.Config{
		Project: s.Project, Dataset: s.Dataset, Location: s.BigQueryLocation, Layout: s.Layout(),
		Method:        bigquerytables.Method(s.RawMethod),
		AppendTimeout: settings.StepTimeout, QueryTimeout: commandTimeout,
		MaxAhead: s.MaxClockSkew + clockSlack,
		Now:      time.Now,
		RESTHost: s.BigQueryEmulator, GRPCHost: s.BigQueryStorageEmulator,
	}
}

// bigQueryWarehouse is a warehouse whose errors name settings.
type bigQueryWarehouse struct {
	*bigquerytables.Warehouse
	flushTimeout time.Duration
}

// CountRaw adds to the error of a flush that runs into its timeout what to do. (An audit
// has an error of its own for its timeout.)
func (w bigQueryWarehouse) CountRaw(ctx context.Context, starts []time.Time) ([]int64, error) {
	counts, err := w.Warehouse.CountRaw(ctx, starts)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("it takes longer than FLUSH_TIMEOUT=%s leaves it; raise that, to %s at most: %w", durations.Text(w.flushTimeout), durations.Text(settings.MaxFlushTimeout), err)
	}
	return counts, err
}

// explainDir adds to an error of the data directory, or of a file in it, what to do: use
// another directory, or get the permissions. (Even a reader needs write permission:
// SQLite creates its log beside the file.)
func explainDir(s settings.Settings, err error) error {
	if _, misfit := errors.AsType[*windowstore.MeaningError](err); misfit {
		return fmt.Errorf("%w; or use another DATA_DIR", err)
	}
	if errors.Is(err, fs.ErrPermission) || sqlitefile.IsUnwritable(err) {
		return fmt.Errorf("data directory %s cannot be read and written by this user, as every command must: %w", s.DataDir, err)
	}
	return err
}

// createDir creates the data directory if it does not exist.
func createDir(s settings.Settings) error {
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return explainDir(s, fmt.Errorf("create the data directory: %w", err))
	}
	return nil
}

// ErrInUse is wrapped by the error of [Lock] if another server uses the data directory.
var ErrInUse = errors.New("another tidemark server has it")

// Lock creates the data directory if it does not exist, and keeps other servers out of
// the directory until unlock is called. A server calls Lock before it creates anything
// else. Two servers on one directory would lose nothing, as in the cloud. But on one
// machine a second server is a mistake: each server would get half of the messages that
// are meant for the other. Commands such as flush and audit run beside a server, and do
// not lock.
func Lock(s settings.Settings) (unlock func() error, err error) {
	if !s.Local() {
		return func() error { return nil }, nil
	}
	if err := createDir(s); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(s.DataDir, "lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, explainDir(s, fmt.Errorf("lock the data directory %s: %w", s.DataDir, err))
	}
	if !locked {
		return nil, fmt.Errorf("data directory %s: %w; stop that server, or give this one another DATA_DIR", s.DataDir, ErrInUse)
	}
	return lock.Unlock, nil
}
