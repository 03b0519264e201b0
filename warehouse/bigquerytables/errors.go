package bigquerytables

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// errMissing is wrapped by errors that say there is no such table or dataset.
var errMissing = errors.New("no such table")

// A refusal is an append that was refused permanently and stored nothing. It does not
// say whether the rows or the table are at fault.
type refusal struct {
	rows map[int]error // by index in the request; empty if the refusal names no row
	err  error

	// tooLarge is whether the request was one row with more bytes than a request may
	// have. unseen is whether the refusal names a column that the table does not have.
	// If the table has this column, the column is new, and appends do not see it yet.
	tooLarge, unseen bool
}

func (r *refusal) Error() string {
	for _, err := range r.rows {
		return fmt.Sprintf("%v (%d rows refused, one of them: %v)", r.err, len(r.rows), err)
	}
	return r.err.Error()
}

func (r *refusal) Unwrap() error { return r.err }

// explain returns the error of a request as an error of [warehouse.Ingester]. After a
// refusal it compares the table with the schema.
func (b *Warehouse) explain(ctx context.Context, table warehouse.Table, r request, err error) error {
	refused, ok := errors.AsType[*refusal](err)
	if !ok {
		return err
	}
	if checkErr := b.checkTable(ctx, table); checkErr != nil {
		if _, isTable := errors.AsType[*warehouse.TableError](checkErr); isTable {
			return fmt.Errorf("%w (the append was refused: %w)", checkErr, refused)
		}
		// While the cause is not known, no row may become a dead letter.
		return fmt.Errorf("append refused: %v; whether the table is at fault is not known: %w", refused, checkErr)
	}
	seen := b.looks.of(table.Name)
	lasting := seen.fits && b.cfg.Now().Sub(seen.since) >= schemaLag
	if refused.unseen || seen.repaired && !lasting {
		return fmt.Errorf("table %s fits the schema, but for some minutes after a change of the table appends may still use its earlier columns: %w", b.tableID(table.Name), refused)
	}
	rows := map[int]error{}
	for i, err := range refused.rows {
		rows[r.first+i] = err
	}
	if len(rows) == 0 && len(r.rows) == 1 && (refused.tooLarge || lasting) {
		rows[r.first] = refused.err
	}
	return &warehouse.RefusedError{Rows: rows, Certain: refused.tooLarge, Err: refused.err}
}

// schemaLag is for how long appends may use the columns that a table had before a
// change: some minutes, according to
// https://github.com/googleapis/java-bigquerystorage/issues/1465 and the
// documentation of that client. [Warehouse.checkTable] sees each change at once:
// https://cloud.google.com/bigquery/docs/managing-table-schemas
const schemaLag = 10 * time.Minute

// looks remembers what this process saw of the columns of its tables.
type looks struct {
	mu     sync.Mutex
	tables map[string]look // by name
}

// A look is what this process saw of a table.
type look struct {
	fits     bool      // whether the table fitted at the last look
	since    time.Time // since when it has fitted at every look
	repaired bool      // whether any look found the table at fault
}

func (l *looks) of(table string) look {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tables[table]
}

// note records whether a table fits.
func (l *looks) note(table string, fits bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.tables[table]
	if fits && !seen.fits {
		seen.since = now
	}
	seen.fits, seen.repaired = fits, seen.repaired || !fits
	if l.tables == nil {
		l.tables = map[string]look{}
	}
	l.tables[table] = seen
}

// restError returns an error of the REST API. If the error says that there is no such
// table, the result wraps errMissing.
func restError(err error) error {
	if isNotFound(err) {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return err
}

func isNotFound(err error) bool {
	if api, ok := errors.AsType[*googleapi.Error](err); ok {
		return api.Code == http.StatusNotFound
	}
	// The error of a query job, which has no HTTP status of its own.
	query, ok := errors.AsType[*bigquery.Error](err)
	return ok && query.Reason == "notFound"
}

func isTaken(err error) bool { return hasCode(err, http.StatusConflict) }

// hasCode reports whether err is an answer of the REST API with one of the codes.
func hasCode(err error, codes ...int) bool {
	api, ok := errors.AsType[*googleapi.Error](err)
	return ok && slices.Contains(codes, api.Code)
}

// mayNotExist reports whether a denial may mean that the table does not exist.
// BigQuery gives such a denial for both cases, so as not to reveal which one it is.
func mayNotExist(message string) bool {
	return strings.Contains(message, "or it may not exist")
}
