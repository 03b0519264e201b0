package firestorecounters_test

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	firestore "cloud.google.com/go/firestore/apiv1"
	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/tidemark-dev/tidemark/internal/memfirestore"
	"github.com/tidemark-dev/tidemark/internal/test/emulator"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/firestorecounters"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

var end = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

func minute(n int) time.Time { return time.Unix(int64(n)*60, 0).UTC() }

// keys returns the keys of the numbers from, from+1, ..., to-1.
func keys(from, to int) []windowstore.Key {
	ks := make([]windowstore.Key, to-from)
	for i := range ks {
		binary.BigEndian.PutUint64(ks[i][:], uint64(from+i)*0x9e3779b97f4a7c15) // spreads the keys over all values
	}
	return ks
}

func meaning(pipeline string) windowstore.Meaning {
	return windowstore.Meaning{
		WindowDuration: time.Minute, EventTime: "payload", EventID: "message",
		RawTable: "raw_" + pipeline, AggTable: "agg_" + pipeline,
	}
}

// A place is a Firestore that only one test uses.
type place struct {
	host, project string
	memory        *memfirestore.Server // nil if it is the emulator
}

// onEach runs the test on Firestore's API in memory, and also on the emulator if there is
// one.
func onEach(t *testing.T, test func(t *testing.T, on place)) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		server := memfirestore.New(time.Now)
		test(t, place{server.Start(t), "p", server})
	})
	t.Run("emulator", func(t *testing.T) {
		t.Parallel()
		test(t, place{emulator.Firestore(t), emulator.Project(), nil})
	})
}

// another returns an empty Firestore of the same kind.
func (on place) another(t testing.TB) place {
	if on.memory == nil {
		return place{on.host, emulator.Project(), nil}
	}
	server := memfirestore.New(time.Now)
	return place{server.Start(t), "p", server}
}

// open opens the place's database.
func (on place) open(t testing.TB, options ...grpc.DialOption) *firestorecounters.Database {
	t.Helper()
	return openAs(t, firestorecounters.Config{Project: on.project, EmulatorHost: on.host, DialOptions: options})
}

func openAs(t testing.TB, config firestorecounters.Config) *firestorecounters.Database {
	t.Helper()
	db, err := firestorecounters.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// root returns the beginning of the names of all documents.
func (on place) root() string {
	return "projects/" + on.project + "/databases/(default)/documents/"
}

// shards returns the documents of all shards. It shares no code with the program.
func (on place) shards(t testing.TB) (shards []*pb.Document) {
	t.Helper()
	if on.memory != nil {
		for _, doc := range on.memory.Documents(on.root() + "pipelines/") {
			if strings.Contains(doc.Name, "/counter_shards/") {
				shards = append(shards, doc)
			}
		}
		return shards
	}
	client := on.client(t)
	pipelines := &pb.ListDocumentsRequest{Parent: strings.TrimSuffix(on.root(), "/"), CollectionId: "pipelines"}
	for pipeline, err := range client.ListDocuments(administrator(t.Context()), pipelines).All() {
		if err != nil {
			t.Fatal(err)
		}
		request := &pb.ListDocumentsRequest{Parent: pipeline.Name, CollectionId: "counter_shards", PageSize: 300}
		for shard, err := range client.ListDocuments(administrator(t.Context()), request).All() {
			if err != nil {
				t.Fatal(err)
			}
			shards = append(shards, shard)
		}
	}
	return shards
}

// expire deletes the shards that have expired at now, as Firestore's TTL policy does.
func (on place) expire(t testing.TB, now time.Time) {
	t.Helper()
	for _, doc := range on.shards(t) {
		at, ok := doc.Fields["expire_at"]
		switch {
		case !ok || at.GetTimestampValue().AsTime().After(now):
		case on.memory != nil:
			on.memory.Delete(doc.Name)
		default:
			if err := on.client(t).DeleteDocument(administrator(t.Context()), &pb.DeleteDocumentRequest{Name: doc.Name}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// put stores a document that does not belong to the counters.
func (on place) put(t testing.TB, name string, fields map[string]*pb.Value) {
	t.Helper()
	if on.memory != nil {
		on.memory.Put(on.root()+name, fields)
		return
	}
	request := &pb.UpdateDocumentRequest{Document: &pb.Document{Name: on.root() + name, Fields: fields}}
	if _, err := on.client(t).UpdateDocument(administrator(t.Context()), request); err != nil {
		t.Fatal(err)
	}
}

// client returns a client of the emulator.
func (on place) client(t testing.TB) *firestore.Client {
	t.Helper()
	conn, err := grpc.NewClient(on.host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	client, err := firestore.NewClient(t.Context(), option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func administrator(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer owner")
}

func newStore(docs sharded.Documents) *sharded.Store {
	return sharded.New(sharded.Config{
		Documents: docs, Pipeline: "p", Meaning: meaning("p"), Writer: sharded.NewWriter(), Now: time.Now,
	})
}

func add(ctx context.Context, store windowstore.Store, window, from, to int) error {
	return store.Add(ctx, []windowstore.Increment{{Window: minute(window), Keys: keys(from, to)}})
}

func wantCount(t *testing.T, store windowstore.Store, window, want int) {
	t.Helper()
	if n, err := store.Count(t.Context(), minute(window)); err != nil || n != int64(want) {
		t.Errorf("count of %v is %d, %v; want %d", minute(window), n, err, want)
	}
}

func pending(t *testing.T, store windowstore.Store) []windowstore.PendingWindow {
	t.Helper()
	var windows []windowstore.PendingWindow
	for w, err := range store.Pending(t.Context(), time.Time{}, end) {
		if err != nil {
			t.Fatal(err)
		}
		windows = append(windows, w)
	}
	return windows
}
