// Package bigquerytables keeps the warehouse's tables in BigQuery: it appends rows
// by the Storage Write API or by streaming inserts, and reads them by queries.
//
// Dataset, tables and views are made when needed: the first call that meets none
// makes all of them. Rows are appended at least once, so a call that failed and is
// repeated may have stored its rows twice; every reader goes by ids and by the
// greatest count. Nothing here is DML.
//
// # After a table was changed
//
// Package warehouse says how a refusal that is a row's own is told from a fault of the
// table: the table is looked at, by the call of the API that sees each change at once.
// Appends see a change some minutes later. Meanwhile the table is as it must be, and
// rows are refused by its columns of before. These refusals pass, and are no row's own:
//
//   - refusals for a column that the table does not have, when it has the column;
//   - for ten minutes, all refusals by a table that this process has seen at fault;
//   - until this process has seen the table fit for ten minutes, refusals that name no
//     row, as those of a whole request for its schema.
//
// A process that starts within these minutes has not seen the fault. If a length was
// removed from a column then, the process may make dead letters of long values. They
// are whole, and tidemark replay --from-table dead_letter brings them back. (The time
// of a table's last change would tell, but that is the last time of its data, too.)
package bigquerytables

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"cloud.google.com/go/bigquery"
	"golang.org/x/sync/singleflight"
	"google.golang.org/api/option"

	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/streamhouse"
)

// A Method is a way to append rows.
type Method string

// The methods.
const (
	// StorageWrite appends to the default stream of the Storage Write API.
	StorageWrite Method = "storage_write"
	// InsertAll makes streaming inserts, tabledata.insertAll.
	InsertAll Method = "insert_all"
)

// Defaults of [Config].
const (
	DefaultLocation      = "US"
	DefaultAppendTimeout = 30 * time.Second
	DefaultQueryTimeout  = 5 * time.Minute
)

// A Config says where the tables are and how they are reached.
type Config struct {
	Project  string // id of the Google Cloud project
	Dataset  string
	Location string // of the dataset; DefaultLocation if empty
	Layout   warehouse.Layout
	Method   Method // StorageWrite if empty

	// AppendTimeout and QueryTimeout bound calls whose context ends later or
	// never: BigQuery's clients retry for as long as they may. Zero means the
	// default. A query's timeout does not include the time the caller takes to
	// read its rows.
	AppendTimeout, QueryTimeout time.Duration

	// MaxAhead is how far the start of a row's window can lie after its
	// processing_timestamp: how far ahead of its publish time an event may be,
	// plus the most that clocks disagree. With it CountRaw and Audit leave out the
	// partitions that are too old to hold their windows. Zero means that nothing
	// is known, and they read the windows' clusters of every partition. It holds
	// only where publish times are the server's own.
	MaxAhead time.Duration

	// Scanned is told what each query read, unless it is nil. It may be called
	// concurrently.
	Scanned func(query string, bytes int64)

	Now func() time.Time // clock; time.Now if nil

	// RESTHost and GRPCHost are the host:port of an emulator, reached in plain
	// text and without credentials. Empty for the service.
	RESTHost, GRPCHost string

	Options []option.ClientOption // of the clients of both APIs
}

// Tables is the tables of one dataset. All methods may be called concurrently, and
// all stay on their context.
type Tables struct {
	cfg      Config
	client   *bigquery.Client
	appender appender

	making singleflight.Group
	made   atomic.Int64 // how often the tables were made

	viewsSeen atomic.Bool // whether the views are known to be there
	looks     looks       // at tables
}

var (
	_ streamhouse.Streams = (*Tables)(nil)
	_ streamhouse.Queries = (*Tables)(nil)
)

// An appender appends rows by one of the methods. A request that it makes is
// applied whole or not at all.
type appender interface {
	// requests cuts rows of the table into what one request carries.
	requests(t warehouse.Table, rows []warehouse.Row) ([]request, error)
	// send makes one request. It fails with an error that is errMissing, one
	// of [warehouse.Ingester], or a *refusal that is yet to be explained.
	send(ctx context.Context, t warehouse.Table, r request) error
	close() error
}

// New returns the tables of a dataset. It calls no service; ctx is only for making
// the clients.
func New(ctx context.Context, cfg Config) (*Tables, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	client, err := bigquery.NewClient(ctx, cfg.Project, cfg.restOptions()...)
	if err != nil {
		return nil, fmt.Errorf("make a BigQuery client for project %s: %w", cfg.Project, err)
	}
	client.Location = cfg.Location
	b := &Tables{cfg: cfg, client: client}
	if cfg.Method == InsertAll {
		b.appender = &inserter{dataset: client.Dataset(cfg.Dataset), layout: cfg.Layout}
		return b, nil
	}
	if b.appender, err = newWriter(cfg); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return b, nil
}

func (c Config) check() error {
	errs := []error{warehouse.CheckProject(c.Project), c.Layout.Check(), warehouse.CheckName(c.Dataset)}
	if c.Method != "" && c.Method != StorageWrite && c.Method != InsertAll {
		errs = append(errs, fmt.Errorf("method %q is neither %s nor %s", c.Method, StorageWrite, InsertAll))
	}
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	if c.Location == "" {
		c.Location = DefaultLocation
	}
	if c.Method == "" {
		c.Method = StorageWrite
	}
	if c.AppendTimeout == 0 {
		c.AppendTimeout = DefaultAppendTimeout
	}
	if c.QueryTimeout == 0 {
		c.QueryTimeout = DefaultQueryTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

func (c Config) restOptions() []option.ClientOption {
	if c.RESTHost == "" {
		return c.Options
	}
	return append([]option.ClientOption{
		option.WithEndpoint("http://" + c.RESTHost + "/bigquery/v2/"),
		option.WithoutAuthentication(),
	}, c.Options...)
}

// Close releases the connections. Nothing else may be called during or after it.
func (b *Tables) Close() error {
	return errors.Join(b.appender.close(), b.client.Close())
}

// Append implements [streamhouse.Streams]. Rows that do not fit one request are
// appended in several, in order; where a later one fails, the rows of those before
// it are stored, also if the error is a [*warehouse.RefusedError].
func (b *Tables) Append(ctx context.Context, table warehouse.Table, rows []warehouse.Row) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.AppendTimeout)
	defer cancel()
	requests, err := b.appender.requests(table, rows)
	if err != nil {
		return err
	}
	for _, r := range requests {
		err := b.withTables(ctx, func() error {
			if err := b.haveViews(ctx, table); err != nil {
				return err
			}
			return b.appender.send(ctx, table, r)
		})
		if err != nil {
			return b.explain(ctx, table, r, err)
		}
	}
	return nil
}

// How long to wait before a call that met no table is repeated: a new table may
// take a while to be seen everywhere.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 3 * time.Second
)

// withTables makes the call, and if there is no table, makes the tables and then
// repeats the call until they are seen or ctx ends.
func (b *Tables) withTables(ctx context.Context, call func() error) error {
	made := b.made.Load()
	err := call()
	if !errors.Is(err, errMissing) {
		return err
	}
	if err := b.makeOnce(ctx, made); err != nil {
		return err
	}
	for pause := time.Duration(0); errors.Is(err, errMissing); pause = min(max(2*pause, firstPause), maxPause) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the table was made but is not seen yet: %w", ctx.Err(), err)
		case <-time.After(pause):
		}
		err = call()
	}
	return err
}

// Make makes what there is not yet of dataset, tables and views, which otherwise the
// first call that needs them does. The error is a [*warehouse.TableError] if a table
// that there is is not as the schema says.
func (b *Tables) Make(ctx context.Context) error {
	return b.makeOnce(ctx, b.made.Load())
}

// makeOnce makes the tables, unless another caller has since made was the number of
// times. Of concurrent callers one does it, and not on its own context, since the
// others wait for it too.
func (b *Tables) makeOnce(ctx context.Context, made int64) error {
	done := b.making.DoChan("", func() (any, error) {
		if b.made.Load() != made {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.AppendTimeout)
		defer cancel()
		err := b.makeAll(ctx)
		if err == nil {
			b.made.Add(1)
		}
		return nil, err
	})
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w while the tables of dataset %s were made", ctx.Err(), b.cfg.Dataset)
	case result := <-done:
		return result.Err
	}
}
