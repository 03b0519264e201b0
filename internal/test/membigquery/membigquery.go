// Package membigquery is a fake of BigQuery's REST and gRPC APIs, in memory. It has the
// methods that package bigquerytables calls, for tests that run without an emulator.
//
// The tables are in SQLite. A query is first translated: [translate] replaces the
// GoogleSQL that Tidemark uses by SQLite's. Then SQLite runs the query, so a test checks
// the query's results, and not only its text. A request for anything that Tidemark does
// not use is refused, so that a test notices it. The server never fails by itself and has
// no costs and no limits. For these, bigquerytables has fakes of its own.
package membigquery

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc"
	_ "modernc.org/sqlite" // the database driver
)

// A Server holds the datasets of one project.
type Server struct {
	storagepb.UnimplementedBigQueryWriteServer

	mu       sync.Mutex
	db       *sql.DB             // each dataset is a schema of this database
	tables   map[string]resource // by dataset.table
	datasets map[string]resource
	jobs     map[string]answer // by job id
	queries  []Query
}

// A resource is a dataset or a table in the JSON of the REST API.
type resource = map[string]any

// A Query is a query that a job ran.
type Query struct {
	SQL        string
	Parameters map[string]any // each is a string or a slice of strings
	DryRun     bool
	UseCache   bool
	Timeout    time.Duration // of the job; 0 if it has no timeout
}

// New returns a server of a project without datasets. It lives until the test ends.
func New(t testing.TB) *Server {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1) // a second connection would open another database in memory
	t.Cleanup(func() { db.Close() })
	return &Server{db: db, tables: map[string]resource{}, datasets: map[string]resource{}, jobs: map[string]answer{}}
}

// Start serves until the test ends. It returns the host and port of the REST API and of
// the gRPC API, in the form in which an emulator's are given.
func (s *Server) Start(t testing.TB) (rest, gRPC string) {
	t.Helper()
	front := httptest.NewServer(s.routes())
	t.Cleanup(front.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(20 << 20))
	storagepb.RegisterBigQueryWriteServer(server, s)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return strings.TrimPrefix(front.URL, "http://"), listener.Addr().String()
}

// DB returns the tables and views, for a test to query in SQLite's words. A bare name
// is found in each dataset.
func (s *Server) DB() *sql.DB { return s.db }

// Queries returns the queries that were run so far, dry runs included.
func (s *Server) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Query(nil), s.queries...)
}

// sqliteTypes maps the types of BigQuery's columns to the types of SQLite's. SQLite
// compares values by the type of their column.
var sqliteTypes = map[string]string{
	"STRING": "TEXT", "INTEGER": "INTEGER", "FLOAT": "REAL", "BOOLEAN": "INTEGER_BOOLEAN", "BYTES": "BLOB", "TIMESTAMP": "TEXT_TIME",
}

// A column is a column of a table or of a query's result.
type column struct{ name, typ string }

// columns returns the columns of a table or view.
func columns(table resource) []column {
	schema, _ := table["schema"].(map[string]any)
	fields, _ := schema["fields"].([]any)
	all := make([]column, len(fields))
	for i, field := range fields {
		f := field.(map[string]any)
		all[i] = column{f["name"].(string), f["type"].(string)}
	}
	return all
}

// create creates a table or view in a dataset.
func (s *Server) create(ctx context.Context, dataset, name string, table resource) error {
	at := quoted(dataset) + "." + quoted(name)
	if view, ok := table["view"].(map[string]any); ok {
		query, err := translate(view["query"].(string))
		if err != nil {
			return err
		}
		// The query of a view must name the tables of its own database without the
		// schema.
		_, err = s.db.ExecContext(ctx, "CREATE VIEW "+at+" AS "+strings.ReplaceAll(query, quoted(dataset)+".", ""))
		return err
	}
	var definitions []string
	for _, c := range columns(table) {
		definitions = append(definitions, quoted(c.name)+" "+sqliteTypes[c.typ])
	}
	_, err := s.db.ExecContext(ctx, "CREATE TABLE "+at+" ("+strings.Join(definitions, ", ")+")")
	return err
}

// insert stores rows in a table, in one transaction. A row is its values by column.
func (s *Server) insert(ctx context.Context, dataset, name string, rows []map[string]any) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	all := columns(s.tables[dataset+"."+name])
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(all)), ", ")
	statement, err := tx.PrepareContext(ctx, "INSERT INTO "+quoted(dataset)+"."+quoted(name)+" VALUES ("+marks+")")
	if err != nil {
		return err
	}
	defer statement.Close()
	for _, row := range rows {
		values := make([]any, len(all))
		for i, c := range all {
			values[i] = row[c.name]
		}
		if _, err := statement.ExecContext(ctx, values...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// timeFormat is how a TIMESTAMP is stored in SQLite. Texts in this format sort as their
// times do.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// stored converts a value from the JSON of a streaming insert or of a parameter to the
// form in which SQLite stores it.
func stored(typ string, value any) (any, error) {
	text, isText := value.(string)
	switch {
	case value == nil || !isText && typ != "INTEGER" && typ != "INT64":
		return value, nil
	case typ == "INTEGER" || typ == "INT64":
		return strconv.ParseInt(fmt.Sprint(value), 10, 64)
	case typ == "TIMESTAMP":
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999-07:00"} {
			if t, err := time.Parse(layout, text); err == nil {
				return t.UTC().Format(timeFormat), nil
			}
		}
		return nil, fmt.Errorf("%q is no TIMESTAMP", text)
	case typ == "FLOAT":
		return strconv.ParseFloat(text, 64)
	case typ == "BYTES":
		return base64.StdEncoding.DecodeString(text)
	}
	return text, nil
}

// told converts a value of SQLite to the form that the REST API returns. It also returns
// the value's type, which it derives from the value if c has none.
func told(c column, value any) (any, string, error) {
	switch v := value.(type) {
	case nil:
		return nil, c.typ, nil
	case []byte:
		return base64.StdEncoding.EncodeToString(v), "BYTES", nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), "FLOAT", nil
	case int64:
		if c.typ == "BOOLEAN" {
			return strconv.FormatBool(v != 0), c.typ, nil
		}
		return strconv.FormatInt(v, 10), "INTEGER", nil
	case string:
		t, err := time.Parse(timeFormat, v)
		if c.typ == "TIMESTAMP" || c.typ == "" && err == nil {
			return strconv.FormatInt(t.UnixMicro(), 10), "TIMESTAMP", err
		}
		return v, "STRING", nil
	}
	return nil, "", fmt.Errorf("column %s: value %T", c.name, value)
}

// run runs a query and returns its result.
func (s *Server) run(ctx context.Context, q Query) (answer, error) {
	statement, err := translate(q.SQL)
	if err != nil {
		return answer{}, err
	}
	var parameters []any
	for name, value := range q.Parameters {
		if _, isText := value.(string); !isText {
			text, err := json.Marshal(value)
			if err != nil {
				return answer{}, err
			}
			value = string(text)
		}
		parameters = append(parameters, sql.Named(name, value))
	}
	rows, err := s.db.QueryContext(ctx, shuffled(statement), parameters...)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %s", err, statement)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return answer{}, err
	}
	a := answer{columns: make([]column, len(types))}
	for i, t := range types {
		a.columns[i] = column{t.Name(), s.typeOf(t)}
	}
	for rows.Next() {
		values, targets := make([]any, len(types)), make([]any, len(types))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return answer{}, err
		}
		for i := range values {
			if values[i], a.columns[i].typ, err = told(a.columns[i], values[i]); err != nil {
				return answer{}, err
			}
		}
		a.rows = append(a.rows, values)
	}
	return a, rows.Err()
}

// typeOf returns the type of a column of a query's result. For a column of a table, it is
// the type in the table. For an expression, it is the type of a table's column of the
// same name, because an aggregate of a column mostly keeps its name. If no column has the
// name, the type is empty.
func (s *Server) typeOf(t *sql.ColumnType) string {
	for typ, name := range sqliteTypes {
		if t.DatabaseTypeName() == name {
			return typ
		}
	}
	for _, table := range s.tables {
		for _, c := range columns(table) {
			if c.name == t.Name() {
				return c.typ
			}
		}
	}
	return ""
}

// An answer is the result of a query.
type answer struct {
	columns []column
	rows    [][]any
}

// json returns the answer in the JSON of the REST API.
func (a answer) json(job string) resource {
	fields, rows := []any{}, []any{}
	for i, c := range a.columns {
		name := c.name
		if name == "" || strings.ContainsAny(name, "( ") { // BigQuery names an unnamed column like this
			name = fmt.Sprintf("f%d_", i)
		}
		typ := c.typ
		if typ == "" {
			typ = "STRING"
		}
		fields = append(fields, resource{"name": name, "type": typ, "mode": "NULLABLE"})
	}
	for _, row := range a.rows {
		values := []any{}
		for _, v := range row {
			values = append(values, resource{"v": v})
		}
		rows = append(rows, resource{"f": values})
	}
	return resource{
		"jobReference": resource{"jobId": job}, "jobComplete": true, "schema": resource{"fields": fields},
		"totalRows": strconv.Itoa(len(rows)), "rows": rows, "totalBytesProcessed": "0",
	}
}
