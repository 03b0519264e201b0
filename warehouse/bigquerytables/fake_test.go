package bigquerytables_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// A fake answers as the documentation of BigQuery says. A test can change some of its
// answers.
type fake struct {
	storagepb.UnimplementedBigQueryWriteServer

	mu       sync.Mutex
	tables   map[string]map[string]any // the tables and views in the form of the REST API, by name
	location string                    // of the dataset; empty for the default location
	looks    int                       // how often the dataset was read, which is the first step of creating the tables
	gets     int                       // how often tables and views were read
	creates  int                       // how many tables and views were created
	denies   bool                      // reading tables and views is denied
	applied  int                       // the number of rows that were stored
	streams  int                       // the number of connections for AppendRows
	unseen   int                       // the number of further appends that do not see the existing tables

	// onAppend returns the answer to the n-th append, counted from 1. The answer is a
	// response, or an error that cuts the connection. If it is neither, the append gets
	// no answer. Only the rows of an append whose response is stored are counted as
	// applied. onAppend is called with mu locked.
	onAppend func(n, rows int) (*storagepb.AppendRowsResponse, error)
	appends  int

	// rival creates the table or view of this name just before the caller does, as
	// another process might.
	rival func(name string) map[string]any

	idleCloses bool // after it has answered an append, a connection is closed as idle
	hangOpen   int  // the number of further calls to open a stream that are never answered

	// onQuery answers a query job.
	onQuery func(job map[string]any) (int, any)

	// onInsert answers an insertAll of these rows with a status and a body.
	onInsert func(rows []any) (int, any)
	inserts  []any // the rows of all calls of insertAll
}

// serve starts the fake and returns a warehouse on it. adjust may change the warehouse's
// configuration.
func serve(t *testing.T, f *fake, method bigquerytables.Method, adjust ...func(*bigquerytables.Config)) *bigquerytables.Warehouse {
	t.Helper()
	if f.tables == nil {
		f.tables = map[string]map[string]any{}
	}
	rest := httptest.NewServer(f)
	t.Cleanup(rest.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(20 << 20))
	storagepb.RegisterBigQueryWriteServer(server, f)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	cfg := place{strings.TrimPrefix(rest.URL, "http://"), listener.Addr().String(), "p", nil}.config(method)
	for _, change := range adjust {
		change(&cfg)
	}
	return open(t, cfg)
}

// withTables returns a fake whose tables exist and fit the schema.
func withTables() *fake {
	f := &fake{tables: map[string]map[string]any{}}
	for _, t := range warehouse.Tables(accesslog.Layout()) {
		f.tables[t.Name] = resource(t.Columns)
	}
	return f
}

func resource(columns []warehouse.Column) map[string]any {
	var fields []any
	for _, c := range columns {
		mode := "REQUIRED"
		if c.Nullable {
			mode = "NULLABLE"
		}
		fields = append(fields, map[string]any{"name": c.Name, "type": c.Type, "mode": mode})
	}
	return map[string]any{"schema": map[string]any{"fields": fields}}
}

// narrow changes a column of a table, which is in the form of the REST API.
func narrow(table map[string]any, column string, change map[string]any) {
	for _, field := range table["schema"].(map[string]any)["fields"].([]any) {
		if field := field.(map[string]any); field["name"] == column {
			maps.Copy(field, change)
		}
	}
}

// ServeHTTP serves the REST API: datasets, tables and insertAll.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var request map[string]any
	json.Unmarshal(body, &request)
	path := strings.TrimPrefix(r.URL.Path, "/bigquery/v2/projects/p/datasets/logs")
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Path == "/bigquery/v2/projects/p/jobs" {
		answerWith(w, f.onQuery, request)
		return
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(path, "/tables/"), "/")
	switch {
	case path == "":
		f.looks++
		answer(w, 200, map[string]any{"location": cmp.Or(f.location, "US")})
	case path == "/tables":
		f.creates++
		name, _ = request["tableReference"].(map[string]any)["tableId"].(string)
		if f.rival != nil {
			f.tables[name] = f.rival(name)
		}
		if f.tables[name] != nil {
			answer(w, 409, failure(409, "duplicate"))
			return
		}
		f.tables[name] = request
		answer(w, 200, request)
	case f.tables[name] == nil, rest == "insertAll" && f.hidden():
		answer(w, 404, failure(404, "notFound"))
	case rest == "insertAll":
		rows := request["rows"].([]any)
		f.inserts = append(f.inserts, rows...)
		if f.onInsert == nil {
			answer(w, 200, map[string]any{})
			return
		}
		answerWith(w, f.onInsert, rows)
	case f.denies:
		answer(w, 403, failure(403, "accessDenied"))
	default:
		f.gets++
		answer(w, 200, f.tables[name])
	}
}

func answerWith[T any](w http.ResponseWriter, hook func(T) (int, any), request T) {
	code, response := hook(request)
	answer(w, code, response)
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body)
}

// failure returns an error in the form that
// https://cloud.google.com/bigquery/docs/error-messages describes.
func failure(code int, reason string) any {
	return map[string]any{"error": map[string]any{"code": code, "message": reason, "errors": []any{
		map[string]any{"reason": reason, "message": reason},
	}}}
}

func (f *fake) GetWriteStream(ctx context.Context, r *storagepb.GetWriteStreamRequest) (*storagepb.WriteStream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hangOpen--; f.hangOpen >= 0 {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return nil, ctx.Err()
	}
	if f.tables[strings.Split(r.Name, "/")[5]] == nil || f.hidden() {
		return nil, status.Errorf(codes.NotFound, "Requested entity was not found. Entity: %s", r.Name)
	}
	return &storagepb.WriteStream{Name: r.Name, Location: "us"}, nil
}

// hidden reports whether this append does not see the tables yet.
func (f *fake) hidden() bool {
	f.unseen--
	return f.unseen >= 0
}

func (f *fake) AppendRows(stream storagepb.BigQueryWrite_AppendRowsServer) error {
	f.mu.Lock()
	f.streams++
	f.mu.Unlock()
	// A connection gets the schema of the rows in its first request. If that request is
	// refused as a whole, the fake does not remember the schema:
	// https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#protodata
	knowsSchema := false
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil
		}
		rows := request.GetProtoRows()
		if !knowsSchema && rows.GetWriterSchema() == nil {
			return status.Error(codes.InvalidArgument, "the first request has no schema")
		}
		response, err := f.append(len(rows.GetRows().GetSerializedRows()))
		knowsSchema = knowsSchema || response.GetError() == nil || len(response.GetRowErrors()) > 0
		if errors.Is(err, io.EOF) {
			return nil // ends the stream normally, which the client sees as io.EOF
		}
		if err != nil {
			return err
		}
		if response == nil {
			continue
		}
		if err := stream.Send(response); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if f.idleCloses {
			return status.Error(codes.Aborted, "Closing the stream because client is inactive")
		}
	}
}

func (f *fake) append(rows int) (*storagepb.AppendRowsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.appends++
	if f.onAppend != nil {
		response, err := f.onAppend(f.appends, rows)
		if response != stored {
			return response, err
		}
	}
	f.applied += rows
	return stored, nil
}

// stored is the response to an append whose rows were stored.
var stored = &storagepb.AppendRowsResponse{
	Response: &storagepb.AppendRowsResponse_AppendResult_{AppendResult: &storagepb.AppendRowsResponse_AppendResult{}},
}
