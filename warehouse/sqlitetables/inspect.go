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
	Missing []string // tables and views that Open makes
	Faults  []Fault  // for which Open refuses the file
	Stale   []Fault  // views of another version, which Open leaves as they are
}

// Inspect looks at the tables and views in the file, and makes and changes nothing.
// Where there is no file the error wraps [fs.ErrNotExist]; a file of a later version
// is a [*sqlitefile.VersionError].
func Inspect(ctx context.Context, c Config) (Inspection, error) {
	var found Inspection
	if err := c.Names.Check(); err != nil {
		return found, err
	}
	schema := sqlitefile.Schema{Version: schemaVersion}
	err := sqlitefile.Inspect(ctx, c.Path, schema, func(ctx context.Context, tx *sql.Tx) error {
		for _, t := range warehouse.Tables(c.Names) {
			if err := found.addTable(ctx, tx, t); err != nil {
				return err
			}
		}
		for _, v := range views(c.Names) {
			if err := found.addView(ctx, tx, v.name, v.create); err != nil {
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
		i.Faults = append(i.Faults, compare(t, columns)...)
	default:
		i.Faults = append(i.Faults, wrongKind(t.Name, kind, "table"))
	}
	return nil
}

func (i *Inspection) addView(ctx context.Context, tx *sql.Tx, name, create string) error {
	kind, err := kindOf(ctx, tx, name)
	if err != nil {
		return err
	}
	switch kind {
	case "":
		i.Missing = append(i.Missing, name)
	case "view":
		var text string
		if err := tx.QueryRowContext(ctx, "SELECT sql FROM sqlite_schema WHERE name = ? COLLATE NOCASE", name).Scan(&text); err != nil {
			return fmt.Errorf("read the definition of %s: %w", name, err)
		}
		if text != strings.Replace(create, "IF NOT EXISTS ", "", 1) { // which SQLite does not keep
			i.Stale = append(i.Stale, Fault{Table: name, What: "its query is not the one of this version of tidemark", Mend: "DROP VIEW " + name})
		}
	default:
		i.Faults = append(i.Faults, wrongKind(name, kind, "view"))
	}
	return nil
}

func wrongKind(name, kind, want string) Fault {
	f := Fault{Table: name, What: fmt.Sprintf("it is a %s, want a %s", kind, want), Mend: "DROP " + strings.ToUpper(kind) + " " + name}
	if kind == "table" { // which may hold rows
		f.Mend = moveAway(name)
	}
	return f
}
