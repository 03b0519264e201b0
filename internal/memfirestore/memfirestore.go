// Package memfirestore is a fake of Firestore's gRPC API, in memory. It has the methods
// that the counters call. Tests look at the requests that it got, and store counters in
// it if there is no emulator.
//
// Commit, BatchWrite and RunQuery do what the reference of the API says. What the
// counters do not use, for example a transaction, a read in the past or a delete, is
// refused as unimplemented, so that a test notices such a request. A query that needs an
// index that the counters' databases do not have is refused too, as Firestore refuses it.
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

// These are limits of the service.
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
	documents  map[string]*pb.Document // by name; a document may be replaced, but is never changed
	lastCommit time.Time
}

// New returns an empty server with the given clock. The clock may stand still or go
// backwards. Each commit gets a time of its own, in microseconds, that is later than the
// times of all commits before.
func New(now func() time.Time) *Server {
	return &Server{now: now, documents: map[string]*pb.Document{}}
}

// Start serves on a free port of this machine until the test ends. It returns the host
// and port, in the form in which an emulator's are given.
func (s *Server) Start(t testing.TB) (host string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Serve(listener))
	return listener.Addr().String()
}

// Serve serves on the listener until the caller calls stop, which closes the listener.
func (s *Server) Serve(listener net.Listener) (stop func()) {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest))
	pb.RegisterFirestoreServer(server, s)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // stop ends it
	}()
	return func() {
		server.Stop()
		<-ended
	}
}

// Requests returns the requests that came since the last call of Requests, in order.
func (s *Server) Requests() []proto.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}

// Documents returns the documents whose names begin with prefix, ordered by name. The
// caller must not change them.
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

// Put stores a document as another program would.
func (s *Server) Put(name string, fields map[string]*pb.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.commitTime()
	s.documents[name] = &pb.Document{Name: name, Fields: fields, CreateTime: at, UpdateTime: at}
}

// Delete deletes a document as Firestore's TTL does.
func (s *Server) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commitTime() // so that a document of the same name never gets an old update time again
	delete(s.documents, name)
}

// begin records a request. It refuses the request if the header by which the service
// finds the database does not name the database.
func (s *Server) begin(ctx context.Context, request proto.Message, database string) error {
	s.requests = append(s.requests, proto.Clone(request))
	headers, _ := metadata.FromIncomingContext(ctx)
	if named := headers.Get("google-cloud-resource-prefix"); len(named) != 1 || named[0] != database {
		return status.Errorf(codes.InvalidArgument, "header google-cloud-resource-prefix is %q, want %q", named, database)
	}
	return nil
}

// commitTime returns the time of a new commit.
func (s *Server) commitTime() *timestamppb.Timestamp {
	s.lastCommit = s.lastCommit.Add(time.Microsecond)
	if now := s.now().Truncate(time.Microsecond); now.After(s.lastCommit) {
		s.lastCommit = now
	}
	return timestamppb.New(s.lastCommit)
}

// readTime returns the time of a new snapshot.
func (s *Server) readTime() *timestamppb.Timestamp {
	if now := s.now().Truncate(time.Microsecond); now.After(s.lastCommit) {
		return timestamppb.New(now)
	}
	return timestamppb.New(s.lastCommit)
}
