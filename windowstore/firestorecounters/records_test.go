package firestorecounters_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

func TestAPipelineIsRecordedOnceAndItsTablesAreItsOwn(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		db := on.open(t)
		create := func(pipeline, raw, agg string) error {
			return db.Pipeline(pipeline).CreatePipeline(t.Context(), sharded.PipelineRecord{Meaning: windowstore.Meaning{
				WindowDuration: time.Minute, EventTime: "payload", EventID: "attribute:id", RawTable: raw, AggTable: agg,
			}})
		}
		if err := create("p", "raw", "agg"); err != nil {
			t.Fatal(err)
		}
		for _, other := range [][3]string{
			{"p", "raw2", "agg2"},
			{"q", "raw", "agg2"}, {"q", "raw2", "agg"}, {"q", "agg", "agg2"}, {"q", "raw2", "raw"},
		} {
			if err := create(other[0], other[1], other[2]); !errors.Is(err, sharded.ErrExists) {
				t.Errorf("create %v: %v, want ErrExists", other, err)
			}
		}
		if err := create("q", "raw2", "agg2"); err != nil {
			t.Errorf("a refused pipeline left something behind: %v", err)
		}
		records, err := db.Pipeline("r").Pipelines(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := windowstore.Meaning{WindowDuration: time.Minute, EventTime: "payload", EventID: "attribute:id", RawTable: "raw", AggTable: "agg"}
		if diff := cmp.Diff(want, records["p"].Meaning); diff != "" || len(records) != 2 {
			t.Errorf("%d records, want 2; that of p (-want +got):\n%s", len(records), diff)
		}
	})
}

// Other programs may have documents in the same database, even in a collection of the
// same name.
func TestDocumentsOfOthersAreNoPipelines(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		text := func(s string) *pb.Value { return &pb.Value{ValueType: &pb.Value_StringValue{StringValue: s}} }
		on.put(t, "pipelines/empty", nil)
		on.put(t, "pipelines/other", map[string]*pb.Value{"window_duration": text("a minute"), "raw_table": text("raw_p")})
		on.put(t, "pipelines/number", map[string]*pb.Value{"window_duration": {ValueType: &pb.Value_IntegerValue{IntegerValue: 60}}})
		on.put(t, "pipelines/half", map[string]*pb.Value{"window_duration": text("1m0s"), "least_kept": text("long")})
		db := on.open(t)
		store := newStore(db.Pipeline("p"))
		if err := add(t.Context(), store, 1, 0, 5); err != nil {
			t.Fatalf("Add beside documents of others: %v", err)
		}
		if least, err := store.KeepAtLeast(t.Context(), time.Hour); least != time.Hour || err != nil {
			t.Errorf("KeepAtLeast beside documents of others: %v, %v", least, err)
		}
		records, err := db.Pipeline("p").Pipelines(t.Context())
		if _, found := records["p"]; err != nil || !found || len(records) != 1 {
			t.Errorf("records: %v, %v; want only that of p", records, err)
		}
		for _, name := range []string{"empty", "other", "number", "half"} {
			_, err := db.Pipeline(name).Pipelines(t.Context())
			if err == nil || !strings.Contains(err.Error(), "pipelines/"+name) || !strings.Contains(err.Error(), "PIPELINE") {
				t.Errorf("a pipeline with the name of such a document: %v, want an error that names both", err)
			}
		}
	})
}

func TestLeastKeptIsLoweredOnlyAsTheRecordWasRead(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		docs := on.open(t).Pipeline("p")
		if err := docs.CreatePipeline(t.Context(), sharded.PipelineRecord{Meaning: meaning("p")}); err != nil {
			t.Fatal(err)
		}
		read := func() sharded.PipelineRecord {
			records, err := docs.Pipelines(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return records["p"]
		}
		first := read()
		if err := docs.LowerLeastKept(t.Context(), 3*time.Hour, first.UpdateTime); err != nil {
			t.Fatal(err)
		}
		if err := docs.LowerLeastKept(t.Context(), 5*time.Hour, first.UpdateTime); !errors.Is(err, sharded.ErrPrecondition) {
			t.Errorf("with the update time of an earlier read: %v, want ErrPrecondition", err)
		}
		want := sharded.PipelineRecord{Meaning: first.Meaning, LeastKept: 3 * time.Hour, UpdateTime: read().UpdateTime}
		if diff := cmp.Diff(want, read()); diff != "" || !want.UpdateTime.After(first.UpdateTime) {
			t.Errorf("the record (-want +got), updated at %v and before at %v:\n%s", want.UpdateTime, first.UpdateTime, diff)
		}
	})
}

func TestAReaderOfAWindowMayStop(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		docs := on.open(t).Pipeline("p")
		for range 2 {
			if err := add(t.Context(), newStore(docs), 1, 0, 3); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for _, err := range docs.QueryWindow(t.Context(), minute(1)) {
			if n++; err != nil {
				t.Fatal(err)
			}
			break
		}
		if n != 1 {
			t.Errorf("%d batches, want 1", n)
		}
	})
}

func TestTryWriteWritesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		register(t, on)
		if err := on.open(t).TryWrite(t.Context(), "p"); err != nil {
			t.Error(err)
		}
		if shards := on.shards(t); len(shards) != 1 {
			t.Errorf("%d documents, want only the one that was there before: %v", len(shards), shards)
		}
	})
}

func TestTryWriteReportsARefusal(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		option, _ := calls("Commit", func(int, func() error) error { return status.Error(codes.PermissionDenied, "no") })
		if err := on.open(t, option).TryWrite(t.Context(), "p"); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%v, want PermissionDenied", err)
		}
	})
}
