package firestorecounters_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tidemark-dev/tidemark/internal/memfirestore"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/firestorecounters"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// A network connects a database with a Firestore in memory, in virtual time. It can make
// a connection silent: the connection stays open, but everything that is sent on it is
// lost. This happens if a router on the way has forgotten the connection.
type network struct {
	listener *bufconn.Listener
	mu       sync.Mutex
	conns    []*silentConn // in the order in which they were opened
	dead     bool          // connections that are opened later are silent from the beginning
}

// inVirtualTime runs the test in virtual time, on a database whose calls have the given
// timeout.
func inVirtualTime(t *testing.T, timeout time.Duration, test func(t *testing.T, n *network, db *firestorecounters.Database, server *memfirestore.Server)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := memfirestore.New(time.Now)
		n := &network{listener: bufconn.Listen(1 << 20)}
		t.Cleanup(server.Serve(n.listener))
		db := openAs(t, firestorecounters.Config{
			Project: "p", EmulatorHost: "passthrough:///memory", CallTimeout: timeout,
			DialOptions: n.options(),
		})
		test(t, n, db, server)
	})
}

// options returns the options of a client of the network. A stream may have at most 64
// KiB that the client has not read yet. Without this limit gRPC raises it by itself, and
// a small window would be sent as a whole.
func (n *network) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithContextDialer(n.dial),
		grpc.WithInitialWindowSize(64 << 10), grpc.WithInitialConnWindowSize(64 << 10),
	}
}

func (n *network) dial(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := n.listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	silent := &silentConn{Conn: conn}
	silent.silent.Store(n.dead)
	n.conns = append(n.conns, silent)
	return silent, nil
}

// silence makes all present connections silent. Connections that are opened later work.
func (n *network) silence() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.conns {
		conn.silent.Store(true)
	}
}

// die makes all connections silent, also those that are opened later.
func (n *network) die() {
	n.mu.Lock()
	n.dead = true
	n.mu.Unlock()
	n.silence()
}

// dialled returns how many connections were opened so far. A call can end while its
// client still opens a connection, so dialled waits for that.
func (n *network) dialled() int {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

// open returns how many connections are not closed.
func (n *network) open() (open int) {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.conns {
		if !conn.closed.Load() {
			open++
		}
	}
	return open
}

type silentConn struct {
	net.Conn
	silent, closed atomic.Bool
}

func (c *silentConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.silent.Load() {
			return n, err
		}
	}
}

func (c *silentConn) Write(p []byte) (int, error) {
	if c.silent.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *silentConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// callTimeout is the limit that production has.
const callTimeout = 10 * time.Second

func TestACallOnASilentConnectionSucceedsOnAnotherWithinItsTime(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, store windowstore.Store) error{
		"a commit": func(ctx context.Context, store windowstore.Store) error { return add(ctx, store, 1, 0, 5) },
		"a query": func(ctx context.Context, store windowstore.Store) error {
			_, err := store.Count(ctx, minute(0))
			return err
		},
		"a settle": func(ctx context.Context, store windowstore.Store) error {
			return store.Settle(ctx, []windowstore.Shard{{Name: "s"}}, end)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, callTimeout, func(t *testing.T, n *network, db *firestorecounters.Database, _ *memfirestore.Server) {
				store := newStore(db.Pipeline("p"))
				if err := add(t.Context(), store, 0, 0, 5); err != nil {
					t.Fatal(err)
				}
				n.silence()
				began := time.Now()
				if err := call(t.Context(), store); err != nil {
					t.Errorf("on a silent connection: %v", err)
				}
				if took := time.Since(began); took < callTimeout/2 || took > callTimeout*6/10 {
					t.Errorf("it took %v, want a little more than half of %v", took, callTimeout)
				}
				began = time.Now()
				if err := call(t.Context(), store); err != nil || time.Since(began) > time.Second {
					t.Errorf("the next call: %v after %v, want it to use the new connection", err, time.Since(began))
				}
				wantCount(t, store, 0, 5)
				if open := n.open(); open != 1 || n.dialled() != 2 {
					t.Errorf("%d of %d connections are open, want only the second open", open, n.dialled())
				}
			})
		})
	}
}

// If several calls wait on a silent connection, the first that gives up opens a new one.
// All the others continue on that connection.
func TestCallsThatWaitOnASilentConnectionShareTheNext(t *testing.T) {
	inVirtualTime(t, callTimeout, func(t *testing.T, n *network, db *firestorecounters.Database, server *memfirestore.Server) {
		store := newStore(db.Pipeline("p"))
		if err := add(t.Context(), store, 0, 0, 1); err != nil {
			t.Fatal(err)
		}
		n.silence()
		var calls sync.WaitGroup
		for i := range 40 {
			calls.Go(func() {
				if err := add(t.Context(), store, i, 1, 2); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(2 * time.Second)
		}
		calls.Wait()
		if open := n.open(); open != 1 || n.dialled() != 2 {
			t.Errorf("%d of %d connections are open, want only the second open", open, n.dialled())
		}
	})
}

// If no connection works, a call ends at its own deadline, after several tries.
func TestACallThatIsNeverAnsweredEndsWithItsDeadline(t *testing.T) {
	inVirtualTime(t, callTimeout, func(t *testing.T, n *network, db *firestorecounters.Database, _ *memfirestore.Server) {
		store := newStore(db.Pipeline("p"))
		if err := add(t.Context(), store, 0, 0, 1); err != nil {
			t.Fatal(err)
		}
		n.die()
		began := time.Now()
		err := add(t.Context(), store, 1, 0, 1)
		if took := time.Since(began); err == nil || took != callTimeout {
			t.Errorf("Add: %v after %v, want an error after %v", err, took, callTimeout)
		}
		// The tries take 5 s, 2.5 s, 1.25 s, and the rest of the time. There are short
		// pauses between them.
		if tries := n.dialled(); tries != 4 {
			t.Errorf("%d connections were tried, want 4", tries)
		}
	})
}

// After its first result a query cannot be repeated, and it may take long, so slowness
// alone does not end it. Pings find out that its connection is dead.
func TestAQueryWhoseConnectionGoesSilentFailsLongBeforeItsDeadline(t *testing.T) {
	const timeout = time.Hour
	inVirtualTime(t, timeout, func(t *testing.T, n *network, db *firestorecounters.Database, _ *memfirestore.Server) {
		docs := db.Pipeline("p")
		for i := range 40 { // batches of 32 KiB, together more than a stream sends ahead
			if err := add(t.Context(), newStore(docs), 1, 2000*i, 2000*(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		began, batches := time.Now(), 0
		var failed error
		for _, err := range docs.QueryWindow(t.Context(), minute(1)) {
			if err != nil {
				failed = err
				break
			}
			batches++
			n.silence()
		}
		if took := time.Since(began); failed == nil || batches == 0 || took > time.Minute {
			t.Errorf("after %d batches: %v after %v; want an error within a minute", batches, failed, took)
		}
	})
}

// Reading a large window may take longer than a write may.
func TestTheReadOfAWindowHasATimeoutOfItsOwn(t *testing.T) {
	inVirtualTime(t, callTimeout, func(t *testing.T, n *network, _ *firestorecounters.Database, _ *memfirestore.Server) {
		docs := openAs(t, firestorecounters.Config{
			Project: "p", EmulatorHost: "passthrough:///memory", CallTimeout: callTimeout, CountTimeout: 3 * callTimeout,
			DialOptions: n.options(),
		}).Pipeline("p")
		for i := range 40 {
			if err := add(t.Context(), newStore(docs), 1, 2000*i, 2000*(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		for pause, complete := range map[time.Duration]bool{2 * callTimeout: true, 4 * callTimeout: false} {
			batches := 0
			var failed error
			for _, err := range docs.QueryWindow(t.Context(), minute(1)) {
				if err != nil {
					failed = err
					break
				}
				if batches++; batches == 1 {
					time.Sleep(pause)
				}
			}
			if (batches == 40) != complete || (failed == nil) != complete {
				t.Errorf("with a pause of %v: %d batches, %v", pause, batches, failed)
			}
		}
	})
}

// The timeout is for each request, and not for all requests of a Settle.
func TestManyShardsAreSettledHoweverLongThatTakes(t *testing.T) {
	inVirtualTime(t, callTimeout, func(t *testing.T, n *network, _ *firestorecounters.Database, _ *memfirestore.Server) {
		slow := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			time.Sleep(2 * time.Second)
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		docs := openAs(t, firestorecounters.Config{
			Project: "p", EmulatorHost: "passthrough:///memory", CallTimeout: callTimeout,
			DialOptions: append(n.options(), grpc.WithChainUnaryInterceptor(slow)),
		}).Pipeline("p")
		shards := make([]sharded.ShardInfo, 8000)
		for i := range shards {
			shards[i].Name = fmt.Sprint(i)
		}
		began := time.Now()
		for i, err := range docs.Settle(t.Context(), shards, end) {
			if !errors.Is(err, sharded.ErrPrecondition) { // no such shards exist
				t.Fatalf("shard %d of %d: %v", i, len(shards), err)
			}
		}
		if took := time.Since(began); took < 2*callTimeout {
			t.Errorf("it took only %v, so the test shows nothing", took)
		}
	})
}

func TestASlowAnswerThatHasBegunIsAwaited(t *testing.T) {
	inVirtualTime(t, callTimeout, func(t *testing.T, n *network, db *firestorecounters.Database, _ *memfirestore.Server) {
		docs := db.Pipeline("p")
		for i := range 40 {
			if err := add(t.Context(), newStore(docs), 1, 2000*i, 2000*(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		batches := 0
		for _, err := range docs.QueryWindow(t.Context(), minute(1)) {
			if err != nil {
				t.Fatal(err)
			}
			if batches++; batches == 1 {
				time.Sleep(callTimeout * 9 / 10)
			}
		}
		if batches != 40 || n.dialled() != 1 {
			t.Errorf("%d batches on %d connections, want 40 on one connection", batches, n.dialled())
		}
	})
}
