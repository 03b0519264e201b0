package firestorecounters_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/test/windowstoretest"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// The clock of the stores jumps between calls. So a store writes to the same document
// again as soon as no other write to it is under way.
func TestConformance(t *testing.T) {
	onEach(t, func(t *testing.T, on place) {
		windowstoretest.Run(t, windowstoretest.Harness{
			Handles: 4, ServerClock: true, ManyWindows: 1200, // four pages of windows
			New: func(t *testing.T) windowstoretest.Place {
				on := on.another(t)
				db := on.open(t)
				return windowstoretest.Place{
					Open: func(_ context.Context, c windowstoretest.Config) (windowstore.Store, error) {
						return sharded.New(sharded.Config{
							Documents: db.Pipeline(c.Pipeline),
							Pipeline:  c.Pipeline,
							Meaning:   c.Meaning,
							Writer:    sharded.NewWriter(),
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
