package bigquerytables_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// If a stream was closed while it was idle, the next append notices this and opens the
// stream again.
func TestAStreamClosedWhileIdleIsOpenedAgain(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.idleCloses = true
	tables := serve(t, f, bigquerytables.StorageWrite)
	for range 3 {
		if err := tables.Append(t.Context(), rawTable, rawRows(2)); err != nil {
			t.Fatal(err)
		}
	}
	if f.applied < 6 || f.streams < 3 {
		t.Errorf("%d rows stored over %d connections, want at least 6 rows, and one connection for each append", f.applied, f.streams)
	}
}

// If a table was dropped, it is created again, even if an open stream is the first to
// report this.
func TestATableDroppedUnderAnOpenStreamIsMadeAgain(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]error{
		"not found": status.Error(codes.NotFound, "Requested entity was not found. Entity: projects/p/datasets/logs/tables/raw/streams/_default"),
		// This is BigQuery's answer to a caller who may not know whether the table
		// exists: https://github.com/googleapis/java-bigquerystorage/issues/1390
		"may not exist": status.Error(codes.PermissionDenied, "Permission 'TABLES_UPDATE_DATA' denied on resource 'raw' (or it may not exist)."),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := withTables()
			tables := serve(t, f, bigquerytables.StorageWrite)
			if err := tables.Append(t.Context(), rawTable, rawRows(1)); err != nil {
				t.Fatal(err)
			}
			f.mu.Lock()
			delete(f.tables, "raw")
			f.onAppend = func(int, int) (*storagepb.AppendRowsResponse, error) {
				if f.tables["raw"] == nil {
					return nil, gone
				}
				return stored, nil
			}
			f.mu.Unlock()
			if err := tables.Append(t.Context(), rawTable, rawRows(2)); err != nil {
				t.Fatal(err)
			}
			if f.applied != 3 {
				t.Errorf("%d rows stored, want 3", f.applied)
			}
		})
	}
}

// If opening a stream gets no answer, it is given up after half of the append's time.
// Another stream then takes the rows.
func TestAStreamThatDoesNotOpenIsGivenUp(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.hangOpen = 1
	tables := serve(t, f, bigquerytables.StorageWrite)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := tables.Append(ctx, rawTable, rawRows(2)); err != nil || f.applied != 2 {
		t.Errorf("%v, %d rows stored, want 2", err, f.applied)
	}
}

// After a table was repaired, or a quota is free again, appends succeed. If the first
// request on a stream was refused as a whole, it is not known whether the stream knows
// the schema of the rows, so that stream is not used again.
func TestAppendsGoOnAfterAFirstOneThatFailed(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]*storagepb.AppendRowsResponse{
		"refused":    refused(codes.InvalidArgument, "Input schema has more fields than BigQuery schema"),
		"over quota": refused(codes.ResourceExhausted, "Exceeds 'AppendRows throughput' quota"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := withTables()
			f.onAppend = func(n, _ int) (*storagepb.AppendRowsResponse, error) {
				if n == 1 {
					return first, nil
				}
				return stored, nil
			}
			tables := serve(t, f, bigquerytables.StorageWrite)
			if err := tables.Append(t.Context(), rawTable, rawRows(2)); err == nil {
				t.Fatal("the first append succeeded")
			}
			if err := tables.Append(t.Context(), rawTable, rawRows(2)); err != nil || f.applied != 2 {
				t.Errorf("after that: %v, %d rows stored, want 2", err, f.applied)
			}
		})
	}
}

// If the connection of many appends is cut, the first append that notices this opens
// another connection, and the others use it too. The test cuts the connection when all
// appends are open on it. An append that began later could be stored on a connection that
// is given up.
func TestManyAppendsOfAConnectionThatIsCutShareTheNext(t *testing.T) {
	t.Parallel()
	const appends = 50
	f := withTables()
	f.onAppend = func(n, _ int) (*storagepb.AppendRowsResponse, error) {
		switch {
		case f.streams > 1:
			return stored, nil
		case n < appends:
			return nil, nil
		}
		return nil, status.Error(codes.Unavailable, "connection reset")
	}
	tables := serve(t, f, bigquerytables.StorageWrite)
	var all sync.WaitGroup
	for range appends {
		all.Go(func() {
			if err := tables.Append(t.Context(), rawTable, rawRows(1)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if f.streams != 2 || f.applied != appends {
		t.Errorf("%d connections, %d rows stored, want 2 and %d", f.streams, f.applied, appends)
	}
}

// A connection may keep using the columns that the table had when it was opened. Users of
// https://github.com/googleapis/java-bigquerystorage/issues/1465 found this, and open
// another connection. So does the warehouse after a whole request was refused, even on a
// connection that has worked before.
func TestAStreamIsOpenedAnewAfterARefusalOfAWholeRequest(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.onAppend = func(n, _ int) (*storagepb.AppendRowsResponse, error) {
		if n > 1 && f.streams == 1 {
			return refused(codes.InvalidArgument, "Input schema has more fields than BigQuery schema"), nil
		}
		return stored, nil
	}
	tables := serve(t, f, bigquerytables.StorageWrite)
	for n := 1; n <= 4; n++ {
		if err := tables.Append(t.Context(), rawTable, rawRows(2)); (err == nil) != (n != 2) {
			t.Errorf("append %d: %v", n, err)
		}
	}
	if f.streams != 2 || f.applied != 6 {
		t.Errorf("%d connections, %d rows stored, want 2 and 6", f.streams, f.applied)
	}
}

// After an answer about a quota or a bad row, the connection is still good, and is used
// again.
func TestAnAnswerKeepsTheConnection(t *testing.T) {
	t.Parallel()
	f := withTables()
	f.onAppend = func(n, _ int) (*storagepb.AppendRowsResponse, error) {
		switch n {
		case 2:
			return refused(codes.ResourceExhausted, "Exceeds 'AppendRows throughput' quota"), nil
		case 3:
			return refused(codes.InvalidArgument, "Errors found while processing rows", 1), nil
		}
		return stored, nil
	}
	tables := serve(t, f, bigquerytables.StorageWrite)
	for n := 1; n <= 4; n++ {
		if err := tables.Append(t.Context(), rawTable, rawRows(2)); (err == nil) != (n == 1 || n == 4) {
			t.Errorf("append %d: %v", n, err)
		}
	}
	if f.streams != 1 {
		t.Errorf("%d connections, want 1", f.streams)
	}
}
