// Package bigquerytables keeps the warehouse's tables in BigQuery. It appends rows by
// the Storage Write API or by streaming inserts, and reads rows by queries.
//
// The dataset, the tables and the views are created when needed: the first call that
// finds no table creates all of them. Rows are appended at least once. If a call
// failed and is repeated, its rows may be in the table twice. So every reader
// distinguishes rows by ids and takes the greatest count. This package uses no DML.
//
// # After a table was changed
//
// Package warehouse explains how an implementation distinguishes a row's own refusal
// from a fault of the table: it compares the table with the schema. Here the
// comparison uses the call of the API that sees each change at once. Appends see a
// change some minutes later. In the meantime the table fits, but BigQuery refuses
// rows by the table's earlier columns. These refusals are passing, and do not count
// against the row:
//
//   - a refusal because the table does not have a column, if the table has the column;
//   - if this process has seen the table at fault, every refusal until the table has
//     fitted for ten minutes;
//   - until this process has seen the table fit for ten minutes, every refusal that
//     names no row, such as a refusal of a whole request for its schema.
//
// A process that starts within these minutes has not seen the fault. If the change
// removed the length of a column, such a process may turn long values into dead
// letters. These dead letters are complete, and tidemark replay --from-table
// dead_letter brings them back. (The time of the table's last change does not help:
// BigQuery also updates it when data changes.)
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
)

// A Method is a way to append rows.
type Method string

// The methods.
const (
	// StorageWrite appends to the default stream of the Storage Write API.
	StorageWrite Method = "storage_write"
	// InsertAll appends by streaming inserts, tabledata.insertAll.
	InsertAll Method = "insert_all"
)

// A Config says where the tables are and how to reach them. Every field is required
// unless its comment says what its zero value means.
type Config struct {
	Project  string // id of the Google Cloud project
	Dataset  string
	Location string // of the dataset
	Layout   warehouse.Layout
	Method   Method

	// AppendTimeout and QueryTimeout bound calls whose context ends later or never,
	// because BigQuery's clients retry until the context ends. The timeout of a query
	// does not include the time in which the caller reads the rows.
	AppendTimeout, QueryTimeout time.Duration

	// MaxAhead is how far the start of a row's window can be after the row's
	// processing_timestamp: how far an event may be ahead of its publish time, plus
	// the largest difference between clocks. With MaxAhead, CountRaw and Audit leave
	// out the partitions that are too old to hold rows of their windows. Zero means
	// that nothing is known; then they read the windows' clusters in every partition.
	// MaxAhead is right only if publish times are the server's own.
	MaxAhead time.Duration

	// Scanned, unless nil, is called with the number of bytes that each query read. It
	// may be called concurrently.
	Scanned func(query string, bytes int64)

	Now func() time.Time // clock

	// RESTHost and GRPCHost are the host:port of an emulator, which is called in plain
	// text and without credentials. If they are empty, the service is called.
	RESTHost, GRPCHost string
}

// A Warehouse is a [warehouse.Warehouse] in the tables of one dataset.
type Warehouse struct {
	Appender
	cfg    Config
	client *bigquery.Client
	sender sender

	creating singleflight.Group
	created  atomic.Int64 // how many times the tables were created

	viewsSeen atomic.Bool // whether the views are known to exist
	looks     looks       // what was seen of the tables
}

var _ warehouse.Warehouse = (*Warehouse)(nil)

// A sender sends rows by one of the methods. Each of its requests is applied whole or
// not at all.
type sender interface {
	// requests divides rows of the table into requests.
	requests(t warehouse.Table, rows []warehouse.Row) ([]request, error)
	// send sends one request. Its error wraps errMissing, is an error of
	// [warehouse.Ingester], or is a *refusal that explain has yet to interpret.
	send(ctx context.Context, t warehouse.Table, r request) error
	close() error
}

// New returns the warehouse in a dataset. It calls no service. It uses ctx only to
// create the clients.
func New(ctx context.Context, cfg Config) (*Warehouse, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	client, err := bigquery.NewClient(ctx, cfg.Project, cfg.restOptions()...)
	if err != nil {
		return nil, fmt.Errorf("create a BigQuery client for project %s: %w", cfg.Project, err)
	}
	client.Location = cfg.Location
	b := &Warehouse{cfg: cfg, client: client}
	b.Appender = NewAppender(cfg.Layout, b.append)
	if cfg.Method == InsertAll {
		b.sender = &inserter{dataset: client.Dataset(cfg.Dataset), layout: cfg.Layout}
		return b, nil
	}
	if b.sender, err = newWriter(cfg); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return b, nil
}

func (c Config) check() error {
	errs := []error{warehouse.CheckProject(c.Project), c.Layout.Check(), warehouse.CheckName(c.Dataset)}
	if c.Method != StorageWrite && c.Method != InsertAll {
		errs = append(errs, fmt.Errorf("method %q is neither %s nor %s", c.Method, StorageWrite, InsertAll))
	}
	return errors.Join(errs...)
}

func (c Config) restOptions() []option.ClientOption {
	if c.RESTHost == "" {
		return nil
	}
	return []option.ClientOption{option.WithEndpoint("http://" + c.RESTHost + "/bigquery/v2/"), option.WithoutAuthentication()}
}

// Close releases the connections. No other method may be called during or after
// Close.
func (b *Warehouse) Close() error {
	return errors.Join(b.sender.close(), b.client.Close())
}

// append is the [AppendFunc] of the warehouse. Rows that do not fit one request are
// appended in several requests, in order. If a request fails, the rows of the
// requests before it are stored, even if the error is a [*warehouse.RefusedError].
func (b *Warehouse) append(ctx context.Context, table warehouse.Table, rows []warehouse.Row) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.AppendTimeout)
	defer cancel()
	requests, err := b.sender.requests(table, rows)
	if err != nil {
		return err
	}
	for _, r := range requests {
		err := b.withTables(ctx, func() error {
			if err := b.haveViews(ctx, table); err != nil {
				return err
			}
			return b.sender.send(ctx, table, r)
		})
		if err != nil {
			return b.explain(ctx, table, r, err)
		}
	}
	return nil
}

// How long to wait before repeating a call that found no table. Until a new table is
// visible everywhere, some time may pass.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 3 * time.Second
)

// withTables makes the call. If there is no table, withTables creates the tables and
// then repeats the call until the tables are visible or ctx ends.
func (b *Warehouse) withTables(ctx context.Context, call func() error) error {
	created := b.created.Load()
	err := call()
	if !errors.Is(err, errMissing) {
		return err
	}
	if err := b.createOnce(ctx, created); err != nil {
		return err
	}
	for pause := time.Duration(0); errors.Is(err, errMissing); pause = min(max(2*pause, firstPause), maxPause) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the table was created but is not visible yet: %w", ctx.Err(), err)
		case <-time.After(pause):
		}
		err = call()
	}
	return err
}

// Create creates the dataset, tables and views that do not exist. Without Create, the
// first call that needs them does so. If a table that exists does not fit the schema,
// the error is a [*warehouse.TableError].
func (b *Warehouse) Create(ctx context.Context) error {
	return b.createOnce(ctx, b.created.Load())
}

// createOnce creates the tables, unless another caller did so after created was read. If
// several callers call createOnce at the same time, one call serves them all. Since the
// other callers wait for it, it does not use the context of one caller.
func (b *Warehouse) createOnce(ctx context.Context, created int64) error {
	done := b.creating.DoChan("", func() (any, error) {
		if b.created.Load() != created {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.AppendTimeout)
		defer cancel()
		err := b.createAll(ctx)
		if err == nil {
			b.created.Add(1)
		}
		return nil, err
	})
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w while the tables of dataset %s were created", ctx.Err(), b.cfg.Dataset)
	case result := <-done:
		return result.Err
	}
}
