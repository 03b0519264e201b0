package firestorecounters_test

import (
	"context"
	"strings"
	"testing"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tidemark-dev/tidemark/internal/memfirestore"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/firestorecounters"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// The table has every request completely, so that nothing else can be in a request, for
// example a transaction or a read in the past. DOCS stands for the name under which all
// documents of the database are.
func TestRequestsToFirestore(t *testing.T) {
	t.Parallel()
	shard := sharded.ShardInfo{Name: "s", Window: minute(1), CreateTime: time.Unix(7, 0), UpdateTime: time.Unix(9, 1000)}
	for name, test := range map[string]struct {
		call func(ctx context.Context, docs sharded.Documents)
		want string
	}{
		"a merge": {func(ctx context.Context, docs sharded.Documents) {
			docs.Merge(ctx, []sharded.ShardWrite{{Name: "s", Window: minute(1), Count: 5, Key: "2a", Batch: []byte("ids")}})
		}, `writes {
			update {
				name: "DOCS/pipelines/n/counter_shards/s"
				fields { key: "window"  value { timestamp_value { seconds: 60 } } }
				fields { key: "pending" value { timestamp_value { seconds: 60 } } }
				fields { key: "batches" value { map_value { fields { key: "2a" value { bytes_value: "ids" } } } } }
			}
			update_mask { field_paths: "window" field_paths: "pending" field_paths: "batches.` + "`2a`" + `" field_paths: "expire_at" }
			update_transforms { field_path: "count" maximum { integer_value: 5 } }
		}`},
		"a settle": {func(ctx context.Context, docs sharded.Documents) {
			docs.Settle(ctx, []sharded.ShardInfo{shard}, time.Unix(3600, 0))
		}, `writes {
			update {
				name: "DOCS/pipelines/n/counter_shards/s"
				fields { key: "expire_at" value { timestamp_value { seconds: 3600 } } }
			}
			update_mask { field_paths: "pending" field_paths: "expire_at" }
			current_document { update_time { seconds: 9 nanos: 1000 } }
		}`},
		"the first page of pending shards": {func(ctx context.Context, docs sharded.Documents) {
			docs.QueryPending(ctx, sharded.Cursor{Window: minute(1)}, minute(2), 7)
		}, pendingQuery(`start_at { before: true values { timestamp_value { seconds: 60 } } }`)},
		"a later page": {func(ctx context.Context, docs sharded.Documents) {
			docs.QueryPending(ctx, sharded.Cursor{Window: minute(1), Name: "s"}, minute(2), 7)
		}, pendingQuery(`start_at {
			values { timestamp_value { seconds: 60 } }
			values { reference_value: "DOCS/pipelines/n/counter_shards/s" }
		}`)},
		"a window": {func(ctx context.Context, docs sharded.Documents) {
			for range docs.QueryWindow(ctx, minute(1)) {
			}
		}, `parent: "DOCS/pipelines/n" structured_query {
			select { fields { field_path: "batches" } }
			from { collection_id: "counter_shards" }
			where { field_filter { field { field_path: "window" } op: EQUAL value { timestamp_value { seconds: 60 } } } }
		}`},
		"the pipelines": {func(ctx context.Context, docs sharded.Documents) {
			docs.Pipelines(ctx)
		}, `parent: "DOCS" structured_query { from { collection_id: "pipelines" } }`},
		"a new pipeline": {func(ctx context.Context, docs sharded.Documents) {
			docs.CreatePipeline(ctx, sharded.PipelineRecord{Meaning: windowstore.Meaning{
				WindowDuration: time.Minute, EventTime: "payload", EventID: "attribute:id", RawTable: "d.raw", AggTable: "d.agg",
			}})
		}, `writes {
			update {
				name: "DOCS/pipelines/n"
				fields { key: "window_duration" value { string_value: "1m0s" } }
				fields { key: "event_time" value { string_value: "payload" } }
				fields { key: "event_id" value { string_value: "attribute:id" } }
				fields { key: "raw_table" value { string_value: "d.raw" } }
				fields { key: "agg_table" value { string_value: "d.agg" } }
			}
			current_document { exists: false }
		}
		writes {
			update { name: "DOCS/tables/d.raw" fields { key: "pipeline" value { string_value: "n" } } }
			current_document { exists: false }
		}
		writes {
			update { name: "DOCS/tables/d.agg" fields { key: "pipeline" value { string_value: "n" } } }
			current_document { exists: false }
		}`},
		"a retention": {func(ctx context.Context, docs sharded.Documents) {
			docs.LowerLeastKept(ctx, time.Hour, time.Unix(9, 1000))
		}, `writes {
			update { name: "DOCS/pipelines/n" fields { key: "least_kept" value { string_value: "1h0m0s" } } }
			update_mask { field_paths: "least_kept" }
			current_document { update_time { seconds: 9 nanos: 1000 } }
		}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := memfirestore.New(time.Now)
			db := openAs(t, firestorecounters.Config{Project: "p", Database: "d", EmulatorHost: server.Start(t)})
			test.call(t.Context(), db.Pipeline("n"))
			asked := server.Requests()
			if len(asked) != 1 {
				t.Fatalf("%d requests, want one", len(asked))
			}
			want := asked[0].ProtoReflect().New().Interface()
			text := strings.ReplaceAll(test.want, "DOCS", "projects/p/databases/d/documents")
			if _, isQuery := want.(*pb.RunQueryRequest); !isQuery {
				text = `database: "projects/p/databases/d" ` + text
			}
			if err := prototext.Unmarshal([]byte(text), want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, asked[0], protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func pendingQuery(start string) string {
	return `parent: "DOCS/pipelines/n" structured_query {
		select { fields { field_path: "window" } }
		from { collection_id: "counter_shards" }
		where { field_filter { field { field_path: "pending" } op: LESS_THAN_OR_EQUAL value { timestamp_value { seconds: 120 } } } }
		order_by { field { field_path: "pending" } direction: ASCENDING }
		order_by { field { field_path: "__name__" } direction: ASCENDING }
		limit { value: 7 }
		` + start + `}`
}

// The times of a shard are those that Firestore gives to its document. The time of a
// query is Firestore's too.
func TestTimesAreThoseOfFirestore(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		docs := on.open(t).Pipeline("p")
		store := sharded.New(sharded.Config{
			Documents: docs, Pipeline: "p", Meaning: meaning("p"), Writer: sharded.NewWriter(),
			Now: jumping(), // so that the store writes to the same document again
		})
		for i := range 2 {
			if err := add(t.Context(), store, 1, i, i+1); err != nil {
				t.Fatal(err)
			}
		}
		page, readTime, err := docs.QueryPending(t.Context(), sharded.Cursor{}, end, 7)
		if err != nil || len(page) != 1 {
			t.Fatalf("pending: %v, %v; want one shard", page, err)
		}
		stored := on.shards(t)[0]
		got := []time.Time{page[0].CreateTime, page[0].UpdateTime, page[0].Window}
		want := []time.Time{stored.CreateTime.AsTime(), stored.UpdateTime.AsTime(), minute(1)}
		if diff := cmp.Diff(want, got); diff != "" || !got[1].After(got[0]) {
			t.Errorf("creation, update and window of the shard (-want +got):\n%s", diff)
		}
		if readTime.Before(got[1]) {
			t.Errorf("the read time %v is before the last write at %v", readTime, got[1])
		}
	})
}

func TestTheReadTimeIsByTheServicesClock(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	server := memfirestore.New(func() time.Time { return noon })
	docs := openAs(t, firestorecounters.Config{Project: "p", EmulatorHost: server.Start(t)}).Pipeline("p")
	_, readTime, err := docs.QueryPending(t.Context(), sharded.Cursor{}, end, 7)
	if err != nil || !readTime.Equal(noon) {
		t.Errorf("read at %v, %v; want %v", readTime, err, noon)
	}
}

// If a batch that cannot be read were ignored, a count would be too low.
func TestADocumentThatIsNoShardIsAnError(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		window := &pb.Value{ValueType: &pb.Value_TimestampValue{TimestampValue: timestamppb.New(minute(1))}}
		text := &pb.Value{ValueType: &pb.Value_StringValue{StringValue: "ids"}}
		for name, fields := range map[string]map[string]*pb.Value{
			"no batches":             {"window": window},
			"batches that are text":  {"window": window, "batches": text},
			"a batch that is text":   {"window": window, "batches": {ValueType: &pb.Value_MapValue{MapValue: &pb.MapValue{Fields: map[string]*pb.Value{"0": text}}}}},
			"no window, but pending": {"pending": window},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				on := on.another(t)
				on.put(t, "pipelines/p/counter_shards/foreign", fields)
				store := newStore(on.open(t).Pipeline("p"))
				var err error
				if fields["window"] != nil {
					_, err = store.Count(t.Context(), minute(1))
				} else {
					for _, pendingErr := range store.Pending(t.Context(), time.Time{}, end) {
						err = pendingErr
					}
				}
				if err == nil || !strings.Contains(err.Error(), "shard foreign: field") {
					t.Errorf("%v, want an error that names the shard and the field", err)
				}
			})
		}
	})
}

// If Firestore does not return one status for each write, it is not known which write a
// status is for. So every write of the request counts as failed.
func TestASettleWithoutAnAnswerForEachShardIsAnError(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		option := grpc.WithChainUnaryInterceptor(func(ctx context.Context, name string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoke(ctx, name, req, reply, cc, opts...)
			if response, ok := reply.(*pb.BatchWriteResponse); ok && err == nil {
				response.Status = response.Status[1:]
			}
			return err
		})
		errs := on.open(t, option).Pipeline("p").Settle(t.Context(), []sharded.ShardInfo{{Name: "a", UpdateTime: minute(1)}, {Name: "b", UpdateTime: minute(1)}}, end)
		for i, err := range errs {
			if err == nil || !strings.Contains(err.Error(), "1 answers for 2 writes") {
				t.Errorf("shard %d: %v, want an error that says so", i, err)
			}
		}
	})
}
