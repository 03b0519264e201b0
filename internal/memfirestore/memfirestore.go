// Package memfirestore is Firestore's API over gRPC in memory, as far as the counters
// use it: what a test looks at requests with and stores counters on where there is no
// emulator.
//
// It does what the API's reference says of Commit, BatchWrite and RunQuery. What the
// counters do not use is refused as unimplemented, so that a request that asks for
// something else is noticed: a transaction, a read in the past, a delete. A query that
// needs an index that no database of the counters has is refused as by the service.
package memfirestore

import (
	"context"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Limits of the service.
const (
	maxWrites   = 500
	maxRequest  = 10 << 20
	maxDocument = 1 << 20
)

// A Server holds the documents of any number of databases. It may be used
// concurrently.
type Server struct {
	pb.UnimplementedFirestoreServer
	now func() time.Time

	mu         sync.Mutex
	requests   []proto.Message
	documents  map[string]*pb.Document // by name; replaced and never changed
	lastCommit time.Time
}

// New returns an empty server with the given clock. It need not move, and may go
// backwards: each commit has a time of its own, in microseconds, later than all
// before it.
func New(now func() time.Time) *Server {
	return &Server{now: now, documents: map[string]*pb.Document{}}
}

// Start serves on a port of this machine until the test has ended, and returns the
// host and port, which stand for an emulator's.
func (s *Server) Start(t testing.TB) (host string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Serve(listener))
	return listener.Addr().String()
}

// Serve serves on the listener until stop is called, which closes it.
func (s *Server) Serve(listener net.Listener) (stop func()) {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest))
	pb.RegisterFirestoreServer(server, s)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // it ends by stop
	}()
	return func() {
		server.Stop()
		<-ended
	}
}

// Requests returns the requests that have come since it was last called, in order.
func (s *Server) Requests() []proto.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}

// Documents returns the documents whose names begin with prefix, by name. They must
// not be changed.
func (s *Server) Documents(prefix string) []*pb.Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*pb.Document
	for _, name := range slices.Sorted(maps.Keys(s.documents)) {
		if strings.HasPrefix(name, prefix) {
			found = append(found, s.documents[name])
		}
	}
	return found
}

// Put stores a document as somebody else does.
func (s *Server) Put(name string, fields map[string]*pb.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.commitTime()
	s.documents[name] = &pb.Document{Name: name, Fields: fields, CreateTime: at, UpdateTime: at}
}

// Delete deletes a document as TTL does.
func (s *Server) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commitTime() // so that no update time returns with a name
	delete(s.documents, name)
}

// begin records a request, and refuses it unless it names the database in the header
// by which the service finds it.
func (s *Server) begin(ctx context.Context, request proto.Message, database string) error {
	s.requests = append(s.requests, proto.Clone(request))
	headers, _ := metadata.FromIncomingContext(ctx)
	if named := headers.Get("google-cloud-resource-prefix"); len(named) != 1 || named[0] != database {
		return status.Errorf(codes.InvalidArgument, "header google-cloud-resource-prefix is %q, want %q", named, database)
	}
	return nil
}

// commitTime returns the time of a commit.
func (s *Server) commitTime() *timestamppb.Timestamp {
	s.lastCommit = s.lastCommit.Add(time.Microsecond)
	if now := s.now().Truncate(time.Microsecond); now.After(s.lastCommit) {
		s.lastCommit = now
	}
	return timestamppb.New(s.lastCommit)
}

// readTime returns the time of a snapshot.
func (s *Server) readTime() *timestamppb.Timestamp {
	if now := s.now().Truncate(time.Microsecond); now.After(s.lastCommit) {
		return timestamppb.New(now)
	}
	return timestamppb.New(s.lastCommit)
}
