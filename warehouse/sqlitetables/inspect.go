package sqlitetables

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/tidemark-dev/tidemark/internal/sqlitefile"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// An Inspection is what [Inspect] found in a file.
type Inspection struct {
	Missing []string // tables and views that Open creates
	Faults  []Fault  // Open refuses the file because of these
	Stale   []Fault  // views of a later version; Open does not change them
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
	err := sqlitefile.Inspect(ctx, c.Path, schema, func(ctx context.Context, tx *sql.Tx) error {
		for _, t := range warehouse.Tables(c.Layout) {
			if err := found.addTable(ctx, tx, t); err != nil {
				return err
			}
		}
		for _, v := range views(c.Layout) {
			if err := found.addView(ctx, tx, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect warehouse %s: %w", c.Path, err)
	}
	return found, nil
}

func (i *Inspection) addTable(ctx context.Context, tx *sql.Tx, t warehouse.Table) error {
	kind, err := kindOf(ctx, tx, t.Name)
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
		faults, _ := compare(t, columns) // Open adds columns that are missing
		i.Faults = append(i.Faults, faults...)
	default:
		i.Faults = append(i.Faults, wrongKind(t.Name, kind, "table"))
	}
	return nil
}

func (i *Inspection) addView(ctx context.Context, tx *sql.Tx, v view) error {
	kind, err := kindOf(ctx, tx, v.name)
	if err != nil {
		return err
	}
	switch kind {
	case "":
		i.Missing = append(i.Missing, v.name)
	case "view":
		found, err := definitionOf(ctx, tx, v.name)
		if err != nil {
			return err
		}
		switch {
		case !v.differs(found):
		case foundRevision(found) > viewRevision:
			i.Stale = append(i.Stale, Fault{Table: v.name, What: "a later version of tidemark created it", Fix: "DROP VIEW " + quote(v.name)})
		default:
			i.Missing = append(i.Missing, v.name) // the next start creates it again
		}
	default:
		i.Faults = append(i.Faults, wrongKind(v.name, kind, "view"))
	}
	return nil
}

func wrongKind(name, kind, want string) Fault {
	f := Fault{Table: name, What: fmt.Sprintf("it is a %s, want a %s", kind, want), Fix: "DROP " + strings.ToUpper(kind) + " " + quote(name)}
	if kind == "table" { // the table may hold rows
		f.Fix = moveAway(name)
	}
	return f
}
