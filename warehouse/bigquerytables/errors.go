package bigquerytables

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

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

// explain returns the error of a request in the words of [warehouse.Ingester]. A
// refusal is the table's fault if the table is not what the schema says, whatever
// the refusal names, so the table is looked at.
func (b *Tables) explain(ctx context.Context, table warehouse.Table, r request, err error) error {
	var refused *refusal
	if !errors.As(err, &refused) {
		return err
	}
	if checkErr := b.checkTable(ctx, table); checkErr != nil {
		if _, isTable := errors.AsType[*warehouse.TableError](checkErr); isTable {
			return fmt.Errorf("%w (the append was refused: %w)", checkErr, refused)
		}
		// Not knowing whose fault it is, nobody may give up the rows.
		return fmt.Errorf("append refused: %v; whether the table is at fault is not known: %w", refused, checkErr)
	}
	if refused.unseen {
		return fmt.Errorf("table %s has a column that appends do not see yet: %w", b.tableID(table.Name), refused)
	}
	rows := map[int]error{}
	for i, err := range refused.rows {
		rows[r.first+i] = err
	}
	if refused.tooLarge {
		rows[r.first] = refused.err
	}
	return &warehouse.RefusedError{Rows: rows, Certain: refused.tooLarge, Err: refused.err}
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

func isTaken(err error) bool {
	api, ok := errors.AsType[*googleapi.Error](err)
	return ok && api.Code == http.StatusConflict
}

// mayNotExist reports whether a denial is of the kind that BigQuery also gives for
// what does not exist, so as not to tell.
func mayNotExist(message string) bool {
	return strings.Contains(message, "or it may not exist")
}
