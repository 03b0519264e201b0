package shardstore_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/memdocs"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/shardstore"
	"github.com/tidemark-dev/tidemark/windowstore/storetest"
)

// The suite's clock mostly stands still, so that the store opens a slot for
// every Add.
func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{Handles: 4, New: func(t *testing.T) storetest.Place {
		return newPlace(func(c storetest.Config) func() time.Time { return c.Now })
	}})
}

// The clock that paces the store jumps, so that it reuses a slot whenever none is
// being written. A slot made pending again is then as old as its document.
func TestConformanceWithSlotsReused(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{Handles: 4, ServerClock: true, New: func(t *testing.T) storetest.Place {
		return newPlace(func(storetest.Config) func() time.Time {
			var calls atomic.Int64
			return func() time.Time { return time.Unix(2*calls.Add(1), 0) }
		})
	}})
}

func newPlace(pace func(storetest.Config) func() time.Time) storetest.Place {
	var once sync.Once
	var db *memdocs.Database
	return storetest.Place{
		Open: func(_ context.Context, c storetest.Config) (windowstore.Store, error) {
			once.Do(func() { db = memdocs.New(c.Now) })
			return shardstore.New(shardstore.Config{
				Documents: db.Pipeline(c.Pipeline),
				Pipeline:  c.Pipeline,
				Meaning:   c.Meaning,
				Writer:    shardstore.NewWriter(),
				Now:       pace(c),
			}), nil
		},
		Expire: func(_ context.Context, now time.Time) error {
			db.Expire(now)
			return nil
		},
	}
}
