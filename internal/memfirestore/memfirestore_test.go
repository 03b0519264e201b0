package memfirestore_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/tidemark-dev/tidemark/internal/memfirestore"
)

const (
	database = "projects/p/databases/d"
	filter   = `where { field_filter { field { field_path: "a" } op: LESS_THAN_OR_EQUAL value { timestamp_value { seconds: 9 } } } }`
)

// The fake must refuse everything that Firestore refuses, and everything that the fake
// itself does not implement.
func TestQueriesThatAreRefused(t *testing.T) {
	t.Parallel()
	client, ctx := connect(t)
	for name, test := range map[string]struct {
		query string
		code  codes.Code
	}{
		"as the index is":              {filter + order("a ASCENDING", "__name__ ASCENDING"), codes.OK},
		"backwards":                    {filter + order("a DESCENDING", "__name__ DESCENDING"), codes.OK},
		"by name alone":                {order("__name__ ASCENDING"), codes.OK},
		"in two directions":            {filter + order("a ASCENDING", "__name__ DESCENDING"), codes.FailedPrecondition},
		"by another field":             {filter + order("b ASCENDING"), codes.FailedPrecondition},
		"by another field as well":     {filter + order("a ASCENDING", "b ASCENDING"), codes.FailedPrecondition},
		"of all collections of a name": {`from { collection_id: "c" all_descendants: true }`, codes.Unimplemented},
		"with an offset":               {"offset: 1", codes.Unimplemented},
	} {
		t.Run(name, func(t *testing.T) {
			query := &pb.StructuredQuery{From: []*pb.StructuredQuery_CollectionSelector{{CollectionId: "c"}}}
			asked := &pb.StructuredQuery{}
			if err := prototext.Unmarshal([]byte(test.query), asked); err != nil {
				t.Fatal(err)
			}
			if len(asked.From) > 0 {
				query.From = nil
			}
			query.Where, query.OrderBy, query.From, query.Offset = asked.Where, asked.OrderBy, append(query.From, asked.From...), asked.Offset
			if code := run(ctx, client, &pb.RunQueryRequest{Parent: database + "/documents", QueryType: &pb.RunQueryRequest_StructuredQuery{StructuredQuery: query}}); code != test.code {
				t.Errorf("%v, want %v", code, test.code)
			}
		})
	}
	inThePast := &pb.RunQueryRequest{
		Parent:              database + "/documents",
		QueryType:           &pb.RunQueryRequest_StructuredQuery{StructuredQuery: &pb.StructuredQuery{From: []*pb.StructuredQuery_CollectionSelector{{CollectionId: "c"}}}},
		ConsistencySelector: &pb.RunQueryRequest_ReadTime{},
	}
	if code := run(ctx, client, inThePast); code != codes.Unimplemented {
		t.Errorf("a read in the past: %v, want Unimplemented", code)
	}
}

func order(by ...string) (text string) {
	for _, o := range by {
		field, direction, _ := strings.Cut(o, " ")
		text += ` order_by { field { field_path: "` + field + `" } direction: ` + direction + ` }`
	}
	return text
}

func TestWritesThatAreRefused(t *testing.T) {
	t.Parallel()
	client, ctx := connect(t)
	update := `update { name: "` + database + `/documents/c/x" fields { key: "m" value { map_value {} } } }`
	for name, test := range map[string]struct {
		ctx     context.Context
		request string
		code    codes.Code
	}{
		"a write":                        {ctx, `writes { ` + update + ` }`, codes.OK},
		"without the database's header":  {t.Context(), `writes { ` + update + ` }`, codes.InvalidArgument},
		"in a transaction":               {ctx, `transaction: "t" writes { ` + update + ` }`, codes.Unimplemented},
		"a deletion":                     {ctx, `writes { delete: "` + database + `/documents/c/x" }`, codes.Unimplemented},
		"of another database":            {ctx, `writes { update { name: "projects/p/databases/e/documents/c/x" } }`, codes.InvalidArgument},
		"a key of a map without quotes":  {ctx, `writes { ` + update + ` update_mask { field_paths: "m.0" } }`, codes.InvalidArgument},
		"a field that is to be added to": {ctx, `writes { ` + update + ` update_transforms { field_path: "n" increment { integer_value: 1 } } }`, codes.Unimplemented},
		"of what does not exist":         {ctx, `writes { update { name: "` + database + `/documents/c/y" } current_document { exists: true } }`, codes.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			request := &pb.CommitRequest{}
			if err := prototext.Unmarshal([]byte(`database: "`+database+`" `+test.request), request); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Commit(test.ctx, request); status.Code(err) != test.code {
				t.Errorf("%v, want %v", err, test.code)
			}
		})
	}
}

// connect returns a client of a new server, and a context whose calls name the database.
func connect(t *testing.T) (pb.FirestoreClient, context.Context) {
	t.Helper()
	connection, err := grpc.NewClient(memfirestore.New(time.Now).Start(t), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return pb.NewFirestoreClient(connection), metadata.AppendToOutgoingContext(t.Context(), "google-cloud-resource-prefix", database)
}

func run(ctx context.Context, client pb.FirestoreClient, request *pb.RunQueryRequest) codes.Code {
	stream, err := client.RunQuery(ctx, request)
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return codes.OK
	}
	return status.Code(err)
}
