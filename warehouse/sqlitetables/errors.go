package sqlitetables

import (
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// insertError returns the error of inserting the item at index i in the words of
// [warehouse.Ingester]. What is not about the row or the table, as a full disk
// or a lock, is passing and stays as it is.
func insertError(table string, i int, err error) error {
	switch sqlitefile.Code(err) {
	case sqlite3.SQLITE_TOOBIG:
		return &warehouse.RefusedError{Rows: map[int]error{i: err}, Certain: true, Err: err}
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR:
		// The tables of the schema have no constraint that a row could break, and
		// their statements are right: someone has altered or dropped the table.
		return &warehouse.TableError{Table: table, Err: err}
	}
	return err
}
