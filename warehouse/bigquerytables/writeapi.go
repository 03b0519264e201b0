package bigquerytables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"cloud.google.com/go/bigquery/storage/managedwriter"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// keepAlive detects a connection that died while the process was frozen between
// requests. TCP alone would take many minutes.
var keepAlive = keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}

// A writer appends to the default stream of each table.
type writer struct {
	project, dataset string
	options          []option.ClientOption

	mu        sync.Mutex
	encodings map[string]encoding // by table name
	streams   map[string]*stream  // by table name
}

func newWriter(cfg Config) (*writer, error) {
	w := &writer{
		project: cfg.Project, dataset: cfg.Dataset, options: cfg.grpcOptions(),
		encodings: map[string]encoding{}, streams: map[string]*stream{},
	}
	for _, t := range warehouse.Tables(cfg.Layout) {
		e, err := newEncoding(t)
		if err != nil {
			return nil, err
		}
		w.encodings[t.Name] = e
	}
	return w, nil
}

func (c Config) grpcOptions() []option.ClientOption {
	options := []option.ClientOption{
		option.WithGRPCConnectionPool(1),
		option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepAlive)),
	}
	if c.GRPCHost != "" {
		options = append(options, option.WithEndpoint(c.GRPCHost), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	return options
}

// A stream is a table's default stream, which all appends to the table share. Each
// stream has its own connection. So giving up the stream of one table does not affect
// other tables.
type stream struct {
	cancel context.CancelFunc

	// Once opened is closed, either managed or err is set.
	opened  chan struct{}
	client  *managedwriter.Client
	managed *managedwriter.ManagedStream
	err     error

	// schemaKnown is whether the service has looked at rows of the stream and so knows
	// their schema. Only the first request tells the service the schema.
	schemaKnown atomic.Bool
}

func (w *writer) requests(t warehouse.Table, rows []warehouse.Row) ([]request, error) {
	e, ok := w.encodings[t.Name]
	if !ok {
		return nil, fmt.Errorf("table %s does not belong to the warehouse", t.Name)
	}
	wire := make([][]byte, len(rows))
	for i, row := range rows {
		var err error
		if wire[i], err = e.encode(row); err != nil {
			return nil, fmt.Errorf("encode row %d: %w", i, err)
		}
	}
	const framing = 8 // at most, of one row in the request
	requests := cut(rows, math.MaxInt, func(i int) int { return len(wire[i]) + framing })
	for i, r := range requests {
		requests[i].wire = wire[r.first:][:len(r.rows)]
	}
	return requests, nil
}

// send appends a request. If the connection is lost, send opens a new connection and
// appends once more. If no answer arrives, send does so after half of the time, since
// a connection may die without a sign.
func (w *writer) send(ctx context.Context, t warehouse.Table, r request) error {
	first, cancel := halfTime(ctx)
	err := w.try(first, t, r)
	cancel()
	if err == nil || ctx.Err() != nil || !isDisconnect(err) {
		return err
	}
	return w.try(ctx, t, r)
}

func halfTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// isDisconnect reports whether an append may succeed on another connection.
func isDisconnect(err error) bool {
	switch status.Code(err) {
	case codes.Aborted, codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// try appends a request on the table's stream. It gives up the stream if no answer
// arrived, or if after the answer it is open whether the stream knows the schema of
// the rows.
func (w *writer) try(ctx context.Context, t warehouse.Table, r request) error {
	s, err := w.stream(ctx, t.Name)
	if err != nil {
		return appendError(err, nil)
	}
	response, err := s.append(ctx, r.wire)
	err = appendError(err, response)
	refused, isRefusal := errors.AsType[*refusal](err)
	if isRefusal {
		refused.tooLarge = len(r.wire) == 1 && len(r.wire[0]) > maxRequest
	}
	if err == nil || len(response.GetRowErrors()) > 0 {
		s.schemaKnown.Store(true)
		return err
	}
	unanswered := response == nil && !errors.Is(ctx.Err(), context.Canceled)
	if unanswered || isRefusal || response != nil && !s.schemaKnown.Load() {
		w.giveUp(t.Name, s)
	}
	return err
}

func (s *stream) append(ctx context.Context, wire [][]byte) (*storagepb.AppendRowsResponse, error) {
	result, err := s.managed.AppendRows(ctx, wire)
	if err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	return result.FullResponse(ctx)
}

// stream returns the table's stream after the stream was opened.
func (w *writer) stream(ctx context.Context, table string) (*stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	s := w.streams[table]
	if s == nil {
		s = w.open(ctx, table)
		w.streams[table] = s
	}
	w.mu.Unlock()
	select {
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			w.giveUp(table, s)
		}
		return nil, fmt.Errorf("open the default stream: %w", ctx.Err())
	case <-s.opened:
	}
	if s.err != nil {
		w.giveUp(table, s)
		return nil, fmt.Errorf("open the default stream: %w", s.err)
	}
	return s, nil
}

// open begins to open the table's stream. The stream outlives the request that needs
// it first.
func (w *writer) open(ctx context.Context, table string) *stream {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &stream{cancel: cancel, opened: make(chan struct{})}
	go func() {
		defer close(s.opened)
		if s.client, s.err = managedwriter.NewClient(ctx, w.project, w.options...); s.err != nil {
			return
		}
		s.managed, s.err = s.client.NewManagedStream(ctx,
			managedwriter.WithType(managedwriter.DefaultStream),
			managedwriter.WithDestinationTable(managedwriter.TableParentFromParts(w.project, w.dataset, table)),
			managedwriter.WithSchemaDescriptor(w.encodings[table].descriptor),
			managedwriter.WithTraceID("tidemark"))
	}()
	return s
}

// giveUp ends the stream s and all that is under way on it, unless another caller
// already did so. The next append opens a new stream.
func (w *writer) giveUp(table string, s *stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.streams[table] == s {
		delete(w.streams, table)
		s.end()
	}
}

// end ends the stream. First it cancels the stream's context, which ends everything
// that may block. Only then it closes the stream, since closing waits for blocked
// calls.
func (s *stream) end() {
	s.cancel()
	go func() { _ = s.release() }() // errors of a stream that was given up do not matter
}

func (s *stream) release() error {
	<-s.opened
	var errs []error
	if s.managed != nil {
		if err := s.managed.Close(); !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	return errors.Join(errs...)
}

func (w *writer) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for table, s := range w.streams {
		s.cancel()
		if err := s.release(); err != nil {
			errs = append(errs, fmt.Errorf("close the stream of %s: %w", table, err))
		}
	}
	clear(w.streams)
	return errors.Join(errs...)
}

// appendError interprets the error of an append and its response, which may be nil.
// It returns an error that wraps errMissing, a *refusal, or a passing error.
func appendError(err error, response *storagepb.AppendRowsResponse) error {
	if rows := response.GetRowErrors(); len(rows) > 0 {
		return rowRefusal(rows, err)
	}
	if err == nil {
		return nil
	}
	s := statusOf(err)
	switch {
	case s.Code() == codes.NotFound, s.Code() == codes.PermissionDenied && mayNotExist(s.Message()):
		return fmt.Errorf("%w: %w", errMissing, err)
	case s.Code() == codes.InvalidArgument:
		return &refusal{err: err, unseen: hasExtraFields(s)}
	}
	return err
}

// hasExtraFields reports whether a request was refused because it has columns that
// the table does not have.
func hasExtraFields(s *status.Status) bool {
	return slices.ContainsFunc(s.Details(), func(detail any) bool {
		e, ok := detail.(*storagepb.StorageError)
		return ok && e.GetCode() == storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS
	})
}

// statusOf returns the status of an error that the client may have wrapped.
func statusOf(err error) *status.Status {
	if with, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		return with.GRPCStatus()
	}
	return status.Convert(err)
}

func rowRefusal(rows []*storagepb.RowError, err error) error {
	if err == nil {
		err = errors.New("append refused for some of its rows")
	}
	refused := &refusal{rows: map[int]error{}, err: err}
	for _, row := range rows {
		refused.rows[int(row.GetIndex())] = fmt.Errorf("%s: %s", row.GetCode(), row.GetMessage())
	}
	return refused
}
