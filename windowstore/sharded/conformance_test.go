package sharded_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/test/memdocs"
	"github.com/tidemark-dev/tidemark/internal/test/windowstoretest"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// The suite's clock stands still most of the time, so the store opens a new slot for
// every Add.
func TestConformance(t *testing.T) {
	t.Parallel()
	windowstoretest.Run(t, windowstoretest.Harness{Handles: 4, New: func(t *testing.T) windowstoretest.Place {
		return newPlace(func(c windowstoretest.Config) func() time.Time { return c.Now })
	}})
}

// The store's clock jumps between calls, so the store reuses a slot as soon as the slot
// is not being written. If such a slot becomes pending again, its creation time is still
// that of its document.
func TestConformanceWithSlotsReused(t *testing.T) {
	t.Parallel()
	windowstoretest.Run(t, windowstoretest.Harness{Handles: 4, ServerClock: true, New: func(t *testing.T) windowstoretest.Place {
		return newPlace(func(windowstoretest.Config) func() time.Time {
			var calls atomic.Int64
			return func() time.Time { return time.Unix(2*calls.Add(1), 0) }
		})
	}})
}

func newPlace(pace func(windowstoretest.Config) func() time.Time) windowstoretest.Place {
	var once sync.Once
	var db *memdocs.Database
	return windowstoretest.Place{
		Open: func(_ context.Context, c windowstoretest.Config) (windowstore.Store, error) {
			once.Do(func() { db = memdocs.New(c.Now) })
			return sharded.New(sharded.Config{
				Documents: db.Pipeline(c.Pipeline),
				Pipeline:  c.Pipeline,
				Meaning:   c.Meaning,
				Writer:    sharded.NewWriter(),
				Now:       pace(c),
			}), nil
		},
		Expire: func(_ context.Context, now time.Time) error {
			db.Expire(now)
			return nil
		},
	}
}
