package bigquerytables

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"cloud.google.com/go/bigquery"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// createAll creates the dataset, tables and views that do not exist, and checks the
// tables that exist.
func (b *Warehouse) createAll(ctx context.Context) error {
	if err := b.createDataset(ctx); err != nil {
		return err
	}
	for _, t := range warehouse.Tables(b.cfg.Layout) {
		if err := b.createTable(ctx, t); err != nil {
			return err
		}
	}
	return b.createViews(ctx)
}

func (b *Warehouse) createViews(ctx context.Context) error {
	for _, v := range b.views() {
		if err := b.createView(ctx, v); err != nil {
			return err
		}
	}
	b.viewsSeen.Store(true)
	return nil
}

// haveViews creates missing views. Views may be missing if a process ended while it
// created the tables, and no other append would notice. haveViews acts only on the
// first rows that a process appends to the log of the aggregate. So no push waits for
// it, and a published count can be read.
func (b *Warehouse) haveViews(ctx context.Context, table warehouse.Table) error {
	if table.Name != b.cfg.Layout.AggLog() || b.viewsSeen.Load() {
		return nil
	}
	return restError(b.createViews(ctx))
}

// createDataset creates the dataset if it does not exist. It first looks whether the
// dataset exists, since a service account may be allowed to look but not to create.
func (b *Warehouse) createDataset(ctx context.Context) error {
	err := b.checkDataset(ctx)
	if !isNotFound(err) {
		return err
	}
	err = b.client.Dataset(b.cfg.Dataset).Create(ctx, &bigquery.DatasetMetadata{Location: b.cfg.Location})
	if isTaken(err) { // by another process
		return b.checkDataset(ctx)
	}
	if err != nil {
		return fmt.Errorf("create dataset %s in %s: %w", b.id(b.cfg.Dataset), b.cfg.Location, err)
	}
	return nil
}

// checkDataset returns a [*warehouse.TableError] if the dataset is not in the
// location in which queries run. It returns another error if the dataset cannot be
// read.
func (b *Warehouse) checkDataset(ctx context.Context) error {
	found, err := b.client.Dataset(b.cfg.Dataset).Metadata(ctx)
	if err != nil {
		return fmt.Errorf("look at dataset %s: %w", b.id(b.cfg.Dataset), err)
	}
	return faultsError(b.id(b.cfg.Dataset), b.datasetFaults(found))
}

func (b *Warehouse) createTable(ctx context.Context, t warehouse.Table) error {
	err := b.checkTable(ctx, t)
	if !isNotFound(err) {
		return err
	}
	err = b.table(t.Name).Create(ctx, tableMetadata(t))
	if isTaken(err) { // by another process
		return b.checkTable(ctx, t)
	}
	if err != nil {
		return fmt.Errorf("create table %s: %w", b.tableID(t.Name), err)
	}
	return nil
}

// checkTable returns a [*warehouse.TableError] if the table does not fit the schema.
// It returns another error if the definition of the table cannot be read.
func (b *Warehouse) checkTable(ctx context.Context, t warehouse.Table) error {
	found, err := b.table(t.Name).Metadata(ctx, bigquery.WithMetadataView(bigquery.BasicMetadataView))
	if err != nil {
		return fmt.Errorf("look at table %s: %w", b.tableID(t.Name), err)
	}
	faults := b.faults(t, found.Schema)
	b.looks.note(t.Name, len(faults) == 0, b.cfg.Now())
	return faultsError(b.tableID(t.Name), faults)
}

// faultsError returns a [*warehouse.TableError] that names the faults of a dataset,
// table or view and how to repair each. If there are no faults, it returns nil.
func faultsError(id string, faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	texts := make([]string, len(faults))
	for i, f := range faults {
		texts[i] = f.What + ", fix with: " + strings.TrimSuffix(strings.Join(f.Fix, " "), ";")
	}
	return &warehouse.TableError{Table: id, Err: errors.New(strings.Join(texts, "; "))}
}

// datasetFaults returns what keeps queries from finding the dataset. Queries run in
// BIGQUERY_LOCATION and see no dataset in another location.
func (b *Warehouse) datasetFaults(found *bigquery.DatasetMetadata) []Fault {
	if strings.EqualFold(found.Location, b.cfg.Location) {
		return nil
	}
	return []Fault{{
		What: fmt.Sprintf("it is in %s, and BIGQUERY_LOCATION is %s", found.Location, b.cfg.Location),
		Fix:  []string{"BIGQUERY_LOCATION=" + found.Location},
	}}
}

// viewFaults returns a fault if something other than a view has the view's name.
// Users would read such a table, and nobody would write to it.
func (b *Warehouse) viewFaults(v view, found *bigquery.TableMetadata) []Fault {
	if found.Type == "" || found.Type == bigquery.ViewTable {
		return nil
	}
	return []Fault{{
		What: fmt.Sprintf("it is a %s, want a view", found.Type),
		Fix:  []string{"ALTER TABLE `" + b.tableID(v.name) + "` RENAME TO " + v.name + "_old;", b.viewStatement("CREATE VIEW", v)},
	}}
}

// faults returns what keeps rows of t out of a table with the schema found. A column
// that the owner added is no fault, unless the column must have a value.
func (b *Warehouse) faults(t warehouse.Table, found bigquery.Schema) []Fault {
	columns := map[string]*bigquery.FieldSchema{}
	for _, field := range found {
		columns[strings.ToLower(field.Name)] = field // BigQuery ignores the case of names
	}
	alter := "ALTER TABLE `" + b.tableID(t.Name) + "` "
	var faults []Fault
	fault := func(fix []string, format string, args ...any) {
		faults = append(faults, Fault{What: fmt.Sprintf(format, args...), Fix: fix})
	}
	for _, c := range t.Columns {
		field := columns[strings.ToLower(c.Name)]
		delete(columns, strings.ToLower(c.Name))
		add := alter + "ADD COLUMN " + quote(c.Name) + " " + ddlType(c.Type) + ";"
		switch {
		case field == nil:
			fault([]string{add}, "column %s %s is missing", c.Name, c.Type)
		case field.Type != bigquery.FieldType(c.Type) || field.Repeated || field.TimestampPrecision > microseconds:
			fix := []string{alter + "RENAME COLUMN " + quote(c.Name) + " TO " + quote(c.Name+"_old") + ";", add}
			if field.Required { // otherwise the old column would require a value
				fix = append([]string{alter + "ALTER COLUMN " + quote(c.Name) + " DROP NOT NULL;"}, fix...)
			}
			fault(fix, "column %s is %s, want %s", c.Name, foundType(field), c.Type)
		default:
			if foundType(field) != string(c.Type) { // the column has a length, and longer values do not fit
				fault([]string{alter + "ALTER COLUMN " + quote(c.Name) + " SET DATA TYPE " + ddlType(c.Type) + ";"}, "column %s is %s, want %s", c.Name, foundType(field), c.Type)
			}
			if field.Required && c.Nullable {
				fault([]string{alter + "ALTER COLUMN " + quote(c.Name) + " DROP NOT NULL;"}, "column %s is REQUIRED, want NULLABLE", c.Name)
			}
		}
	}
	for _, field := range found {
		if columns[strings.ToLower(field.Name)] != nil && field.Required && field.DefaultValueExpression == "" {
			fault([]string{alter + "ALTER COLUMN " + quote(field.Name) + " DROP NOT NULL;"}, "column %s is REQUIRED, and Tidemark has no value for it", field.Name)
		}
	}
	return faults
}

// microseconds is the precision of a TIMESTAMP without a declared precision.
const microseconds = 6

// foundType returns the type of a column with its length, or its precision and scale.
func foundType(f *bigquery.FieldSchema) string {
	text := string(f.Type)
	switch {
	case f.MaxLength > 0:
		text += fmt.Sprintf("(%d)", f.MaxLength)
	case f.Scale > 0:
		text += fmt.Sprintf("(%d, %d)", f.Precision, f.Scale)
	case f.Precision > 0:
		text += fmt.Sprintf("(%d)", f.Precision)
	case f.TimestampPrecision > microseconds:
		text += fmt.Sprintf("(%d)", f.TimestampPrecision)
	}
	if f.Repeated {
		return "ARRAY<" + text + ">"
	}
	return text
}

// ddlType returns the type's name in GoogleSQL.
func ddlType(t warehouse.Type) string {
	switch t {
	case warehouse.Integer:
		return "INT64"
	case warehouse.Float:
		return "FLOAT64"
	case warehouse.Boolean:
		return "BOOL"
	}
	return string(t)
}

// tableMetadata returns the definition with which a table is created. Its columns are
// NULLABLE, as the lab's are, although Tidemark leaves a column empty only if it
// must. BigQuery adds no REQUIRED column to an existing table. If new tables had
// REQUIRED columns, a table that was repaired as [Warehouse.faults] says would never be
// like a new table.
func tableMetadata(t warehouse.Table) *bigquery.TableMetadata {
	m := &bigquery.TableMetadata{Description: t.Description, Schema: schemaOf(t).Relax()}
	if t.PartitionBy != "" {
		m.TimePartitioning = &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType, Field: t.PartitionBy}
	}
	if t.ClusterBy != "" {
		m.Clustering = &bigquery.Clustering{Fields: []string{t.ClusterBy}}
	}
	return m
}

// schemaOf returns the schema of the rows that Tidemark writes to t: each required
// column has a value.
func schemaOf(t warehouse.Table) bigquery.Schema {
	schema := make(bigquery.Schema, len(t.Columns))
	for i, c := range t.Columns {
		schema[i] = &bigquery.FieldSchema{
			Name: c.Name, Type: bigquery.FieldType(c.Type), Required: !c.Nullable, Description: c.Description,
		}
	}
	return schema
}

// A view is the definition of a view.
type view struct{ name, description, query string }

// viewRevision is raised with each change of a view's query. The description of a
// view ends with the revision. A description without a revision has revision 1.
const viewRevision = 2

var revisionOf = regexp.MustCompile(`\(Revision (\d+)\.\)$`)

// stale reports whether this version replaces the view found: a view of an older
// revision, or a view of this revision with other columns. A view that a later
// version created stays.
func (v view) stale(found *bigquery.TableMetadata) bool {
	revision := 1
	if text := revisionOf.FindStringSubmatch(found.Description); text != nil {
		revision, _ = strconv.Atoi(text[1])
	}
	return revision < viewRevision || revision == viewRevision && v.differs(found)
}

// differs reports whether the view found has another query. Some emulators do not
// return the query of a view; then differs returns false.
func (v view) differs(found *bigquery.TableMetadata) bool {
	return found.ViewQuery != "" && (strings.TrimSpace(found.ViewQuery) != v.query || found.UseLegacySQL)
}

// createView creates the view, or replaces a stale view. If the service account may not
// replace the view, createView leaves it unchanged, and tidemark check reports it.
func (b *Warehouse) createView(ctx context.Context, v view) error {
	table := b.table(v.name)
	found, err := table.Metadata(ctx, bigquery.WithMetadataView(bigquery.BasicMetadataView))
	switch {
	case isNotFound(err):
		err = table.Create(ctx, &bigquery.TableMetadata{Description: v.description, ViewQuery: v.query})
	case err == nil && b.viewFaults(v, found) != nil:
		return faultsError(b.tableID(v.name), b.viewFaults(v, found))
	case err == nil && v.stale(found):
		_, err = table.Update(ctx, bigquery.TableMetadataToUpdate{Description: v.description, ViewQuery: v.query}, found.ETag)
		if hasCode(err, http.StatusForbidden, http.StatusPreconditionFailed) { // the latter: another process replaced the view
			return nil
		}
	}
	if err != nil && !isTaken(err) {
		return fmt.Errorf("create view %s: %w", b.tableID(v.name), err)
	}
	return nil
}

func (b *Warehouse) views() []view {
	l := b.cfg.Layout
	count := quote(l.Count)
	return []view{
		{l.Events(), "Each event once: a counted delivery before a late one, then the smallest message id, then the earliest published. (Revision 2.)",
			`SELECT ` + columnList(warehouse.RawTable(l).Table) + `
FROM ` + b.from(l.Raw) + `
WHERE TRUE
QUALIFY ` + firstDelivery + ` = 1`},
		{l.Agg, "Each window once, with the greatest count published for it; finalized_at is when it was first written as final, and updated_at when it first reached this count. (Revision 2.)",
			`SELECT
  timestamp,
  MAX(` + count + `) AS ` + count + `,
  MAX(window_end) AS window_end,
  LOGICAL_OR(is_final) AS is_final,
  MIN(IF(is_final, written_at, NULL)) AS finalized_at,
  MIN(IF(is_greatest, written_at, NULL)) AS updated_at
FROM (
  SELECT timestamp, ` + count + `, window_end, is_final, written_at,
    ` + count + ` = MAX(` + count + `) OVER (PARTITION BY timestamp) AS is_greatest
  FROM ` + b.from(l.AggLog()) + `)
GROUP BY timestamp`},
		{l.DeadLetters(), "Each message once (each part of it, if it is large): the earliest received. (Revision 2.)",
			`SELECT ` + columnList(warehouse.DeadLetterTable(l).Table) + `
FROM ` + b.from(l.DeadLetter) + `
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY message_id, part ORDER BY received_at) = 1`},
	}
}

// firstDelivery is the number of a delivery among the deliveries of its event.
const firstDelivery = `ROW_NUMBER() OVER (
  PARTITION BY window_start, event_id
  ORDER BY is_late, message_id, publish_time, processing_timestamp)`

// quote returns a column's name as an identifier. The name may be a keyword of SQL.
func quote(name string) string { return "`" + name + "`" }

// columnList returns the table's columns separated by commas. A query names them
// because the owner of a table may have added columns.
func columnList(t warehouse.Table) string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = quote(c.Name)
	}
	return strings.Join(names, ", ")
}

func (b *Warehouse) table(name string) *bigquery.Table {
	return b.client.Dataset(b.cfg.Dataset).Table(name)
}

// id returns a name in the project in the notation of GoogleSQL.
func (b *Warehouse) id(name string) string { return b.cfg.Project + "." + name }

func (b *Warehouse) tableID(name string) string { return b.id(b.cfg.Dataset + "." + name) }

// from returns the table's name quoted for a statement.
func (b *Warehouse) from(table string) string { return "`" + b.tableID(table) + "`" }
