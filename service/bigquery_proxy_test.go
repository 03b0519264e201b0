package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/internal/test/emulator"
)

// A fault is what happens to an append on its way to BigQuery.
type fault int

const (
	none      fault = iota
	refused         // refused for now: UNAVAILABLE, or 503
	quota           // over a quota: RESOURCE_EXHAUSTED in the response, or 403
	cutBefore       // the connection is cut before the append arrives
	cutAfter        // the connection is cut after the append was applied
	closed          // the stream ends normally, as an idle one does: io.EOF
	hangs           // never answered and not applied
)

// bigQueryProxy stands between a service and the emulator. It counts the requests, and
// does to appends what the network and BigQuery may do to them.
type bigQueryProxy struct {
	storagepb.UnimplementedBigQueryWriteServer
	rest, grpc string // the addresses at which it listens
	upstream   storagepb.BigQueryWriteClient
	forward    http.Handler

	mu        sync.Mutex
	fault     func(n int) fault // the fault of the n-th append, counted from 1; nil for no faults
	hangsOpen bool              // calls of GetWriteStream are never answered
	poison    string            // a row that contains this text is refused for its own value; empty for none
	dropped   string            // a column that the table raw has lost; empty for none
	passed    counts
}

// counts are numbers of requests.
type counts struct {
	requests   int // of any kind
	appends    int // appends among the requests
	unanswered int // appends whose caller did not wait for the answer
}

func newBigQueryProxy(t *testing.T) *bigQueryProxy {
	t.Helper()
	rest, gRPC := emulator.BigQuery(t)
	connection, err := grpc.NewClient(gRPC, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(20<<20)))
	if err != nil {
		t.Fatal(err)
	}
	p := &bigQueryProxy{
		upstream: storagepb.NewBigQueryWriteClient(connection),
		forward:  httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: rest}),
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(20 << 20))
	storagepb.RegisterBigQueryWriteServer(server, p)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	front := httptest.NewServer(p)
	p.rest, p.grpc = strings.TrimPrefix(front.URL, "http://"), listener.Addr().String()
	t.Cleanup(func() {
		front.Close()
		server.Stop()
		connection.Close()
	})
	return p
}

// set changes what the proxy does from now on.
func (p *bigQueryProxy) set(change func(*bigQueryProxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// counts returns what was counted since the last call of counts.
func (p *bigQueryProxy) counts() counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	passed := p.passed
	p.passed = counts{}
	return passed
}

// verdict decides what happens to an append of rows to a table. It returns a fault, the
// indexes of the rows that are refused for their own value, and the column that the table
// has lost.
func (p *bigQueryProxy) verdict(table string, rows [][]byte) (f fault, bad []int, dropped string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passed.appends++
	p.passed.requests++
	if p.fault != nil {
		f = p.fault(p.passed.appends)
	}
	if table != "raw" {
		return f, nil, ""
	}
	for i, row := range rows {
		if p.poison != "" && bytes.Contains(row, []byte(p.poison)) {
			bad = append(bad, i)
		}
	}
	return f, bad, p.dropped
}

func (p *bigQueryProxy) GetWriteStream(ctx context.Context, r *storagepb.GetWriteStreamRequest) (*storagepb.WriteStream, error) {
	p.mu.Lock()
	hangs := p.hangsOpen
	p.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return p.upstream.GetWriteStream(ctx, r)
}

// leftUnanswered counts an append whose caller has gone.
func (p *bigQueryProxy) leftUnanswered() { p.set(func(p *bigQueryProxy) { p.passed.unanswered++ }) }

// AppendRows passes a stream of appends on to the emulator. Its own answers follow
// https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#appendrowsresponse:
// if rows have errors, nothing of the request is appended.
//
// The first request of a connection has the stream's name and the rows' schema, and later
// requests may leave them out. It is not documented whether the service remembers the
// schema of a first request that it refuses. So the proxy remembers it only if it must
// have read the rows by it, which means that the rows were stored or had errors.
func (p *bigQueryProxy) AppendRows(client storagepb.BigQueryWrite_AppendRowsServer) error {
	server, err := p.upstream.AppendRows(client.Context())
	if err != nil {
		return err
	}
	var name string
	var schema *storagepb.ProtoSchema // the schema that is known so far
	introduced := false               // whether the emulator was told the name and the schema
	for {
		request, err := client.Recv()
		if err != nil {
			return nil // the client has gone
		}
		if name == "" {
			name = request.WriteStream
		}
		known := schema
		if carried := request.GetProtoRows().GetWriterSchema(); carried != nil {
			known = carried
		}
		f, bad, dropped := p.verdict(strings.Split(name, "/")[5], request.GetProtoRows().GetRows().GetSerializedRows())
		response := &storagepb.AppendRowsResponse{}
		refuse := func(code codes.Code, message string) {
			response.Response = &storagepb.AppendRowsResponse_Error{Error: &rpcstatus.Status{Code: int32(code), Message: message}}
		}
		switch {
		case f == refused:
			return status.Error(codes.Unavailable, "try again")
		case f == cutBefore:
			return status.Error(codes.Unavailable, "connection reset by peer")
		case f == closed:
			return nil
		case f == hangs:
			<-client.Context().Done()
			p.leftUnanswered()
			return client.Context().Err()
		case f == quota:
			refuse(codes.ResourceExhausted, "Exceeds 'AppendRows throughput' quota")
		case known == nil:
			refuse(codes.InvalidArgument, "no schema")
		case dropped != "":
			refuse(codes.InvalidArgument, "Input schema has more fields than BigQuery schema")
		case len(bad) > 0:
			schema = known
			refuse(codes.InvalidArgument, "Errors found while processing rows")
			for _, i := range bad {
				response.RowErrors = append(response.RowErrors, &storagepb.RowError{Index: int64(i), Code: storagepb.RowError_FIELDS_ERROR, Message: "bad value"})
			}
		default:
			schema = known
			if !introduced {
				request.WriteStream, introduced = name, true
				request.GetProtoRows().WriterSchema = schema
			}
			err := server.Send(request)
			if err == nil {
				response, err = server.Recv()
			}
			if client.Context().Err() != nil {
				p.leftUnanswered()
			}
			if err != nil {
				return err
			}
			if f == cutAfter {
				return status.Error(codes.Unavailable, "connection reset by peer")
			}
		}
		if err := client.Send(response); err != nil {
			return err
		}
	}
}

// ServeHTTP passes a request of the REST API on to the emulator. Its own answers follow
// https://cloud.google.com/bigquery/docs/error-messages and
// https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll.
func (p *bigQueryProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	table := ""
	if len(parts) > 8 && parts[7] == "tables" {
		table = parts[8]
	}
	if strings.HasSuffix(r.URL.Path, "/insertAll") {
		p.insertAll(w, r, table)
		return
	}
	p.mu.Lock()
	p.passed.requests++
	dropped := p.dropped
	p.mu.Unlock()
	if dropped == "" || table != "raw" || r.Method != http.MethodGet {
		p.forward.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	p.forward.ServeHTTP(answer, r)
	var resource struct {
		Schema struct {
			Fields []map[string]any `json:"fields"`
		} `json:"schema"`
	}
	json.Unmarshal(answer.Body.Bytes(), &resource)
	kept := resource.Schema.Fields[:0]
	for _, field := range resource.Schema.Fields {
		if field["name"] != dropped {
			kept = append(kept, field)
		}
	}
	resource.Schema.Fields = kept
	writeJSON(w, http.StatusOK, resource)
}

func (p *bigQueryProxy) insertAll(w http.ResponseWriter, r *http.Request, table string) {
	body, _ := io.ReadAll(r.Body)
	var request struct{ Rows []json.RawMessage }
	json.Unmarshal(body, &request)
	rows := make([][]byte, len(request.Rows))
	for i, row := range request.Rows {
		rows[i] = row
	}
	f, bad, dropped := p.verdict(table, rows)
	message := "bad value"
	if dropped != "" {
		bad, message = nil, "no such field: "+dropped+"."
		for i := range rows {
			bad = append(bad, i)
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	switch {
	case f == refused:
		writeJSON(w, http.StatusServiceUnavailable, apiError(http.StatusServiceUnavailable, "backendError"))
	case f == quota:
		writeJSON(w, http.StatusForbidden, apiError(http.StatusForbidden, "quotaExceeded"))
	case f == cutBefore || f == closed:
		panic(http.ErrAbortHandler)
	case f == hangs:
		<-r.Context().Done()
		p.leftUnanswered()
		panic(http.ErrAbortHandler)
	case len(bad) > 0:
		writeJSON(w, http.StatusOK, map[string]any{"insertErrors": insertErrors(len(rows), bad, message)})
	case f == cutAfter:
		p.forward.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default:
		p.forward.ServeHTTP(w, r)
		if r.Context().Err() != nil {
			p.leftUnanswered()
		}
	}
}

// insertErrors returns BigQuery's errors for an insert in which some rows are bad. The
// bad rows get the message. BigQuery says of the other rows that they were stopped.
func insertErrors(rows int, bad []int, message string) (all []any) {
	isBad := map[int]bool{}
	for _, i := range bad {
		isBad[i] = true
	}
	for i := range rows {
		reason := map[string]any{"reason": "stopped"}
		if isBad[i] {
			reason = map[string]any{"reason": "invalid", "message": message}
		}
		all = append(all, map[string]any{"index": i, "errors": []any{reason}})
	}
	return all
}

func apiError(code int, reason string) any {
	return map[string]any{"error": map[string]any{"code": code, "message": reason, "errors": []any{map[string]any{"reason": reason, "message": reason}}}}
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body)
}
