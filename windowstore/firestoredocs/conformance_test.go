package firestoredocs_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	firestore "cloud.google.com/go/firestore/apiv1"
	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/tidemark-dev/tidemark/internal/emulator"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/shardstore"
	"github.com/tidemark-dev/tidemark/windowstore/storetest"
)

// The clock that paces the stores jumps, so that they write a document again
// whenever none of its writes is under way.
func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		Handles: 4, ServerClock: true, ManyWindows: 1200, // four pages
		New: func(t *testing.T) storetest.Place {
			project := emulator.Project()
			db := open(t, project)
			return storetest.Place{
				Open: func(_ context.Context, c storetest.Config) (windowstore.Store, error) {
					return shardstore.New(shardstore.Config{
						Documents: db.Pipeline(c.Pipeline),
						Pipeline:  c.Pipeline,
						Meaning:   c.Meaning,
						Writer:    shardstore.NewWriter(),
						Now:       jumping(),
					}), nil
				},
				Expire: func(ctx context.Context, now time.Time) error {
					return expire(t, ctx, project, now)
				},
			}
		},
	})
}

func jumping() func() time.Time {
	var calls atomic.Int64
	return func() time.Time { return time.Unix(2*calls.Add(1), 0) }
}

// expire deletes the shards that have expired at now, as a TTL policy does and
// the emulator does not.
func expire(t *testing.T, ctx context.Context, project string, now time.Time) error {
	client, documents, err := readAll(t, ctx, project)
	if err != nil {
		return err
	}
	defer client.Close()
	for _, doc := range documents {
		if at, ok := doc.Fields["expire_at"]; ok && !at.GetTimestampValue().AsTime().After(now) {
			if err := client.DeleteDocument(administrator(ctx), &pb.DeleteDocumentRequest{Name: doc.Name}); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAll returns every shard of the project, read with code of its own, and the
// client, which the caller closes.
func readAll(t *testing.T, ctx context.Context, project string) (*firestore.Client, []*pb.Document, error) {
	conn, err := grpc.NewClient(emulator.Firestore(t), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	client, err := firestore.NewClient(ctx, option.WithGRPCConn(conn))
	if err != nil {
		return nil, nil, err
	}
	var shards []*pb.Document
	root := fmt.Sprintf("projects/%s/databases/(default)/documents", project)
	for pipeline, err := range client.ListDocuments(administrator(ctx), &pb.ListDocumentsRequest{Parent: root, CollectionId: "pipelines"}).All() {
		if err != nil {
			return client, nil, err
		}
		request := &pb.ListDocumentsRequest{Parent: pipeline.Name, CollectionId: "counter_shards", PageSize: 300}
		for shard, err := range client.ListDocuments(administrator(ctx), request).All() {
			if err != nil {
				return client, nil, err
			}
			shards = append(shards, shard)
		}
	}
	return client, shards, nil
}

func administrator(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer owner")
}
