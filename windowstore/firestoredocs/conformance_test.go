package firestoredocs_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/shardstore"
	"github.com/tidemark-dev/tidemark/windowstore/storetest"
)

// The clock that paces the stores jumps, so that they write a document again
// whenever none of its writes is under way.
func TestConformance(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		storetest.Run(t, storetest.Harness{
			Handles: 4, ServerClock: true, ManyWindows: 1200, // four pages
			New: func(t *testing.T) storetest.Place {
				on := on.another(t)
				db := on.open(t)
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
					Expire: func(_ context.Context, now time.Time) error {
						on.expire(t, now)
						return nil
					},
				}
			},
		})
	})
}

func jumping() func() time.Time {
	var calls atomic.Int64
	return func() time.Time { return time.Unix(2*calls.Add(1), 0) }
}
