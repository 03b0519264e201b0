package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
	"github.com/tidemark-dev/tidemark/warehouse/sqlitetables"
	"github.com/tidemark-dev/tidemark/warehouse/streamhouse"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/firestorecounters"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
	"github.com/tidemark-dev/tidemark/windowstore/sqlitecounters"
)

// openStores opens the embedded stores. The counters have a file of their own,
// so that the append of one batch and the increment of the one before it can be
// written side by side: SQLite has one writer per file.
func (t *Service) openStores(ctx context.Context) error {
	if t.settings.OnDisk() {
		if err := makeDir(t.settings); err != nil {
			return err
		}
	}
	// First, because it may refuse the settings, before any table is made.
	clock := clockWatch{log: t.log, metrics: t.metrics}
	counters, err := openCounters(ctx, t.settings, clock.ahead)
	if err != nil {
		return err
	}
	t.counters = counters
	rows, err := openTables(ctx, t.settings, queryOptions{
		timeout: t.settings.FlushTimeout,
		scanned: func(query string, bytes int64) {
			t.metrics.Scanned(query, bytes)
			t.log.Info("query", "query", query, "scanned_bytes", bytes)
		},
	})
	if err != nil {
		return err
	}
	t.warehouse = t.metrics.Warehouse(rows)
	return nil
}

// OpenWarehouse opens the tables of the configured backend alone, for a command
// that reads them, also beside a running server. It refuses what [CheckStored]
// and [New] refuse: settings that do not fit the pipeline on record would take
// its rows for something else. The caller closes it.
func OpenWarehouse(ctx context.Context, s settings.Settings) (warehouse.Warehouse, error) {
	if err := CheckStored(s); err != nil {
		return nil, err
	}
	if err := checkMeaning(ctx, s); err != nil {
		return nil, err
	}
	// A person waits for them, and no flush.
	w, err := openTables(ctx, s, queryOptions{timeout: bigquerytables.DefaultQueryTimeout})
	if err != nil {
		return nil, err // and not a nil pointer in w
	}
	return w, nil
}

// checkMeaning returns a [*windowstore.MeaningError] where the settings do not fit
// the pipelines on record, and records nothing.
func checkMeaning(ctx context.Context, s settings.Settings) error {
	// Where SQLite counters are lost, so is the record.
	if _, err := os.Stat(CountersPath(s)); err != nil && s.Counters == "sqlite" {
		return nil
	}
	counters, err := openCounters(ctx, s, nil)
	if err != nil {
		return err
	}
	if c, ok := counters.(FirestoreCounters); ok { // SQLite's were compared when they were opened
		err = c.Check(ctx)
	}
	return errors.Join(err, counters.Close())
}

// CheckStored returns an error that wraps [fs.ErrNotExist] if nothing was ever
// stored on the configured backend. A command that looks for what is stored must
// not make empty tables of a wrong DATA_DIR, and find nothing.
func CheckStored(s settings.Settings) error {
	if s.Backend == "gcp" {
		return nil
	}
	if _, err := os.Stat(TablesPath(s)); err != nil {
		return fmt.Errorf("nothing is stored in the data directory %s, or DATA_DIR is wrong: %w", s.DataDir, err)
	}
	return nil
}

func CountersPath(s settings.Settings) string { return filepath.Join(s.DataDir, "counters.db") }
func TablesPath(s settings.Settings) string   { return filepath.Join(s.DataDir, "warehouse.db") }
func LockPath(s settings.Settings) string     { return filepath.Join(s.DataDir, "lock") }

// openCounters opens the counters. Of SQLite's it refuses settings that do not
// fit the pipelines on record; Firestore's is not asked before the first write.
// clockAhead, unless it is nil, is told how far Firestore's clock is ahead.
func openCounters(ctx context.Context, s settings.Settings, clockAhead func(time.Duration)) (windowstore.Store, error) {
	if s.Counters == "firestore" {
		config := FirestoreConfig(s)
		config.ClockAhead = clockAhead
		counters, err := OpenFirestore(ctx, s, config)
		if err != nil {
			return nil, err // and not an empty store
		}
		return counters, nil
	}
	counters, err := sqlitecounters.Open(ctx, SQLiteCounters(s))
	if err != nil {
		return nil, explainDir(s, err)
	}
	return counters, nil
}

// meaning returns what the settings make of the pipeline.
func meaning(s settings.Settings) windowstore.Meaning {
	m := windowstore.Meaning{
		WindowDuration: s.WindowDuration,
		EventTime:      s.EventTimeMeaning(),
		EventID:        s.EventID.String(),
		RawTable:       s.Tables.Raw,
		AggTable:       s.Tables.Agg,
	}
	if s.Counters == "firestore" {
		// A database may serve several datasets.
		m.RawTable, m.AggTable = s.Dataset+"."+m.RawTable, s.Dataset+"."+m.AggTable
	}
	return m
}

func SQLiteCounters(s settings.Settings) sqlitecounters.Config {
	return sqlitecounters.Config{Path: CountersPath(s), Pipeline: s.Pipeline, Meaning: meaning(s), Now: time.Now}
}

func FirestoreConfig(s settings.Settings) firestorecounters.Config {
	return firestorecounters.Config{
		Project: s.Project, Database: s.FirestoreDatabase, EmulatorHost: s.FirestoreEmulator, CallTimeout: settings.StepTimeout,
		CountTimeout: s.FlushTimeout,
	}
}

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

// FirestoreCounters is a store that closes its connection.
type FirestoreCounters struct {
	*sharded.Store
	database *firestorecounters.Database
}

// TryWrite checks that the pipeline's documents can be written.
func (c FirestoreCounters) TryWrite(ctx context.Context, pipeline string) error {
	return c.database.TryWrite(ctx, pipeline)
}

func (c FirestoreCounters) Close() error { return c.database.Close() }

// queryOptions say how queries are run where each is billed by what it reads.
type queryOptions struct {
	timeout time.Duration
	scanned func(query string, bytes int64) // told of each, unless it is nil
}

// openTables opens the tables.
func openTables(ctx context.Context, s settings.Settings, queries queryOptions) (warehouse.Warehouse, error) {
	if s.Backend == "gcp" {
		return openBigQuery(ctx, s, queries)
	}
	w, err := sqlitetables.Open(ctx, SQLiteTables(s))
	if err != nil {
		return nil, explainDir(s, err)
	}
	return w, nil
}

func SQLiteTables(s settings.Settings) sqlitetables.Config {
	return sqlitetables.Config{Path: TablesPath(s), Layout: s.Layout()}
}

// clockSlack is how far the publish time of a message can be ahead of the clock of the
// process that stores it. Pub/Sub's is not by more than a moment, so this is for
// messages that are pushed by hand, from a machine whose clock is wrong.
const clockSlack = 24 * time.Hour

func BigQueryConfig(s settings.Settings) bigquerytables.Config {
	return bigquerytables.Config{
		Project: s.Project, Dataset: s.Dataset, Location: s.BigQueryLocation, Layout: s.Layout(),
		Method:        bigquerytables.Method(s.RawMethod),
		AppendTimeout: settings.StepTimeout,
		MaxAhead:      s.MaxClockSkew + clockSlack,
		RESTHost:      s.BigQueryEmulator, GRPCHost: s.BigQueryStorageEmulator,
	}
}

// openBigQuery connects with the first call, so an error is one of the settings or
// of the credentials.
func openBigQuery(ctx context.Context, s settings.Settings, queries queryOptions) (warehouse.Warehouse, error) {
	config := BigQueryConfig(s)
	config.QueryTimeout, config.Scanned = queries.timeout, queries.scanned
	tables, err := bigquerytables.New(ctx, config)
	if err != nil {
		return nil, err
	}
	return bigQueryWarehouse{streamhouse.New(s.Layout(), tables, tables), tables, s.FlushTimeout}, nil
}

// bigQueryWarehouse is a warehouse that closes its connections.
type bigQueryWarehouse struct {
	*streamhouse.Warehouse
	tables       *bigquerytables.Tables
	flushTimeout time.Duration
}

// CountRaw says of a flush that runs into its timeout what to do. (An audit says so
// itself.)
func (w bigQueryWarehouse) CountRaw(ctx context.Context, starts []time.Time) ([]int64, error) {
	counts, err := w.Warehouse.CountRaw(ctx, starts)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("it takes longer than FLUSH_TIMEOUT=%s leaves it; raise that, to %s at most: %w", durations.Text(w.flushTimeout), durations.Text(settings.MaxFlushTimeout), err)
	}
	return counts, err
}

func (w bigQueryWarehouse) Close() error { return w.tables.Close() }

// explainDir says of an error of the data directory, or of a file in it, whether
// another directory helps, or it is the user who may not. (To read a file, SQLite writes
// the log beside it.)
func explainDir(s settings.Settings, err error) error {
	if _, misfit := errors.AsType[*windowstore.MeaningError](err); misfit && s.OnThisMachine() {
		return fmt.Errorf("%w; or use another DATA_DIR", err)
	}
	if errors.Is(err, fs.ErrPermission) || sqlitefile.IsUnwritable(err) {
		return fmt.Errorf("data directory %s cannot be read and written by this user, as every command must: %w", s.DataDir, err)
	}
	return err
}

// makeDir makes the data directory where it does not exist.
func makeDir(s settings.Settings) error {
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return explainDir(s, fmt.Errorf("make the data directory: %w", err))
	}
	return nil
}

// ErrInUse is wrapped by the error of [Lock] for a data directory that another
// server has.
var ErrInUse = errors.New("another tidemark server has it")

// Lock makes the data directory where it does not exist, and keeps other servers
// out of it until unlock is called. A server locks before it makes anything else.
// (Two would be safe, as they are in the cloud, but on one machine they are a
// mistake: each would take half of what is meant for the other. Single commands,
// as flush and audit, run beside a server, and do not lock.)
func Lock(s settings.Settings) (unlock func() error, err error) {
	if !s.OnDisk() {
		return func() error { return nil }, nil
	}
	if err := makeDir(s); err != nil {
		return nil, err
	}
	lock := flock.New(LockPath(s))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, explainDir(s, fmt.Errorf("lock the data directory %s: %w", s.DataDir, err))
	}
	if !locked {
		return nil, fmt.Errorf("data directory %s: %w; stop that server, or give this one another DATA_DIR", s.DataDir, ErrInUse)
	}
	return lock.Unlock, nil
}
