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

// A refusal is an append that was refused for good, and stored nothing. Whether
// its rows are at fault or the table is yet to be found out.
type refusal struct {
	rows map[int]error // by index in the request; empty if none was named
	err  error

	// tooLarge is whether the request was one row of more bytes than a request may
	// have. unseen is whether it named a column that the table does not have: if it has
	// it, the column is new, and not seen yet where rows are appended.
	tooLarge, unseen bool
}

func (r *refusal) Error() string {
	for _, err := range r.rows {
		return fmt.Sprintf("%v (%d rows refused, one of them: %v)", r.err, len(r.rows), err)
	}
	return r.err.Error()
}

func (r *refusal) Unwrap() error { return r.err }

// explain returns the error of a request in the words of [warehouse.Ingester]. After a
// refusal it looks at the table, unless the row is larger than any table takes.
func (b *Tables) explain(ctx context.Context, table warehouse.Table, r request, err error) error {
	refused, ok := errors.AsType[*refusal](err)
	if !ok {
		return err
	}
	if refused.tooLarge {
		return &warehouse.RefusedError{Rows: map[int]error{r.first: refused.err}, Certain: true, Err: refused.err}
	}
	if checkErr := b.checkTable(ctx, table); checkErr != nil {
		if _, isTable := errors.AsType[*warehouse.TableError](checkErr); isTable {
			return fmt.Errorf("%w (the append was refused: %w)", checkErr, refused)
		}
		// Not knowing whose fault it is, nobody may give up the rows.
		return fmt.Errorf("append refused: %v; whether the table is at fault is not known: %w", refused, checkErr)
	}
	seen := b.looks.of(table.Name)
	lasting := seen.fits && b.cfg.Now().Sub(seen.since) >= schemaLag
	if refused.unseen || seen.repaired && !lasting {
		return fmt.Errorf("table %s is as it must be, but appends may go by its columns of before, for some minutes after a change: %w", b.tableID(table.Name), refused)
	}
	rows := map[int]error{}
	for i, err := range refused.rows {
		rows[r.first+i] = err
	}
	if len(rows) == 0 && len(r.rows) == 1 && lasting {
		rows[r.first] = refused.err
	}
	return &warehouse.RefusedError{Rows: rows, Err: refused.err}
}

// schemaLag is for how long appends may go by the columns that a table had before a
// change: some minutes, by https://github.com/googleapis/java-bigquerystorage/issues/1465
// and the documentation of that client. What [Tables.checkTable] sees is never late:
// https://cloud.google.com/bigquery/docs/managing-table-schemas
const schemaLag = 10 * time.Minute

// looks remembers what this process has seen of the columns of its tables.
type looks struct {
	mu     sync.Mutex
	tables map[string]look // by name
}

// A look is what was seen of a table.
type look struct {
	fits     bool      // at the last look
	since    time.Time // the first look at which it did, with none between at which it did not
	repaired bool      // an earlier look found it at fault
}

func (l *looks) of(table string) look {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tables[table]
}

// note notes whether a table fits.
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

// restError returns an error of the REST API, wrapping errMissing where it says
// that there is no such table.
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

// mayNotExist reports whether a denial is of the kind that BigQuery also gives for
// what does not exist, so as not to tell.
func mayNotExist(message string) bool {
	return strings.Contains(message, "or it may not exist")
}
