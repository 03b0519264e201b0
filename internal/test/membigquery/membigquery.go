// Package membigquery is BigQuery's APIs over REST and gRPC in memory, as far as
// package bigquerytables uses them: what its tests append to and query where there is
// no emulator.
//
// The tables are SQLite's, and a query is run by SQLite after [translate] has put the
// parts of GoogleSQL that Tidemark uses into SQLite's words. So a test sees what a query
// means, and not only its text. What is not used is refused, so that a request for
// something else is noticed. It never fails by itself, and says nothing of costs and
// limits: the fakes of bigquerytables do.
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
	_ "modernc.org/sqlite" // the driver
)

// A Server holds one project's datasets.
type Server struct {
	storagepb.UnimplementedBigQueryWriteServer

	mu       sync.Mutex
	db       *sql.DB             // each dataset is a schema of it
	tables   map[string]resource // by dataset.table
	datasets map[string]resource
	jobs     map[string]answer // by id
	queries  []Query
}

// A resource is a dataset or table as the REST API has it.
type resource = map[string]any

// A Query is one that a job ran.
type Query struct {
	SQL        string
	Parameters map[string]any // a text, or a slice of texts
	DryRun     bool
	UseCache   bool
	Timeout    time.Duration // of the job; 0 for none
}

// New returns a server of a project without datasets, until the test has ended.
func New(t testing.TB) *Server {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1) // each would have a memory of its own
	t.Cleanup(func() { db.Close() })
	return &Server{db: db, tables: map[string]resource{}, datasets: map[string]resource{}, jobs: map[string]answer{}}
}

// Start serves until the test has ended, and returns the hosts and ports of the REST
// API and of gRPC, which stand for an emulator's.
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

// Queries returns the queries that were run so far, dry runs among them.
func (s *Server) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Query(nil), s.queries...)
}

// sqliteTypes are the types of columns in SQLite, whose names decide how it compares.
var sqliteTypes = map[string]string{
	"STRING": "TEXT", "INTEGER": "INTEGER", "FLOAT": "REAL", "BOOLEAN": "INTEGER_BOOLEAN", "BYTES": "BLOB", "TIMESTAMP": "TEXT_TIME",
}

// A column is a column of a table or of an answer.
type column struct{ name, typ string }

// columns returns the columns of a table.
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

// create makes the table or view of a dataset.
func (s *Server) create(ctx context.Context, dataset, name string, table resource) error {
	at := quoted(dataset) + "." + quoted(name)
	if view, ok := table["view"].(map[string]any); ok {
		query, err := translate(view["query"].(string))
		if err != nil {
			return err
		}
		// A view of an attached database finds what is in it by the bare name.
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

// insert stores rows of a table in one transaction, the values by column.
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

// timeFormat is how SQLite keeps a TIMESTAMP: texts of it compare as the times do.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// stored returns a value as SQLite keeps it, from the JSON of a streaming insert or of
// a parameter.
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

// told returns a value of SQLite as the REST API's answers have it, and its type if it
// is known of no column.
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

// run runs a query.
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

// typeOf returns the type of a column of an answer: that of the column of a table, or
// of one of the same name, as an aggregate of it mostly is.
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

// An answer is that of a query.
type answer struct {
	columns []column
	rows    [][]any
}

// json returns the answer as the REST API has it.
func (a answer) json(job string) resource {
	fields, rows := []any{}, []any{}
	for i, c := range a.columns {
		name := c.name
		if name == "" || strings.ContainsAny(name, "( ") { // as BigQuery names what has no name
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
