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

// appendEach appends the rows to raw as a push does.
func appendEach(t *testing.T, tables *bigquerytables.Tables, rows []warehouse.Row) []error {
	t.Helper()
	return warehouse.AppendEach(t.Context(), rows, func(ctx context.Context, rows []warehouse.Row) error {
		return tables.Append(ctx, rawTable, rows)
	})
}

// refused is an append that failed inside the response, as
// https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#appendrowsresponse
// says: with row_errors, nothing of the request was appended.
func refused(code codes.Code, message string, rows ...int64) *storagepb.AppendRowsResponse {
	r := &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_Error{
		Error: &rpcstatus.Status{Code: int32(code), Message: message},
	}}
	for _, i := range rows {
		r.RowErrors = append(r.RowErrors, &storagepb.RowError{Index: i, Code: storagepb.RowError_FIELDS_ERROR, Message: "bad value"})
	}
	return r
}

// Each failure has its class: the retry that is right depends on it.
func TestAppendFailures(t *testing.T) {
	t.Parallel()
	passing := func(err error) error {
		if errors.As(err, new(*warehouse.RefusedError)) || errors.As(err, new(*warehouse.TableError)) || err == nil {
			return fmt.Errorf("%v, want an error that passes", err)
		}
		return nil
	}
	none := func(err error) error { return err }
	for _, test := range []struct {
		name    string
		answers func(n, rows int) (*storagepb.AppendRowsResponse, error)
		want    func(error) error
		applied int // where it is none, the caller's time runs out
	}{
		// https://cloud.google.com/bigquery/docs/write-api-best-practices: reconnect and try again.
		{"unavailable once", func(n, _ int) (*storagepb.AppendRowsResponse, error) {
			if n == 1 {
				return nil, status.Error(codes.Unavailable, "try again")
			}
			return stored, nil
		}, none, 3},
		{"unavailable for good", func(int, int) (*storagepb.AppendRowsResponse, error) {
			return nil, status.Error(codes.Unavailable, "try again")
		}, passing, 0},
		// https://github.com/googleapis/nodejs-bigquery-storage/issues/427
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
		// https://github.com/googleapis/google-cloud-go/issues/6595
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
				limit = 20 * time.Second // of which half is waited for an answer that never comes
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

// An append that was applied and not answered is appended again: at least once, and
// never lost.
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
		columns := append([]warehouse.Column{}, rawTable.Columns[1:]...) // without ip
		columns[0].Type = warehouse.Integer                              // user_id
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

// A column that has been narrowed refuses long values only, so the refusal names their
// rows and the others would pass: https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#parameterized_data_types
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
			const want = "column user_agent is STRING(100), want STRING, mend with: ALTER TABLE `p.logs.raw` ALTER COLUMN `user_agent` SET DATA TYPE STRING"
			if !errors.As(err, new(*warehouse.TableError)) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: row %d: %v, want a TableError that says %q", method, i, err, want)
			}
		}
	}
}

// A table that has lost a column is, once that is added anew, as it was made: BigQuery
// adds NULLABLE columns only.
// https://cloud.google.com/bigquery/docs/managing-table-schemas#add_an_empty_column
func TestNoColumnIsMadeRequired(t *testing.T) {
	t.Parallel()
	f := &fake{}
	if err := serve(t, f, bigquerytables.StorageWrite).Make(t.Context()); err != nil {
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

// A process that ended before it had made the views leaves them to the next one that
// publishes counts, which looks for them once.
func TestViewsThatAreMissingAreMade(t *testing.T) {
	t.Parallel()
	f := withTables()
	tables := serve(t, f, bigquerytables.StorageWrite)
	if err := tables.Append(t.Context(), rawTable, rawRows(1)); err != nil {
		t.Fatal(err)
	}
	if f.creates != 0 {
		t.Errorf("a push made %d views, which it does not need", f.creates)
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
			t.Errorf("view %s was not made", view)
		}
	}
	if f.creates != 3 || f.applied != 3 || f.gets != 0 {
		t.Errorf("%d views made, %d rows stored, %d views read again, want 3, 3 and none", f.creates, f.applied, f.gets)
	}
}

// What another process makes at the same time is as good, if it is as it must be.
func TestTablesThatAnotherProcessMakesAreUsed(t *testing.T) {
	t.Parallel()
	right := withTables()
	f := &fake{rival: func(name string) map[string]any {
		if right.tables[name] == nil { // a view
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

// Who is not allowed to look at the table does not know whose fault a refusal is.
func TestNothingIsRejectedWhileTheTableCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := withTables()
		f.denies = true
		f.refuseFirst(true)
		err := appendEach(t, serve(t, f, method), rawRows(1))[0]
		if err == nil || errors.As(err, new(*warehouse.RefusedError)) || errors.Is(err, warehouse.ErrRejected) || !strings.Contains(err.Error(), "accessDenied") {
			t.Errorf("%s: %v, want an error that passes and says why", method, err)
		}
	}
}

// A table that was made may not be seen by appends for a while, as users report of
// streaming: https://github.com/googleapis/google-cloud-python/issues/4553. The rows
// that met none are appended once it is seen, and the tables are made once.
func TestRowsWaitUntilANewTableIsSeen(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		f := &fake{unseen: 4}
		if err := serve(t, f, method).Append(t.Context(), rawTable, rawRows(3)); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		f.mu.Lock()
		if n := f.applied + len(f.inserts); n != 3 || f.creates != 6 || f.unseen >= 0 {
			t.Errorf("%s: %d rows stored, %d tables and views made, %d answers left, want 3, 6 and none", method, n, f.creates, f.unseen)
		}
		f.mu.Unlock()
	}
}

// Between two looks for a new table there is a pause.
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

// By https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll one
// bad row stops all, and the others come back as stopped.
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

// Of the reasons of https://cloud.google.com/bigquery/docs/error-messages some pass. Where
// a row has one, nothing is known of the others.
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
				t.Errorf("%s and %s: %v, want an error that passes and says why", first, reason, err)
			}
		}
	}
}

// What an audit reads is said by a dry run, which is not billed and answers with the
// bytes: https://cloud.google.com/bigquery/docs/running-queries#dry-run
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

// A column that was just added is in the table before streaming inserts see it. It is
// nobody's own fault meanwhile, or events that have a value for it would be given up.
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
	rows[0][3] = 48.8566 // lat
	tables := serve(t, f, bigquerytables.InsertAll)
	for i, err := range appendEach(t, tables, rows) {
		if err == nil || errors.Is(err, warehouse.ErrRejected) {
			t.Errorf("row %d: %v, want an error that passes", i, err)
		}
	}
}

// refuseFirst has the fake refuse every append, and name its first row or none.
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

// methods are the ways to append rows.
var methods = []bigquerytables.Method{bigquerytables.StorageWrite, bigquerytables.InsertAll}

// A row that is refused alone has no mate to be told from a fault of the table, and
// needs none: the table is as the schema says.
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

// Appends may go by the columns of before for minutes after a change, as users of
// https://github.com/googleapis/java-bigquerystorage/issues/1465 do. What they refuse
// then is no fault of the rows.
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

// A refusal that names no row is mostly one of the whole request, for its schema. A row
// alone is given up for that when the table has long been as it must be.
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
			t.Errorf("%s: two rows: %v, want a refusal that names none", method, err)
		}
	}
}

// A request may be refused for a column that the table has: the column is new, and
// appends do not see it yet. No row is at fault for that, however long it takes. The code
// is that of https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#storageerrorcode
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
			t.Errorf("%v, want an error that passes", err)
		}
		now = now.Add(time.Hour)
	}
}

// A row that no request can carry is refused for ever, also where it has no mates.
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
			rows[0][2] = text // user_agent
			outcome := appendEach(t, tables, rows)[0]
			if outcome == nil || errors.Is(outcome, warehouse.ErrRejected) != rejected {
				t.Errorf("%s of %d bytes: %.300v, want it rejected: %v", method, len(text), outcome, rejected)
			}
		}
	}
}

// refuseRequest has the fake store all requests but the n-th, of which it refuses the
// rows of the given indexes, or the whole.
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

// An append may take several requests. A row that the last of them refuses is named by
// its index in the append.
func TestARowOfALaterRequestIsNamedByItsIndexInTheAppend(t *testing.T) {
	t.Parallel()
	for method, last := range map[bigquerytables.Method]int{bigquerytables.StorageWrite: 2, bigquerytables.InsertAll: 3} {
		var rows []warehouse.Row // requests of 2 and 2 rows of so many bytes; in base64 of 1, 1 and 2
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

// So is a row that no request can carry, which is known for certain.
func TestARowThatIsTooLargeIsNamedForCertain(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		rows := rawRows(2)
		rows[1][2] = strings.Repeat("a", 9<<20+1) // user_agent
		f := withTables()
		f.refuseRequest(2)
		err := serve(t, f, method).Append(t.Context(), rawTable, rows)
		r, ok := errors.AsType[*warehouse.RefusedError](err)
		if !ok || !r.Certain || len(r.Rows) != 1 || r.Rows[1] == nil {
			t.Errorf("%s: %.300v, want row 1 refused for certain", method, err)
		}
	}
}

// A row that is near the limit may be refused for a fault of the table, and is stored
// once that is repaired.
func TestALargeRowIsNotGivenUpForAFaultOfTheTable(t *testing.T) {
	t.Parallel()
	for _, method := range methods {
		rows := rawRows(1)
		rows[0][2] = strings.Repeat("a", 9<<20+1) // user_agent
		f := withTables()
		narrow(f.tables["raw"], "user_agent", map[string]any{"maxLength": "100"})
		f.refuseRequest(1)
		if err := appendEach(t, serve(t, f, method), rows)[0]; !errors.As(err, new(*warehouse.TableError)) {
			t.Errorf("%s: %.300v, want a TableError", method, err)
		}
	}
}

// In a dataset that is elsewhere queries find nothing, whatever is there.
func TestADatasetElsewhereIsNamed(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.location = "EU"
	f.onQuery = func(map[string]any) (int, any) { return 404, failure(404, "notFound") }
	tables := serve(t, f, bigquerytables.StorageWrite)
	from := time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)
	_, countErr := tables.CountRaw(t.Context(), []time.Time{from})
	_, estimateErr := tables.AuditBytes(t.Context(), from, from.Add(time.Hour))
	for _, err := range []error{tables.Make(t.Context()), countErr, estimateErr} {
		var fault *warehouse.TableError
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), "it is in EU, and BIGQUERY_LOCATION is US, mend with: BIGQUERY_LOCATION=EU") {
			t.Errorf("%v, want a TableError that names both places", err)
		}
	}
}

// Who did the lab has a table where the view is to be. Everybody would go on reading
// it, and nobody write it.
func TestATableInThePlaceOfAViewIsNamed(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.tables["windowed_traffic"] = map[string]any{"type": "TABLE"}
	tables := serve(t, f, bigquerytables.StorageWrite)
	now := time.Now().UTC()
	count := countRow(&warehouse.WindowCount{Start: now, End: now, PageViews: 1, WrittenAt: now})
	for _, err := range []error{
		tables.Append(t.Context(), countTable, []warehouse.Row{count}),
		tables.Make(t.Context()),
	} {
		var fault *warehouse.TableError
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), "it is a TABLE, want a view, mend with: ALTER TABLE `p.logs.windowed_traffic` RENAME TO windowed_traffic_old; CREATE VIEW `p.logs.windowed_traffic`") {
			t.Errorf("%v, want a TableError that says how to mend it", err)
		}
	}
	if f.applied != 0 {
		t.Errorf("%d counts published where nobody reads them", f.applied)
	}
}

// A repeated insert has the same ids, and no two rows of it share one.
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

// The id of a raw row is that of its message in its window, counted or late: the same on
// each delivery, and no other row has it.
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

// An insert that fails for now ends with the caller's time, not when it succeeds.
func TestAnInsertThatFailsForNowPasses(t *testing.T) {
	t.Parallel()
	for code, reason := range map[int]string{503: "backendError", 403: "quotaExceeded"} {
		f := withTables()
		f.onInsert = func([]any) (int, any) { return code, failure(code, reason) }
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		err := serve(t, f, bigquerytables.InsertAll).Append(ctx, rawTable, rawRows(1))
		cancel()
		if err == nil || errors.As(err, new(*warehouse.RefusedError)) || errors.As(err, new(*warehouse.TableError)) {
			t.Errorf("%s: %v, want an error that passes", reason, err)
		}
	}
}

// Both APIs refuse a request of 10 MB.
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
		want := 3 // of two parts of 4 MB each
		if method == bigquerytables.InsertAll {
			want = 5 // in base64
		}
		if requests != want || f.applied+len(f.inserts) != len(rows) {
			t.Errorf("%s: %d requests of %d rows, want %d of %d", method, requests, f.applied+len(f.inserts), want, len(rows))
		}
	}
}
