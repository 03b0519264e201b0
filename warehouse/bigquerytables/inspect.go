package bigquerytables

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cloud.google.com/go/bigquery"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// A Fault is something that differs from what is required.
type Fault struct {
	What string
	Fix  []string // what an operator does about it, in order: mostly statements of GoogleSQL
}

// A Kind is a kind of [Object].
type Kind string

// The kinds.
const (
	Dataset   Kind = "dataset"
	BaseTable Kind = "table"
	View      Kind = "view"
)

// An Object is what [Warehouse.Inspect] found of the dataset, or of a table or view in
// the dataset.
type Object struct {
	Kind    Kind
	Name    string // without project and dataset
	ID      string // with them
	Missing bool
	Err     error // the object could not be read, and nothing else is known

	// Faults keep rows from being stored or read. Differences only mean that the
	// object is not what this program would create: it is more expensive, or an older
	// version's.
	Faults, Differences []Fault
}

// Inspect reads the definitions of the dataset, its tables and its views, and changes
// nothing. The dataset is the first object, and the only one if it is missing.
func (b *Warehouse) Inspect(ctx context.Context) []Object {
	dataset := b.inspectDataset(ctx)
	if dataset.Missing {
		return []Object{dataset}
	}
	tables, views := warehouse.Tables(b.cfg.Layout), b.views()
	objects := make([]Object, 1+len(tables)+len(views))
	objects[0] = dataset
	var wg sync.WaitGroup
	for i, t := range tables {
		wg.Go(func() { objects[1+i] = b.inspectTable(ctx, t) })
	}
	for i, v := range views {
		wg.Go(func() { objects[1+len(tables)+i] = b.inspectView(ctx, v) })
	}
	wg.Wait()
	return objects
}

func (b *Warehouse) inspectDataset(ctx context.Context) Object {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.AppendTimeout)
	defer cancel()
	o := Object{Kind: Dataset, Name: b.cfg.Dataset, ID: b.id(b.cfg.Dataset)}
	found, err := b.client.Dataset(b.cfg.Dataset).Metadata(ctx)
	switch {
	case isNotFound(err):
		o.Missing = true
	case err != nil:
		o.Err = err
	default:
		o.Faults = b.datasetFaults(found)
	}
	return o
}

// look returns the metadata of a table or view, or nil if there is none.
func (b *Warehouse) look(ctx context.Context, o *Object) *bigquery.TableMetadata {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.AppendTimeout)
	defer cancel()
	found, err := b.table(o.Name).Metadata(ctx, bigquery.WithMetadataView(bigquery.BasicMetadataView))
	switch {
	case isNotFound(err):
		o.Missing = true
	case err != nil:
		o.Err = err
	}
	return found
}

func (b *Warehouse) inspectTable(ctx context.Context, t warehouse.Table) Object {
	o := Object{Kind: BaseTable, Name: t.Name, ID: b.tableID(t.Name)}
	found := b.look(ctx, &o)
	switch {
	case found == nil:
	case found.Type != "" && found.Type != bigquery.RegularTable:
		o.Faults = []Fault{{
			What: fmt.Sprintf("it is a %s, want a table", found.Type),
			Fix:  []string{"choose another DATASET, or another name for this table"},
		}}
	default:
		o.Faults = b.faults(t, found.Schema)
		if found.RequirePartitionFilter {
			o.Faults = append(o.Faults, Fault{
				What: "it requires a filter on its partitions, which audits and flushes of old windows do not have",
				Fix:  []string{"ALTER TABLE `" + o.ID + "` SET OPTIONS (require_partition_filter = FALSE);"},
			})
		}
		o.Differences = b.differences(t, found)
	}
	return o
}

// differences returns how a table differs, other than in its columns, from the table
// that createTable creates.
func (b *Warehouse) differences(t warehouse.Table, found *bigquery.TableMetadata) []Fault {
	var all []Fault
	id := b.tableID(t.Name)
	clustering := ""
	if t.ClusterBy != "" {
		clustering = "\nCLUSTER BY " + t.ClusterBy
	}
	if p := found.TimePartitioning; t.PartitionBy != "" && (p == nil || p.Type != bigquery.DayPartitioningType || !strings.EqualFold(p.Field, t.PartitionBy)) {
		all = append(all, Fault{
			What: "it is not partitioned by day of " + t.PartitionBy + ", so that queries read all of it",
			// No statement can partition an existing table.
			Fix: []string{
				"-- while nothing is pushed: Pub/Sub keeps what is published",
				"CREATE TABLE `" + id + "_new`\nPARTITION BY TIMESTAMP_TRUNC(" + t.PartitionBy + ", DAY)" + clustering + "\nAS SELECT * FROM `" + id + "`;",
				"ALTER TABLE `" + id + "` RENAME TO " + t.Name + "_old;",
				"ALTER TABLE `" + id + "_new` RENAME TO " + t.Name + ";",
			},
		})
	}
	if c := found.Clustering; t.ClusterBy != "" && (c == nil || len(c.Fields) == 0 || !strings.EqualFold(c.Fields[0], t.ClusterBy)) {
		all = append(all, Fault{
			What: "it is not clustered by " + t.ClusterBy + ", so that queries read more of it",
			Fix:  []string{"bq update --clustering_fields=" + t.ClusterBy + " " + b.cfg.Project + ":" + b.cfg.Dataset + "." + t.Name},
		})
	}
	return all
}

func (b *Warehouse) inspectView(ctx context.Context, v view) Object {
	o := Object{Kind: View, Name: v.name, ID: b.tableID(v.name)}
	found := b.look(ctx, &o)
	switch {
	case found == nil:
	case b.viewFaults(v, found) != nil:
		o.Faults = b.viewFaults(v, found)
	case found.ViewQuery == "": // as with bqemulator 1.4.0
		o.Differences = []Fault{{What: "its query is not told, so it is not compared with this version's"}}
	case v.differs(found):
		o.Differences = []Fault{{
			What: "its query is not the one of this version of tidemark",
			Fix:  []string{b.viewStatement("CREATE OR REPLACE VIEW", v)},
		}}
	}
	return o
}

func (b *Warehouse) viewStatement(create string, v view) string {
	return create + " `" + b.tableID(v.name) + "`\nOPTIONS (description = " + strconv.Quote(v.description) + ")\nAS " + v.query + ";"
}

// TablePermissions returns the permissions that the service needs on each table: to
// read its definition, to read its rows and to append rows.
func TablePermissions() []string {
	return []string{"bigquery.tables.get", "bigquery.tables.getData", "bigquery.tables.updateData"}
}

// Lacking returns the permissions on the table that the service needs and that the
// caller does not have. If the table does not exist, Lacking returns all of them.
func (b *Warehouse) Lacking(ctx context.Context, table string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.AppendTimeout)
	defer cancel()
	has, err := b.table(table).IAM().TestPermissions(ctx, TablePermissions())
	if err != nil {
		return nil, err
	}
	var lacking []string
	for _, p := range TablePermissions() {
		if !slices.Contains(has, p) {
			lacking = append(lacking, p)
		}
	}
	return lacking, nil
}

// OpenStream opens the stream by which rows are appended to an existing table, and
// appends nothing. The method [InsertAll] has no stream; for it OpenStream returns
// nil.
func (b *Warehouse) OpenStream(ctx context.Context, table string) error {
	w, ok := b.sender.(*writer)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.AppendTimeout)
	defer cancel()
	_, err := w.stream(ctx, table)
	return err
}
