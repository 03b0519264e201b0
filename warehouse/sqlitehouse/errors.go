package sqlitehouse

import (
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// classify returns the error of inserting the item at index i in the words of
// [warehouse.Ingester]. What is not about the row or the table, as a full disk
// or a lock, is passing and stays as it is.
func classify(table string, i int, err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff { // the rest is detail
	case sqlite3.SQLITE_TOOBIG:
		return &warehouse.RefusedError{Rows: map[int]error{i: err}, Err: err}
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR:
		// The tables of the schema have no constraint that a row could break, and
		// their statements are right: someone has altered or dropped the table.
		return &warehouse.TableError{Table: table, Err: err}
	}
	return err
}

// isBusy reports whether another connection's lock was in the way.
func isBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}
