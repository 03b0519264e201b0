package sqlitetables

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// A column is a column as the file has it.
type column struct {
	name, typ           string
	notNull, hasDefault bool
}

// columns returns the columns of a table. The names are in lower case, since SQLite
// ignores the case of names.
func columns(ctx context.Context, tx *sql.Tx, table string) ([]column, error) {
	rows, err := tx.QueryContext(ctx, `SELECT lower(name), type, "notnull", dflt_value IS NOT NULL FROM pragma_table_info(?) ORDER BY cid`, table)
	if err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", table, err)
	}
	defer rows.Close()
	var found []column
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.name, &c.typ, &c.notNull, &c.hasDefault); err != nil {
			return nil, fmt.Errorf("read the columns of %s: %w", table, err)
		}
		found = append(found, c)
	}
	return found, rows.Err()
}

// A Fault is a difference that keeps a table or view from being used.
type Fault struct {
	Table string
	What  string
	Fix   string // the SQL statement that repairs the table or view
}

// compare returns every difference between the columns found and those of the table.
// It also returns the statements that add the columns of new fields of the event. An
// additional column is no difference if a row may leave it out.
func compare(want warehouse.Table, found []column) (faults []Fault, add []string) {
	byName := map[string]column{}
	for _, f := range found {
		byName[f.name] = f
	}
	replace := moveAway(want.Name) // SQLite cannot change the type of a column
	fault := func(fix, format string, args ...any) {
		faults = append(faults, Fault{Table: want.Name, What: fmt.Sprintf(format, args...), Fix: fix})
	}
	for _, w := range want.Columns {
		f, ok := byName[strings.ToLower(w.Name)]
		alter := "ALTER TABLE " + quote(want.Name) + " ADD COLUMN " + quote(w.Name) + " " + sqliteType(w.Type)
		switch typ := sqliteType(w.Type); {
		case !ok && w.OfEvent && w.Nullable:
			add = append(add, alter)
		case !ok:
			fault(alter, "column %s is missing, want type %s", w.Name, typ)
		case !strings.EqualFold(f.typ, typ):
			fault(replace, "column %s has type %s, want %s%s", w.Name, f.typ, typ, keepRows(w))
		case f.notNull && w.Nullable:
			fault(replace, "column %s is NOT NULL, want it nullable", w.Name)
		}
	}
	for _, f := range found {
		ours := slices.ContainsFunc(want.Columns, func(w warehouse.Column) bool { return strings.EqualFold(w.Name, f.name) })
		if !ours && f.notNull && !f.hasDefault {
			fault(replace, "column %s is not in the schema, and no row can leave it out: it is NOT NULL without a default", f.name)
		}
	}
	// If the table is replaced, no other repair is needed.
	if slices.ContainsFunc(faults, func(f Fault) bool { return f.Fix == replace }) {
		for i := range faults {
			faults[i].Fix = replace
		}
	}
	return faults, add
}

// keepRows says how the rows are kept if a field of the event has got another type.
func keepRows(c warehouse.Column) string {
	if !c.OfEvent {
		return ""
	}
	return " (the type of a field cannot change: give the field a new name, or move all rows away)"
}

// moveAway returns the statements that rename the table and drop its index, so that
// the next Open creates both under their names. The views refer to the name, and then
// read the new table.
func moveAway(table string) string {
	return "PRAGMA legacy_alter_table = ON; ALTER TABLE " + quote(table) + " RENAME TO " + quote(table+"_old") + "; DROP INDEX IF EXISTS " + quote(indexOf(table))
}
