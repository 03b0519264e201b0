package bigquerytables_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

var (
	rawRow      = warehouse.RawTable(accesslog.Layout()).Row
	countRow    = warehouse.AggLogTable(accesslog.Layout()).Row
	rawTable    = warehouse.RawTable(accesslog.Layout()).Table
	countTable  = warehouse.AggLogTable(accesslog.Layout()).Table
	letterTable = warehouse.DeadLetterTable(accesslog.Layout()).Table
)

func rawRows(n int) []warehouse.Row {
	now := time.Now().UTC().Truncate(time.Microsecond)
	rows := make([]warehouse.Row, n)
	for i := range rows {
		rows[i] = rawRow(&warehouse.RawRow{
			Event:          accesslog.Record{Timestamp: now, UserAgent: "a"}.Event(),
			ProcessingTime: now, EventID: fmt.Sprint(i), MessageID: fmt.Sprint(i), PublishTime: now, WindowStart: now,
		})
	}
	return rows
}

// letterRows returns the rows of a dead letter.
func letterRows(l warehouse.DeadLetter) (rows []warehouse.Row) {
	for _, part := range l.Parts() {
		rows = append(rows, warehouse.DeadLetterTable(accesslog.Layout()).Row(&part))
	}
	return rows
}

// appendEach appends the rows to the raw table as the service does for pushes.
func appendEach(t *testing.T, tables *bigquerytables.Warehouse, rows []warehouse.Row) []error {
	t.Helper()
	return warehouse.AppendEach(t.Context(), rows, func(ctx context.Context, rows []warehouse.Row) error {
		return tables.Append(ctx, rawTable, rows)
	})
}

// refused returns the response to an append that is refused, according to
// https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#appendrowsresponse.
// If it has row_errors, nothing of the request was appended.
func refused(code codes.Code, message string, rows ...int64) *storagepb.AppendRowsResponse {
	r := &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{
		Error: &rpcstatus.Status{Code: int32(code), Message: message},
	}}
	for _, i := range rows {
		r.RowErrors = append(r.RowErrors, &storagepb.RowError{Index: i, Code: storagepb.RowError_FIELDS_ERROR, Message: "bad value"})
	}
	return r
}

// Each failure must give the right kind of error, since the kind decides whether and how
// the caller tries again.
func TestAppendFailures(t *testing.T) {
	t.Parallel()
	passing := func(err error) error {
		if errors.As(err, new(*warehouse.RefusedError)) || errors.As(err, new(*warehouse.TableError)) || err == nil {
			return fmt.Errorf("%v, want neither success, a refusal nor a fault of the table", err)
		}
		return nil
	}
	none := func(err error) error { return err }
	for _, test := range []struct {
		name    string
		answers func(n, rows int) (*storagepb.AppendRowsResponse, error)
		want    func(error) error
		applied int // if it is 0, the append fails only when the caller's deadline is over
	}{
		// https://cloud.google.com/bigquery/docs/write-api-best-practices says: reconnect
		// and try again.
		{"unavailable once", func(n, _ int) (*storagepb.AppendRowsResponse, error) {
			if n == 1 {
				return nil, status.Error(codes.Unavailable, "try again")
			}
			return stored, nil
		}, none, 3},
		{"unavailable for good", func(int, int) (*storagepb.AppendRowsResponse, error) {
			return nil, status.Error(codes.Unavailable, "try again")
		}, passing, 0},
		// This is described in
		// https://github.com/googleapis/nodejs-bigquery-storage/issues/427.
		{"closed for being idle", func(n, _ int) (*storagepb.AppendRowsResponse, error) {
			if n == 1 {
				return nil, status.Error(codes.Aborted, "Closing the stream because client is inactive")
			}
			return stored, nil
		}, none, 3},
		{"ended without a status", func(n, _ int) (*storagepb.AppendRowsResponse, error) {
			if n == 1 {
				return nil, io.EOF
			}
			return stored, nil
		}, none, 3},
		// This is described in https://github.com/googleapis/google-cloud-go/issues/6595.
		{"out of quota", func(int, int) (*storagepb.AppendRowsResponse, error) {
			return refused(codes.ResourceExhausted, "Exceeds 'AppendRows throughput' quota"), nil
		}, passing, 0},
		{"never answered once", func(n, _ int) (*storagepb.AppendRowsResponse, error) {
			if n == 1 {
				return nil, nil
			}
			return stored, nil
		}, none, 3},
		{"never answered", func(int, int) (*storagepb.AppendRowsResponse, error) { return nil, nil }, passing, 0},
		{"a bad row", func(int, int) (*storagepb.AppendRowsResponse, error) {
			return refused(codes.InvalidArgument, "Errors found while processing rows", 1), nil
		}, func(err error) error {
			var r *warehouse.RefusedError
			if !errors.As(err, &r) || len(r.Rows) != 1 || r.Rows[1] == nil {
				return fmt.Errorf("%v, want row 1 refused", err)
			}
			return nil
		}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := withTables()
			f.onAppend = test.answers
			tables := serve(t, f, bigquerytables.StorageWrite)
			limit := 2 * time.Second
			if test.applied > 0 {
				limit = 20 * time.Second // the client waits half of this for the answer that never comes
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if err := test.want(tables.Append(ctx, rawTable, rawRows(3))); err != nil {
				t.Error(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.applied != test.applied {
				t.Errorf("%d rows stored, want %d", f.applied, test.applied)
			}
		})
	}
}

// An append that was applied, but not answered, is repeated. Its rows are then stored
// twice, but never lost.
func TestAnAppendCutAfterItWasAppliedIsRepeated(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.onAppend = func(n, rows int) (*storagepb.AppendRowsResponse, error) {
		if n == 1 {
			f.applied += rows
			return nil, status.Error(codes.Unavailable, "connection reset")
		}
		return stored, nil
	}
	if err := serve(t, f, bigquerytables.StorageWrite).Append(t.Context(), rawTable, rawRows(3)); err != nil {
		t.Fatal(err)
	}
	if f.applied != 6 {
		t.Errorf("%d rows stored, want 3 twice", f.applied)
	}
}

func TestAColumnThatIsGoneIsTheTablesFault(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := withTables()
		columns := append([]warehouse.Column{}, rawTable.Columns[1:]...) // without the column ip
		columns[0].Type = warehouse.Integer                              // the column user_id
		f.tables["raw"] = resource(columns)
		f.onAppend = func(int, int) (*storagepb.AppendRowsResponse, error) {
			return refused(codes.InvalidArgument, "Input schema has more fields than BigQuery schema"), nil
		}
		f.onInsert = func(rows []any) (int, any) {
			return 200, map[string]any{"insertErrors": []any{
				map[string]any{"index": 0, "errors": []any{map[string]any{"reason": "invalid", "message": "no such field: ip."}}},
			}}
		}
		err := serve(t, f, method).Append(t.Context(), rawTable, rawRows(1))
		var table *warehouse.TableError
		if !errors.As(err, &table) {
			t.Fatalf("%s: %v, want a TableError", method, err)
		}
		for _, want := range []string{
			"column ip STRING is missing", "ALTER TABLE `p.logs.raw` ADD COLUMN `ip` STRING",
			"column user_id is INTEGER, want STRING", "RENAME COLUMN `user_id`",
		} {
			if !strings.Contains(table.Error(), want) {
				t.Errorf("%s: error %q does not say %q", method, table, want)
			}
		}
	}
}

// A column that was made shorter refuses only long values. So the refusal names the rows
// that have them, as if these rows were at fault:
// https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#parameterized_data_types
func TestANarrowedColumnIsTheTablesFault(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := withTables()
		narrow(f.tables["raw"], "user_agent", map[string]any{"maxLength": "100"})
		f.onAppend = func(_, rows int) (*storagepb.AppendRowsResponse, error) {
			if rows == 1 {
				return stored, nil
			}
			return refused(codes.InvalidArgument, "Errors found while processing rows", 1), nil
		}
		f.onInsert = func(rows []any) (int, any) {
			if len(rows) == 1 {
				return 200, map[string]any{}
			}
			return 200, map[string]any{"insertErrors": []any{
				map[string]any{"index": 1, "errors": []any{map[string]any{"reason": "invalid", "message": "Field user_agent: STRING(100) has maximum length 100 but got a value with length 101"}}},
			}}
		}
		tables := serve(t, f, method)
		for i, err := range appendEach(t, tables, rawRows(2)) {
			const want = "column user_agent is STRING(100), want STRING, fix with: ALTER TABLE `p.logs.raw` ALTER COLUMN `user_agent` SET DATA TYPE STRING"
			if !errors.As(err, new(*warehouse.TableError)) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: row %d: %v, want a TableError that says %q", method, i, err, want)
			}
		}
	}
}

// The tables are created without REQUIRED columns. A column that was lost and added again
// can only be NULLABLE, so a repaired table is the same as a new one.
// https://cloud.google.com/bigquery/docs/managing-table-schemas#add_an_empty_column
func TestNoColumnIsMadeRequired(t *testing.T) {
	t.Parallel()
	f := &fake{}
	if err := serve(t, f, bigquerytables.StorageWrite).Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, table := range warehouse.Tables(accesslog.Layout()) {
		fields := f.tables[table.Name]["schema"].(map[string]any)["fields"].([]any)
		if len(fields) != len(table.Columns) {
			t.Errorf("%s has %d columns, want %d", table.Name, len(fields), len(table.Columns))
		}
		for _, field := range fields {
			if c := field.(map[string]any); c["mode"] == "REQUIRED" {
				t.Errorf("%s.%s is REQUIRED", table.Name, c["name"])
			}
		}
	}
}

func TestManyCallersMakeTheTablesOnce(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := &fake{}
		tables := serve(t, f, method)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := tables.Append(t.Context(), rawTable, rawRows(2)); err != nil {
					t.Errorf("%s: %v", method, err)
				}
			})
		}
		wg.Wait()
		f.mu.Lock()
		if f.looks != 1 || f.creates != 6 {
			t.Errorf("%s: %d callers made %d tables and views, want 1 and 6", method, f.looks, f.creates)
		}
		if n := f.applied + len(f.inserts); n != 40 {
			t.Errorf("%s: %d rows stored, want 40", method, n)
		}
		f.mu.Unlock()
	}
}

// A process may die after it has created the tables and before it has created the views.
// The next process that publishes counts creates them, and looks for them only once.
func TestViewsThatAreMissingAreMade(t *testing.T) {
	t.Parallel()
	f := withTables()
	tables := serve(t, f, bigquerytables.StorageWrite)
	if err := tables.Append(t.Context(), rawTable, rawRows(1)); err != nil {
		t.Fatal(err)
	}
	if f.creates != 0 {
		t.Errorf("a push created %d views, which it does not need", f.creates)
	}
	now := time.Now().UTC()
	count := countRow(&warehouse.WindowCount{Start: now, End: now, PageViews: 1, WrittenAt: now})
	for range 2 {
		if err := tables.Append(t.Context(), countTable, []warehouse.Row{count}); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, view := range []string{"events", "windowed_traffic", "dead_letters"} {
		if f.tables[view] == nil {
			t.Errorf("view %s was not created", view)
		}
	}
	if f.creates != 3 || f.applied != 3 || f.gets != 0 {
		t.Errorf("%d views created, %d rows stored, %d views read again, want 3, 3 and none", f.creates, f.applied, f.gets)
	}
}

// If another process creates the tables at the same time, they are used if they fit the
// schema.
func TestTablesThatAnotherProcessMakesAreUsed(t *testing.T) {
	t.Parallel()
	right := withTables()
	f := &fake{rival: func(name string) map[string]any {
		if right.tables[name] == nil { // this name is a view's
			return map[string]any{"type": "VIEW"}
		}
		return right.tables[name]
	}}
	if err := serve(t, f, bigquerytables.StorageWrite).Append(t.Context(), rawTable, rawRows(1)); err != nil || f.applied != 1 {
		t.Errorf("%v, %d rows stored, want 1", err, f.applied)
	}
	f = &fake{rival: func(string) map[string]any { return resource(rawTable.Columns[1:]) }}
	if err := serve(t, f, bigquerytables.StorageWrite).Append(t.Context(), rawTable, rawRows(1)); !errors.As(err, new(*warehouse.TableError)) {
		t.Errorf("%v, want a TableError", err)
	}
}

// If the service may not read the table's definition, it cannot know whether the table or
// a row is at fault.
func TestNothingIsRejectedWhileTheTableCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := withTables()
		f.denies = true
		f.refuseFirst(true)
		err := appendEach(t, serve(t, f, method), rawRows(1))[0]
		if err == nil || errors.As(err, new(*warehouse.RefusedError)) || errors.Is(err, warehouse.ErrRejected) || !strings.Contains(err.Error(), "accessDenied") {
			t.Errorf("%s: %v, want an error that says why and rejects nothing", method, err)
		}
	}
}

// Appends may not see a new table for a while. Users report this of streaming inserts:
// https://github.com/googleapis/google-cloud-python/issues/4553. The append is repeated
// until it sees the table. The tables are created only once.
func TestRowsWaitUntilANewTableIsSeen(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := &fake{unseen: 4}
		if err := serve(t, f, method).Append(t.Context(), rawTable, rawRows(3)); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		f.mu.Lock()
		if n := f.applied + len(f.inserts); n != 3 || f.creates != 6 || f.unseen >= 0 {
			t.Errorf("%s: %d rows stored, %d tables and views created, %d answers left, want 3, 6 and none", method, n, f.creates, f.unseen)
		}
		f.mu.Unlock()
	}
}

// There is a pause before an append that did not see its table is repeated.
func TestANewTableIsLookedForNowAndThen(t *testing.T) {
	t.Parallel()
	const many = 1 << 30
	f := &fake{unseen: many}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := serve(t, f, bigquerytables.InsertAll).Append(ctx, rawTable, rawRows(1))
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := many - f.unseen; !errors.Is(err, context.DeadlineExceeded) || n > 6 {
		t.Errorf("%v after %d appends within a second, want 6 at most", err, n)
	}
}

// As https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll says,
// one bad row stops the whole insert, and the error of the other rows is "stopped".
func TestOnlyBadRowsOfAnInsertAreRefused(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.onInsert = func(rows []any) (int, any) {
		return 200, map[string]any{"insertErrors": []any{
			map[string]any{"index": 0, "errors": []any{map[string]any{"reason": "stopped"}}},
			map[string]any{"index": 1, "errors": []any{map[string]any{"reason": "invalid", "message": "bad value"}}},
			map[string]any{"index": 2, "errors": []any{map[string]any{"reason": "stopped"}}},
		}}
	}
	err := serve(t, f, bigquerytables.InsertAll).Append(t.Context(), rawTable, rawRows(3))
	var r *warehouse.RefusedError
	if !errors.As(err, &r) || len(r.Rows) != 1 || r.Rows[1] == nil {
		t.Errorf("%v, want row 1 refused", err)
	}
}

// Some of the reasons in https://cloud.google.com/bigquery/docs/error-messages are
// temporary. If a row has such a reason, nothing is known about the other rows either.
func TestAnInsertWithARowErrorThatPassesIsNoRefusal(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"backendError", "internalError", "jobBackendError", "quotaExceeded", "rateLimitExceeded", "tableUnavailable", "timeout"} {
		for _, first := range []string{"stopped", "invalid"} {
			f := withTables()
			f.onInsert = func(rows []any) (int, any) {
				return 200, map[string]any{"insertErrors": []any{
					map[string]any{"index": 0, "errors": []any{map[string]any{"reason": first, "message": "bad value"}}},
					map[string]any{"index": 1, "errors": []any{map[string]any{"reason": reason, "message": "try again"}}},
				}}
			}
			err := serve(t, f, bigquerytables.InsertAll).Append(t.Context(), rawTable, rawRows(2))
			if err == nil || errors.As(err, new(*warehouse.RefusedError)) || errors.As(err, new(*warehouse.TableError)) || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s and %s: %v, want an error that is no refusal and says why", first, reason, err)
			}
		}
	}
}

// The size of an audit is found by a dry run, which is not billed and returns the number
// of bytes: https://cloud.google.com/bigquery/docs/running-queries#dry-run
func TestAnEstimateIsADryRun(t *testing.T) {
	t.Parallel()
	f := withTables()
	var query map[string]any
	f.onQuery = func(job map[string]any) (int, any) {
		configuration := job["configuration"].(map[string]any)
		query = configuration["query"].(map[string]any)
		if configuration["dryRun"] != true {
			return 400, failure(400, "invalid")
		}
		return 200, map[string]any{
			"jobReference": map[string]any{"projectId": "p"}, "status": map[string]any{"state": "DONE"},
			"configuration": configuration, "statistics": map[string]any{"totalBytesProcessed": "123456789", "query": map[string]any{}},
		}
	}
	from := time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)
	bytes, err := serve(t, f, bigquerytables.StorageWrite).AuditBytes(t.Context(), from, from.Add(time.Hour))
	if err != nil || bytes != 123456789 {
		t.Errorf("%d bytes, %v, want 123456789", bytes, err)
	}
	if sql, _ := query["query"].(string); !strings.Contains(sql, "COUNT(DISTINCT event_id)") || query["useQueryCache"] != false {
		t.Errorf("the query is %v, want that of an audit, not from the cache", query)
	}
	f.onQuery = func(map[string]any) (int, any) { return 404, failure(404, "notFound") }
	if bytes, err := serve(t, f, bigquerytables.StorageWrite).AuditBytes(t.Context(), from, from.Add(time.Hour)); err != nil || bytes != 0 {
		t.Errorf("before there are tables: %d bytes, %v, want 0", bytes, err)
	}
}

// A new column is in the table's definition before streaming inserts see it. In this time
// rows with a value for it are refused, but must not be rejected: otherwise their events
// would become dead letters.
func TestANewColumnThatInsertsDoNotSeeYetIsNoFaultOfTheRows(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.onInsert = func(rows []any) (int, any) {
		var all []any
		for i, row := range rows {
			if row.(map[string]any)["json"].(map[string]any)["lat"] != nil {
				all = append(all, map[string]any{"index": i, "errors": []any{map[string]any{"reason": "invalid", "message": "no such field: lat."}}})
			}
		}
		return 200, map[string]any{"insertErrors": all}
	}
	rows := rawRows(2)
	rows[0][3] = 48.8566 // the column lat
	tables := serve(t, f, bigquerytables.InsertAll)
	for i, err := range appendEach(t, tables, rows) {
		if err == nil || errors.Is(err, warehouse.ErrRejected) {
			t.Errorf("row %d: %v, want an error that does not reject the row", i, err)
		}
	}
}

// refuseFirst lets the fake refuse every append. naming says whether the refusal names
// the first row or no row.
func (f *fake) refuseFirst(naming bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onAppend = func(int, int) (*storagepb.AppendRowsResponse, error) {
		if naming {
			return refused(codes.InvalidArgument, "Errors found while processing rows", 0), nil
		}
		return refused(codes.InvalidArgument, "Request contains an invalid argument"), nil
	}
	f.onInsert = func([]any) (int, any) {
		if naming {
			return 200, map[string]any{"insertErrors": []any{
				map[string]any{"index": 0, "errors": []any{map[string]any{"reason": "invalid", "message": "bad value"}}},
			}}
		}
		return 400, failure(400, "invalid")
	}
}

// methods are the two ways to append rows.
var methods = []bigquerytables.Method{bigquerytables.StorageWrite, bigquerytables.InsertAll}

// If a row is refused alone, there is no other row to compare it with. None is needed:
// the table fits the schema, so the row is at fault.
func TestARowRefusedAloneIsRejectedAtOnce(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := withTables()
		f.refuseFirst(true)
		if err := appendEach(t, serve(t, f, method), rawRows(1))[0]; !errors.Is(err, warehouse.ErrRejected) {
			t.Errorf("%s: %v, want it rejected", method, err)
		}
	}
}

// After a change of a table, appends may use the old columns for some minutes, as users
// of https://github.com/googleapis/java-bigquerystorage/issues/1465 report. A row that is
// refused in this time must not be rejected.
func TestNothingIsRejectedSoonAfterARepair(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := withTables()
		f.refuseFirst(true)
		var now time.Time
		tables := serve(t, f, method, func(c *bigquerytables.Config) { c.Now = func() time.Time { return now } })
		append := func(at time.Duration) error {
			now = time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC).Add(at)
			return appendEach(t, tables, rawRows(1))[0]
		}
		if err := append(-time.Hour); !errors.Is(err, warehouse.ErrRejected) {
			t.Errorf("%s: %v before the fault, want it rejected", method, err)
		}
		fits := f.tables["raw"]
		f.tables["raw"] = resource(rawTable.Columns)
		narrow(f.tables["raw"], "user_agent", map[string]any{"maxLength": "100"})
		if err := append(0); !errors.As(err, new(*warehouse.TableError)) {
			t.Errorf("%s: %v, want a TableError", method, err)
		}
		f.tables["raw"] = fits
		for _, tc := range []struct {
			at       time.Duration
			rejected bool
		}{{5 * time.Minute, false}, {15*time.Minute - 1, false}, {15 * time.Minute, true}} {
			if err := append(tc.at); err == nil || errors.As(err, new(*warehouse.TableError)) || errors.Is(err, warehouse.ErrRejected) != tc.rejected {
				t.Errorf("%s: %v after the fault: %v, want it rejected: %v", method, tc.at, err, tc.rejected)
			}
		}
	}
}

// A refusal that names no row is mostly about the whole request, for example about its
// schema. If the request has a single row, this row is rejected only after the table has
// fitted the schema for long enough.
func TestARowRefusedAloneWithoutItsNameIsRejectedInTime(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := withTables()
		f.refuseFirst(false)
		now := time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)
		tables := serve(t, f, method, func(c *bigquerytables.Config) { c.Now = func() time.Time { return now } })
		for _, tc := range []struct {
			later    time.Duration
			rejected bool
		}{{0, false}, {10*time.Minute - 1, false}, {1, true}} {
			now = now.Add(tc.later)
			if err := appendEach(t, tables, rawRows(1))[0]; err == nil || errors.Is(err, warehouse.ErrRejected) != tc.rejected {
				t.Errorf("%s: %v later: %v, want it rejected: %v", method, tc.later, err, tc.rejected)
			}
		}
		err := tables.Append(t.Context(), rawTable, rawRows(2))
		if r, ok := errors.AsType[*warehouse.RefusedError](err); !ok || len(r.Rows) > 0 {
			t.Errorf("%s: two rows: %v, want a refusal that names no row", method, err)
		}
	}
}

// A request may be refused because of a column that the table has: the column is new, and
// appends do not see it yet. Then no row is at fault, however long this takes. The
// error's code is described in
// https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#storageerrorcode.
func TestANewColumnThatAppendsDoNotSeeYetIsNoFaultOfTheRows(t *testing.T) {
	t.Parallel()
	f := withTables()
	response := refused(codes.InvalidArgument, "Input schema has more fields than BigQuery schema")
	detail, err := anypb.New(&storagepb.StorageError{Code: storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS})
	if err != nil {
		t.Fatal(err)
	}
	response.GetError().Details = append(response.GetError().Details, detail)
	f.onAppend = func(int, int) (*storagepb.AppendRowsResponse, error) { return response, nil }
	now := time.Now()
	tables := serve(t, f, bigquerytables.StorageWrite, func(c *bigquerytables.Config) { c.Now = func() time.Time { return now } })
	for range 2 {
		err := appendEach(t, tables, rawRows(1))[0]
		if err == nil || errors.As(err, new(*warehouse.RefusedError)) {
			t.Errorf("%v, want an error that is no refusal", err)
		}
		now = now.Add(time.Hour)
	}
}

// A row that is too large for any request will always be refused. So it is rejected even
// if it is refused alone.
func TestARowThatIsTooLargeIsRejectedAlone(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := withTables()
		f.onInsert = func([]any) (int, any) {
			return 413, failure(413, "Request payload size exceeds the limit: 10485760 bytes.")
		}
		f.onAppend = func(int, int) (*storagepb.AppendRowsResponse, error) {
			return refused(codes.InvalidArgument, "AppendRows request too large"), nil
		}
		tables := serve(t, f, method)
		for text, rejected := range map[string]bool{strings.Repeat("a", 9<<20+1): true, strings.Repeat("<", 1000): false} {
			rows := rawRows(1)
			rows[0][2] = text // the column user_agent
			outcome := appendEach(t, tables, rows)[0]
			if outcome == nil || errors.Is(outcome, warehouse.ErrRejected) != rejected {
				t.Errorf("%s of %d bytes: %.300v, want it rejected: %v", method, len(text), outcome, rejected)
			}
		}
	}
}

// refuseRequest lets the fake store all requests except the n-th. It refuses the rows
// with the given indexes of that request, or the whole request if there are no indexes.
func (f *fake) refuseRequest(n int, indexes ...int64) {
	f.onAppend = func(i, _ int) (*storagepb.AppendRowsResponse, error) {
		if i == n {
			return refused(codes.InvalidArgument, "request refused", indexes...), nil
		}
		return stored, nil
	}
	inserts := 0
	f.onInsert = func([]any) (int, any) {
		if inserts++; inserts != n {
			return 200, map[string]any{}
		}
		var rows []any
		for _, i := range indexes {
			rows = append(rows, map[string]any{"index": i, "errors": []any{map[string]any{"reason": "invalid", "message": "bad value"}}})
		}
		if rows == nil {
			return 413, failure(413, "Request payload size exceeds the limit: 10485760 bytes.")
		}
		return 200, map[string]any{"insertErrors": rows}
	}
}

// An append may take several requests. If a later request refuses a row, the error names
// the row by its index in the append.
func TestARowOfALaterRequestIsNamedByItsIndexInTheAppend(t *testing.T) {
	t.Parallel()
	for method, last := range map[bigquerytables.Method]int{bigquerytables.StorageWrite: 2, bigquerytables.InsertAll: 3} {
		var rows []warehouse.Row // two requests of two rows each; with insertAll, in base64, requests of 1, 1 and 2 rows
		for i, size := range []int{warehouse.MaxPart, warehouse.MaxPart, warehouse.MaxPart, 1} {
			rows = append(rows, letterRows(warehouse.DeadLetter{Message: event.Message{ID: fmt.Sprint(i), Data: make([]byte, size)}})...)
		}
		f := withTables()
		f.refuseRequest(last, 1)
		err := serve(t, f, method).Append(t.Context(), letterTable, rows)
		r, ok := errors.AsType[*warehouse.RefusedError](err)
		if !ok || r.Certain || len(r.Rows) != 1 || r.Rows[3] == nil {
			t.Errorf("%s: %v, want row 3 refused", method, err)
		}
	}
}

// A row that is too large for any request is named by its index too, and its refusal is
// certain.
func TestARowThatIsTooLargeIsNamedForCertain(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		rows := rawRows(2)
		rows[1][2] = strings.Repeat("a", 9<<20+1) // the column user_agent
		f := withTables()
		f.refuseRequest(2)
		err := serve(t, f, method).Append(t.Context(), rawTable, rows)
		r, ok := errors.AsType[*warehouse.RefusedError](err)
		if !ok || !r.Certain || len(r.Rows) != 1 || r.Rows[1] == nil {
			t.Errorf("%s: %.300v, want row 1 refused for certain", method, err)
		}
	}
}

// If the table does not fit the schema, even a very large row is not rejected. It is
// stored after the table was repaired.
func TestALargeRowIsNotGivenUpForAFaultOfTheTable(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		rows := rawRows(1)
		rows[0][2] = strings.Repeat("a", 9<<20+1) // the column user_agent
		f := withTables()
		narrow(f.tables["raw"], "user_agent", map[string]any{"maxLength": "100"})
		f.refuseRequest(1)
		if err := appendEach(t, serve(t, f, method), rows)[0]; !errors.As(err, new(*warehouse.TableError)) {
			t.Errorf("%s: %.300v, want a TableError", method, err)
		}
	}
}

// If the dataset is in another location, queries find nothing in it. The error must say
// so.
func TestADatasetElsewhereIsNamed(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.location = "EU"
	f.onQuery = func(map[string]any) (int, any) { return 404, failure(404, "notFound") }
	tables := serve(t, f, bigquerytables.StorageWrite)
	from := time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)
	_, countErr := tables.CountRaw(t.Context(), []time.Time{from})
	_, estimateErr := tables.AuditBytes(t.Context(), from, from.Add(time.Hour))
	for _, err := range []error{tables.Create(t.Context()), countErr, estimateErr} {
		var fault *warehouse.TableError
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), "it is in EU, and BIGQUERY_LOCATION is US, fix with: BIGQUERY_LOCATION=EU") {
			t.Errorf("%v, want a TableError that names both places", err)
		}
	}
}

// Whoever has done the lab has a table in the place of the view. If Tidemark went on,
// everybody would read this table, and Tidemark would not write to it.
func TestATableInThePlaceOfAViewIsNamed(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.tables["windowed_traffic"] = map[string]any{"type": "TABLE"}
	tables := serve(t, f, bigquerytables.StorageWrite)
	now := time.Now().UTC()
	count := countRow(&warehouse.WindowCount{Start: now, End: now, PageViews: 1, WrittenAt: now})
	for _, err := range []error{
		tables.Append(t.Context(), countTable, []warehouse.Row{count}),
		tables.Create(t.Context()),
	} {
		var fault *warehouse.TableError
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), "it is a TABLE, want a view, fix with: ALTER TABLE `p.logs.windowed_traffic` RENAME TO windowed_traffic_old; CREATE VIEW `p.logs.windowed_traffic`") {
			t.Errorf("%v, want a TableError that says how to fix it", err)
		}
	}
	if f.applied != 0 {
		t.Errorf("%d counts published where nobody reads them", f.applied)
	}
}

// If an insert is repeated, its rows have the same insert ids as before. No two rows have
// the same id.
func TestInsertIDsAreTheRowsOwn(t *testing.T) {
	t.Parallel()
	f := withTables()
	tables := serve(t, f, bigquerytables.InsertAll)
	rows := rawRows(3)
	for range 2 {
		if err := tables.Append(t.Context(), rawTable, rows); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[string]int{}
	for _, row := range f.inserts {
		ids[row.(map[string]any)["insertId"].(string)]++
	}
	for id, n := range ids {
		if n != 2 || len(id) > 128 {
			t.Errorf("insert id %q is that of %d rows, want 2", id, n)
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d insert ids, want 3", len(ids))
	}
}

// The insert id of a raw row depends on its message, its window and whether it is late.
// So it is the same on each delivery of the message, and no other row has it.
func TestTheInsertIDOfARawRowIsThatOfItsMessage(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)
	row := warehouse.RawRow{Event: accesslog.Record{IP: "a"}.Event(), ProcessingTime: now, EventID: "1", MessageID: "1", PublishTime: now, WindowStart: now}
	same, message, window, late := row, row, row, row
	same.Event = accesslog.Record{IP: "b"}.Event()
	same.EventID, same.ProcessingTime, same.PublishTime = "2", now.Add(time.Second), now.Add(time.Second)
	message.MessageID = "2"
	window.WindowStart = now.Add(time.Minute)
	late.Late = true
	f := withTables()
	rows := []warehouse.Row{rawRow(&row), rawRow(&same), rawRow(&message), rawRow(&window), rawRow(&late)}
	if err := serve(t, f, bigquerytables.InsertAll).Append(t.Context(), rawTable, rows); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, inserted := range f.inserts {
		ids = append(ids, inserted.(map[string]any)["insertId"].(string))
	}
	slices.Sort(ids[1:])
	if distinct := slices.Compact(ids[1:]); len(distinct) != 4 || !slices.Contains(distinct, ids[0]) {
		t.Errorf("insert ids %q, want the first twice and three others", ids)
	}
}

// If an insert keeps failing for a temporary reason, it ends when the caller's deadline
// is over, with an error that rejects no row.
func TestAnInsertThatFailsForNowPasses(t *testing.T) {
	t.Parallel()
	for code, reason := range map[int]string{503: "backendError", 403: "quotaExceeded"} {
		f := withTables()
		f.onInsert = func([]any) (int, any) { return code, failure(code, reason) }
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		err := serve(t, f, bigquerytables.InsertAll).Append(ctx, rawTable, rawRows(1))
		cancel()
		if err == nil || errors.As(err, new(*warehouse.RefusedError)) || errors.As(err, new(*warehouse.TableError)) {
			t.Errorf("%s: %v, want neither a refusal nor a fault of the table", reason, err)
		}
	}
}

// Both APIs refuse requests of more than 10 MB, so a large append is divided into several
// requests.
func TestLargeAppendsAreCut(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := withTables()
		requests := 0
		f.onAppend = func(int, int) (*storagepb.AppendRowsResponse, error) { requests++; return stored, nil }
		f.onInsert = func([]any) (int, any) { requests++; return 200, map[string]any{} }
		letter := warehouse.DeadLetter{Reason: event.Empty, Message: event.Message{ID: "1", Data: make([]byte, 5*warehouse.MaxPart)}}
		rows := letterRows(letter)
		if err := serve(t, f, method).Append(t.Context(), letterTable, rows); err != nil {
			t.Fatal(err)
		}
		want := 3 // each with at most two parts of 4 MB
		if method == bigquerytables.InsertAll {
			want = 5 // one part each, in base64
		}
		if requests != want || f.applied+len(f.inserts) != len(rows) {
			t.Errorf("%s: %d requests of %d rows, want %d of %d", method, requests, f.applied+len(f.inserts), want, len(rows))
		}
	}
}
