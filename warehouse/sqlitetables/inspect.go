package sqlitetables

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// An Inspection is what [Inspect] found in a file.
type Inspection struct {
	Missing []string // tables and views that Open creates, or creates again
	Faults  []Fault  // Open refuses the file because of these
	Stale   []Fault  // views of a later version; Open does not change them

	// updates are the statements that Open runs before it creates what is missing: they
	// add the columns of new fields of the event, and drop views of an earlier version.
	updates []string
}

// Inspect reads the definitions of the tables and views in the file. It creates and
// changes nothing. If the file does not exist, the error wraps [fs.ErrNotExist]. If a
// later version of the program wrote the file, the error is a
// [*sqlitefile.VersionError].
func Inspect(ctx context.Context, c Config) (Inspection, error) {
	var found Inspection
	if err := c.Layout.Check(); err != nil {
		return found, err
	}
	schema := sqlitefile.Schema{Version: schemaVersion}
	err := sqlitefile.Inspect(ctx, c.Path, schema, func(ctx context.Context, tx *sql.Tx) (err error) {
		found, err = inspect(ctx, tx, c.Layout)
		return err
	})
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect warehouse %s: %w", c.Path, err)
	}
	return found, nil
}

func inspect(ctx context.Context, tx *sql.Tx, l warehouse.Layout) (Inspection, error) {
	var found Inspection
	for _, t := range warehouse.Tables(l) {
		if err := found.addTable(ctx, tx, t); err != nil {
			return found, err
		}
	}
	for _, v := range views(l) {
		if err := found.addView(ctx, tx, v); err != nil {
			return found, err
		}
	}
	return found, nil
}

func (i *Inspection) addTable(ctx context.Context, tx *sql.Tx, t warehouse.Table) error {
	kind, _, err := objectIn(ctx, tx, t.Name)
	if err != nil {
		return err
	}
	switch kind {
	case "":
		i.Missing = append(i.Missing, t.Name)
	case "table":
		columns, err := columns(ctx, tx, t.Name)
		if err != nil {
			return err
		}
		faults, add := compare(t, columns)
		i.Faults = append(i.Faults, faults...)
		i.updates = append(i.updates, add...)
	default:
		i.Faults = append(i.Faults, wrongKind(t.Name, kind, "table"))
	}
	return nil
}

func (i *Inspection) addView(ctx context.Context, tx *sql.Tx, v view) error {
	kind, definition, err := objectIn(ctx, tx, v.name)
	switch {
	case err != nil:
		return err
	case kind == "":
		i.Missing = append(i.Missing, v.name)
	case kind != "view":
		i.Faults = append(i.Faults, wrongKind(v.name, kind, "view"))
	case !v.differs(definition):
	case foundRevision(definition) > viewRevision:
		i.Stale = append(i.Stale, Fault{Table: v.name, What: "a later version of tidemark created it", Fix: "DROP VIEW " + quote(v.name)})
	default:
		i.Missing = append(i.Missing, v.name)
		i.updates = append(i.updates, "DROP VIEW "+quote(v.name))
	}
	return nil
}

// objectIn returns what the file has under the name: its kind, which is table, view,
// index, or an empty string for nothing, and the statement that created it.
func objectIn(ctx context.Context, tx *sql.Tx, name string) (kind, definition string, err error) {
	err = tx.QueryRowContext(ctx, "SELECT type, ifnull(sql, '') FROM sqlite_schema WHERE name = ? COLLATE NOCASE", name).Scan(&kind, &definition)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", "", fmt.Errorf("read the schema: %w", err)
	}
	return kind, definition, nil
}

func wrongKind(name, kind, want string) Fault {
	f := Fault{Table: name, What: fmt.Sprintf("it is a %s, want a %s", kind, want), Fix: "DROP " + strings.ToUpper(kind) + " " + quote(name)}
	if kind == "table" { // the table may hold rows
		f.Fix = moveAway(name)
	}
	return f
}

// refusal returns a [*warehouse.TableError] for each table or view with faults, or nil.
func (i *Inspection) refusal() error {
	byTable := map[string][]error{}
	for _, f := range i.Faults {
		byTable[f.Table] = append(byTable[f.Table], errors.New(f.What))
	}
	var errs []error
	for _, f := range i.Faults {
		if faults := byTable[f.Table]; faults != nil {
			errs = append(errs, &warehouse.TableError{Table: f.Table, Err: errors.Join(faults...)})
			delete(byTable, f.Table)
		}
	}
	return errors.Join(errs...)
}
