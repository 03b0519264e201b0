package firestorecounters_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/firestorecounters"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// calls returns a dial option that counts the calls of a method and passes each to fault,
// with its number from 1 on. The method is given as the end of its name. fault may also
// make the call when the caller has already given up.
func calls(method string, fault func(n int, call func() error) error) (grpc.DialOption, *atomic.Int64) {
	var made atomic.Int64
	return grpc.WithChainUnaryInterceptor(func(ctx context.Context, name string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		call := func() error {
			if ctx.Err() != nil {
				ctx = context.WithoutCancel(ctx)
			}
			return invoke(ctx, name, req, reply, cc, opts...)
		}
		if !strings.HasSuffix(name, "/"+method) {
			return call()
		}
		return fault(int(made.Add(1)), call)
	}), &made
}

// register lets a store record its pipeline, so that all later commits are of shards.
func register(t *testing.T, on place) {
	t.Helper()
	if err := add(t.Context(), newStore(on.open(t).Pipeline("p")), 0, 0, 1); err != nil {
		t.Fatal(err)
	}
}

// wantShard checks that the window has one document, with one batch of the given number
// of ids.
func wantShard(t *testing.T, on place, window, ids int) {
	t.Helper()
	var found []*pb.Document
	for _, doc := range on.shards(t) {
		if doc.Fields["window"].GetTimestampValue().AsTime().Equal(minute(window)) {
			found = append(found, doc)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d documents of the window, want 1", len(found))
	}
	batches := found[0].Fields["batches"].GetMapValue().GetFields()
	if n := found[0].Fields["count"].GetIntegerValue(); n != int64(ids) || len(batches) != 1 {
		t.Errorf("count %d in %d batches, want %d in one batch", n, len(batches), ids)
	}
	if _, expires := found[0].Fields["expire_at"]; expires {
		t.Error("the shard has an expiry, though it is not settled")
	}
}

func TestACommitThatFailsForAPassingReasonIsRepeatedAndCountsOnce(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		for _, code := range []codes.Code{codes.Unavailable, codes.Aborted, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Internal} {
			for _, applied := range []bool{false, true} {
				name := code.String() + " before it is applied"
				if applied {
					name = code.String() + " after it was applied"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					on := on.another(t)
					register(t, on)
					option, made := calls("Commit", func(n int, call func() error) error {
						if n > 2 {
							return call()
						}
						if applied {
							if err := call(); err != nil {
								return err
							}
						}
						return status.Error(code, "injected")
					})
					store := newStore(on.open(t, option).Pipeline("p"))
					if err := add(t.Context(), store, 1, 0, 5); err != nil {
						t.Fatal(err)
					}
					if made.Load() != 3 {
						t.Errorf("%d commits, want 3", made.Load())
					}
					wantCount(t, store, 1, 5)
					wantShard(t, on, 1, 5)
				})
			}
		}
	})
}

// The first try of a commit may be applied late: after the commit was repeated, and after
// a later write to the same document.
func TestATryAppliedLateLeavesTheCount(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		register(t, on)
		var late func() error
		option, _ := calls("Commit", func(n int, call func() error) error {
			if n == 1 {
				late = call
				return status.Error(codes.Unavailable, "injected")
			}
			return call()
		})
		store := sharded.New(sharded.Config{
			Documents: on.open(t, option).Pipeline("p"), Pipeline: "p", Meaning: meaning("p"), Writer: sharded.NewWriter(),
			Now: jumping(), // so that the store writes to the same document again
		})
		for i := range 2 {
			if err := add(t.Context(), store, 1, 5*i, 5*i+5); err != nil {
				t.Fatal(err)
			}
		}
		if err := late(); err != nil {
			t.Fatal(err)
		}
		for _, doc := range on.shards(t) {
			count, batches := doc.Fields["count"].GetIntegerValue(), len(doc.Fields["batches"].GetMapValue().GetFields())
			if doc.Fields["window"].GetTimestampValue().AsTime().Equal(minute(1)) && (count != 10 || batches != 2) {
				t.Errorf("count %d in %d batches, want 10 in 2", count, batches)
			}
		}
	})
}

// The request has 2,000 ids, which are more than 16 KiB. The connection must break within
// the request, and not within the answer to a ping, which is smaller.
func TestACommitWhoseConnectionIsCutCountsOnce(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		register(t, on)
		var cut cut
		dialer := grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			return &cutConn{conn, &cut}, err
		})
		option, made := calls("Commit", func(n int, call func() error) error {
			if n == 1 {
				cut.unsent.Store(16 << 10)
			}
			return call()
		})
		store := newStore(on.open(t, dialer, option).Pipeline("p"))
		if err := add(t.Context(), store, 1, 0, 2000); err != nil {
			t.Fatal(err)
		}
		if made.Load() != 2 || cut.due.Load() {
			t.Errorf("%d commits, want a second commit after the connection was cut", made.Load())
		}
		wantShard(t, on, 1, 2000)
	})
}

// A cut breaks a connection in the middle of a request. It waits until the given number
// of bytes were sent. Then the next connection that receives something breaks.
type cut struct {
	unsent atomic.Int64 // bytes until the cut; 0 if there is none
	due    atomic.Bool
}

type cutConn struct {
	net.Conn
	cut *cut
}

func (c *cutConn) Write(p []byte) (int, error) {
	before := c.cut.unsent.Load()
	if before > 0 && c.cut.unsent.Add(-int64(len(p))) <= 0 {
		c.cut.due.Store(true)
	}
	return c.Conn.Write(p)
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.cut.due.CompareAndSwap(true, false) {
		c.Conn.Close()
		return 0, errors.New("connection reset")
	}
	return n, err
}

// The store repeats a failed call itself, each time with a new context. Firestore's
// client must not repeat calls too, which it would do within one attempt.
func TestTheClientRepeatsNothingByItself(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		register(t, on)
		for name, call := range map[string]func(docs sharded.Documents) error{
			"Commit": func(docs sharded.Documents) error {
				return docs.Merge(t.Context(), []sharded.ShardWrite{{Name: "s", Window: minute(1), Key: "0"}})
			},
			"BatchWrite": func(docs sharded.Documents) error {
				err := docs.Settle(t.Context(), []sharded.ShardInfo{{Name: "s", UpdateTime: minute(1)}}, end)[0]
				if errors.Is(err, sharded.ErrPrecondition) {
					return nil
				}
				return err
			},
			"RunQuery": func(docs sharded.Documents) error { _, err := docs.Pipelines(t.Context()); return err },
		} {
			t.Run(name, func(t *testing.T) {
				tries, last := 0, context.Context(nil)
				try := func(ctx context.Context) error {
					if last != nil && last.Err() == nil {
						t.Error("the call was repeated before the context of the first attempt had ended")
					}
					if tries, last = tries+1, ctx; tries < 3 {
						return status.Error(codes.Unavailable, "injected")
					}
					return nil
				}
				unary := grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
					if err := try(ctx); err != nil {
						return err
					}
					return invoke(ctx, method, req, reply, cc, opts...)
				})
				stream := grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					if err := try(ctx); err != nil {
						return nil, err
					}
					return open(ctx, desc, cc, method, opts...)
				})
				if err := call(on.open(t, unary, stream).Pipeline("p")); err != nil {
					t.Fatal(err)
				}
				if tries != 3 {
					t.Errorf("%d tries, want 3", tries)
				}
			})
		}
	})
}

func TestACallEndsWithItsDeadlineAndSaysWhatItWaitedFor(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		register(t, on)
		option, made := calls("Commit", func(int, func() error) error {
			return status.Error(codes.ResourceExhausted, "quota")
		})
		t.Run("the caller's", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			wantDeadline(t, add(ctx, newStore(on.open(t, option).Pipeline("p")), 1, 0, 5))
		})
		t.Run("its own", func(t *testing.T) {
			db := openAs(t, firestorecounters.Config{
				Project: on.project, EmulatorHost: on.host,
				CallTimeout: 300 * time.Millisecond, DialOptions: []grpc.DialOption{option},
			})
			store := newStore(db.Pipeline("p"))
			if _, err := store.Count(t.Context(), minute(0)); err != nil { // opens the connection
				t.Fatal(err)
			}
			wantDeadline(t, add(t.Context(), store, 1, 0, 5))
		})
		if made.Load() < 4 {
			t.Errorf("%d commits, want repeats", made.Load())
		}
	})
}

func wantDeadline(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "ResourceExhausted") {
		t.Errorf("Add: %v, want an error that names the deadline and the quota", err)
	}
}

func TestWhatWillNeverSucceedIsNotRepeated(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		register(t, on)
		option, made := calls("Commit", func(int, func() error) error {
			return status.Error(codes.PermissionDenied, "injected")
		})
		err := add(t.Context(), newStore(on.open(t, option).Pipeline("p")), 1, 0, 5)
		if err == nil || !strings.Contains(err.Error(), "PermissionDenied") || made.Load() != 1 {
			t.Errorf("Add: %v after %d commits, want PermissionDenied after one", err, made.Load())
		}
	})
}

func TestSettleOfAChangedShardDoesNotHoldBackTheOthers(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		option, made := calls("BatchWrite", func(_ int, call func() error) error { return call() })
		docs := on.open(t, option).Pipeline("p")
		var shards []windowstore.Shard
		store := newStore(docs)
		if err := store.Add(t.Context(), windows(250, 1)); err != nil { // settling them takes three requests
			t.Fatal(err)
		}
		for _, w := range pending(t, store) {
			shards = append(shards, w.Shards...)
		}
		changed := shards[120]
		shards[120].Version-- // as if it had been written since then
		gone := windowstore.Shard{Name: "gone", Window: minute(1), Version: changed.Version}
		if err := store.Settle(t.Context(), append(shards, gone), end); err != nil {
			t.Fatal(err)
		}
		if windows := pending(t, store); len(shards) != 250 || len(windows) != 1 || windows[0].Shards[0] != changed {
			t.Errorf("of %d shards these are pending: %v; want the changed one", len(shards), windows)
		}
		if made.Load() != 3 {
			t.Errorf("%d requests, want 3", made.Load())
		}
	})
}

func TestASettleThatFailsForAPassingReasonIsRepeated(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		for name, fault := range map[string]func(call func() error, reply *pb.BatchWriteResponse) error{
			"the request, before it is applied": func(func() error, *pb.BatchWriteResponse) error {
				return status.Error(codes.Unavailable, "injected")
			},
			"the request, after it was applied": func(call func() error, _ *pb.BatchWriteResponse) error {
				return errors.Join(call(), status.Error(codes.Unavailable, "injected"))
			},
			"one write": func(call func() error, reply *pb.BatchWriteResponse) error {
				err := call()
				reply.Status[1].Code = int32(codes.Aborted)
				return err
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				on := on.another(t)
				var requests []int // the number of writes of each request
				option := grpc.WithChainUnaryInterceptor(func(ctx context.Context, name string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
					call := func() error { return invoke(ctx, name, req, reply, cc, opts...) }
					request, ok := req.(*pb.BatchWriteRequest)
					if !ok {
						return call()
					}
					if requests = append(requests, len(request.Writes)); len(requests) == 1 {
						return fault(call, reply.(*pb.BatchWriteResponse))
					}
					return call()
				})
				docs := on.open(t, option).Pipeline("p")
				for range 3 {
					if err := add(t.Context(), newStore(docs), 1, 0, 1); err != nil {
						t.Fatal(err)
					}
				}
				store := newStore(docs)
				if err := store.Settle(t.Context(), pending(t, store)[0].Shards, end); err != nil {
					t.Fatal(err)
				}
				if windows := pending(t, store); len(windows) != 0 {
					t.Errorf("pending: %v", windows)
				}
				want := 3
				if name == "one write" {
					want = 1
				}
				if len(requests) != 2 || requests[0] != 3 || requests[1] != want {
					t.Errorf("requests of %v writes, want 3 and then %d", requests, want)
				}
			})
		}
	})
}

func TestAQueryIsRepeatedOnlyUntilItsFirstDocument(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		for _, test := range []struct {
			name      string
			documents int // documents received before the fault
			fails     bool
		}{{"before", 0, false}, {"after", 1, true}} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				on := on.another(t)
				register(t, on)
				if err := add(t.Context(), newStore(on.open(t).Pipeline("p")), 0, 1, 2); err != nil {
					t.Fatal(err)
				}
				var queries atomic.Int64
				option := grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
					s, err := stream(ctx, desc, cc, method, opts...)
					if queries.Add(1) == 1 && err == nil {
						return &breakingStream{ClientStream: s, left: test.documents}, nil
					}
					return s, err
				})
				store := newStore(on.open(t, option).Pipeline("p"))
				n, err := store.Count(t.Context(), minute(0))
				if test.fails {
					if err == nil || queries.Load() != 1 {
						t.Errorf("Count: %d, %v after %d queries; want an error after one query", n, err, queries.Load())
					}
					return
				}
				if err != nil || n != 2 || queries.Load() != 2 {
					t.Errorf("Count: %d, %v after %d queries; want 2 after two queries", n, err, queries.Load())
				}
			})
		}
	})
}

// A breakingStream breaks after the given number of documents.
type breakingStream struct {
	grpc.ClientStream
	left int
}

func (s *breakingStream) RecvMsg(m any) error {
	if s.left == 0 {
		return status.Error(codes.Unavailable, "injected")
	}
	err := s.ClientStream.RecvMsg(m)
	if response, ok := m.(*pb.RunQueryResponse); ok && response.Document != nil {
		s.left--
	}
	return err
}

// A batch may have up to 50,000 messages, the most that BATCH_ROWS allows, in one window
// or in many. The emulator takes requests of up to 4 MiB, the service of up to 10 MiB.
func TestTheLargestBatchFits(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		for name, increments := range map[string][]windowstore.Increment{
			"one window":         {{Window: minute(1), Keys: keys(0, 50_000)}},
			"many windows":       windows(450, 111),
			"the largest commit": {{Window: minute(1), Keys: keys(0, 190_000)}},
			"several of them":    windows(3, 120_000),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				on := on.another(t)
				register(t, on)
				var largest int
				option := grpc.WithChainUnaryInterceptor(func(ctx context.Context, name string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
					largest = max(largest, proto.Size(req.(proto.Message)))
					return invoke(ctx, name, req, reply, cc, opts...)
				})
				store := newStore(on.open(t, option).Pipeline("p"))
				if err := store.Add(t.Context(), increments); err != nil {
					t.Fatal(err)
				}
				if largest > 3_600_000 {
					t.Errorf("a request of %d bytes", largest)
				}
				for _, inc := range increments[:min(3, len(increments))] {
					if n, err := store.Count(t.Context(), inc.Window); err != nil || n != int64(len(inc.Keys)) {
						t.Errorf("count is %d, %v; want %d", n, err, len(inc.Keys))
					}
				}
			})
		}
	})
}

func windows(n, ids int) (increments []windowstore.Increment) {
	for i := range n {
		increments = append(increments, windowstore.Increment{Window: minute(i + 1), Keys: keys(0, ids)})
	}
	return increments
}
