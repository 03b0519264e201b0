package sqlitetables

import (
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// insertError returns the error of inserting the item at index i as an error of
// [warehouse.Ingester]. An error that is not about the row or the table, such as a
// full disk or a lock, is passing and stays unchanged.
func insertError(table string, i int, err error) error {
	switch sqlitefile.Code(err) {
	case sqlite3.SQLITE_TOOBIG:
		return &warehouse.RefusedError{Rows: map[int]error{i: err}, Certain: true, Err: err}
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR:
		// No row can break a constraint of the schema's tables, and the statements are
		// right. So somebody altered or dropped the table.
		return &warehouse.TableError{Table: table, Err: err}
	}
	return err
}
