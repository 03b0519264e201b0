package firestoredocs_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/tidemark-dev/tidemark/internal/emulator"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/firestoredocs"
	"github.com/tidemark-dev/tidemark/windowstore/shardstore"
)

var end = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

func minute(n int) time.Time { return time.Unix(int64(n)*60, 0).UTC() }

// keys returns the keys from, from+1, ... below to.
func keys(from, to int) []windowstore.Key {
	ks := make([]windowstore.Key, to-from)
	for i := range ks {
		binary.BigEndian.PutUint64(ks[i][:], uint64(from+i)*0x9e3779b97f4a7c15) // spread
	}
	return ks
}

func meaning(pipeline string) windowstore.Meaning {
	return windowstore.Meaning{
		WindowDuration: time.Minute, EventTime: "payload", EventID: "message",
		RawTable: "raw_" + pipeline, AggTable: "agg_" + pipeline,
	}
}

// open opens the project's database on the emulator.
func open(t testing.TB, project string, options ...grpc.DialOption) *firestoredocs.Database {
	t.Helper()
	db, err := firestoredocs.Open(t.Context(), firestoredocs.Config{
		Project: project, EmulatorHost: emulator.Firestore(t), DialOptions: options,
	})
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

func newStore(docs shardstore.Documents) *shardstore.Store {
	return shardstore.New(shardstore.Config{
		Documents: docs, Pipeline: "p", Meaning: meaning("p"), Writer: shardstore.NewWriter(), Now: time.Now,
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
	for w, err := range store.Pending(t.Context(), end) {
		if err != nil {
			t.Fatal(err)
		}
		windows = append(windows, w)
	}
	return windows
}
