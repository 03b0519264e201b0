package firestorecounters_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// Sixteen writers and two flushers work on one window and die again and again. After a
// death, the call that was open may have been applied or not, and the successor of a
// writer adds the same keys again. In the end the aggregate must be the number of ids.
func TestWritersAndFlushersThatDieCountExactly(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		const writers, adds, keysPerAdd = 16, 12, 8
		w := &mortals{random: rand.New(rand.NewPCG(rand.Uint64(), 1))}
		db := on.open(t, grpc.WithChainUnaryInterceptor(w.unary), grpc.WithChainStreamInterceptor(w.stream))
		docs := db.Pipeline("p")
		start := time.Now().UTC().Truncate(time.Minute).Add(-10 * time.Minute) // the window is due
		aggregate := &counts{}

		done := make(chan struct{})
		var flushers, adders sync.WaitGroup
		for range 2 {
			flushers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						w.live(t.Context(), func(ctx context.Context) { flusher(newStore(docs), aggregate).Run(ctx) })
					}
				}
			})
		}
		for a := range writers {
			adders.Go(func() {
				store := newStore(docs)
				for i := range adds {
					from := (a*adds + i) * (keysPerAdd - 1) // the first key of each batch is the last key of the batch before
					batch := []windowstore.Increment{{Window: start, Keys: keys(from, from+keysPerAdd)}}
					for err := errors.New("not yet"); err != nil; {
						if died := w.live(t.Context(), func(ctx context.Context) { err = store.Add(ctx, batch) }); died {
							store = newStore(docs)
						}
					}
				}
			})
		}
		adders.Wait()
		close(done)
		flushers.Wait()
		w.immortal()
		report := flusher(newStore(docs), aggregate).Run(t.Context())
		if want := int64(writers*adds*(keysPerAdd-1) + 1); aggregate.of(start) != want || len(report.Errors) > 0 {
			t.Errorf("the aggregate is %d, want %d; errors: %v", aggregate.of(start), want, report.Errors)
		}
		if windows := pending(t, newStore(docs)); len(windows) > 0 {
			t.Errorf("pending: %v", windows)
		}
		if w.deaths < 20 {
			t.Errorf("%d deaths: too few for this test", w.deaths)
		}
		t.Logf("%d calls, %d deaths, %d appends", w.calls, w.deaths, aggregate.appends)
	})
}

func flusher(store *sharded.Store, aggregate warehouse.Aggregate) *flush.Flusher {
	return flush.New(flush.Config{
		Counters: store, Aggregate: aggregate,
		Windows:    window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute},
		MaxWindows: 10, Timeout: 30 * time.Second, Retention: 192 * time.Hour, Now: time.Now,
	})
}

// mortals decides what becomes of the calls of processes. A call may be lost before or
// after it was applied, and the process may die of it.
type mortals struct {
	mu            sync.Mutex
	random        *rand.Rand
	calls, deaths int
	spared        bool
}

// lifeKey is the key in a context under which its cancel function is. A process dies when
// this function is called.
type lifeKey struct{}

// live runs the work of a process and reports whether the process died meanwhile.
func (m *mortals) live(ctx context.Context, work func(context.Context)) (died bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work(context.WithValue(ctx, lifeKey{}, cancel))
	return ctx.Err() != nil
}

func (m *mortals) immortal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spared = true
}

// fate decides by chance whether a call is made, whether its answer is lost, and whether
// the process dies.
func (m *mortals) fate(ctx context.Context, call func() error) error {
	m.mu.Lock()
	m.calls++
	chance := m.random.Float64()
	die, mortal := ctx.Value(lifeKey{}).(context.CancelFunc)
	if mortal && !m.spared && chance < 0.1 {
		m.deaths++
	}
	spared := m.spared || !mortal
	m.mu.Unlock()
	lost := status.Error(codes.Unavailable, "injected")
	switch {
	case spared || chance >= 0.2:
		return call()
	case chance < 0.05:
		die()
		return lost
	case chance < 0.1:
		call()
		die()
		return lost
	case chance < 0.15:
		return lost
	default:
		call()
		return lost
	}
}

func (m *mortals) unary(ctx context.Context, name string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return m.fate(ctx, func() error { return invoke(ctx, name, req, reply, cc, opts...) })
}

func (m *mortals) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, name string, open grpc.Streamer, opts ...grpc.CallOption) (s grpc.ClientStream, err error) {
	err = m.fate(ctx, func() error {
		s, err = open(ctx, desc, cc, name, opts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// counts is an aggregate in memory. It has no raw rows.
type counts struct {
	mu      sync.Mutex
	most    map[int64]int64
	appends int
}

func (c *counts) AppendCounts(ctx context.Context, rows []warehouse.WindowCount) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most == nil {
		c.most = map[int64]int64{}
	}
	c.appends++
	for _, row := range rows {
		c.most[row.Start.Unix()] = max(c.most[row.Start.Unix()], row.PageViews)
	}
	return ctx.Err()
}

func (c *counts) CountRaw(context.Context, []time.Time) ([]int64, error) {
	return nil, errors.New("there are no raw rows")
}

func (c *counts) of(start time.Time) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most[start.Unix()]
}
