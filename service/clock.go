package service

import (
	"log/slog"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/metrics"
)

const (
	// clockTolerance is how far the clocks of Firestore and of the process may differ
	// without a warning. It is well below the five minutes that a flush allows for.
	clockTolerance = time.Minute
	// clockWarningPause is the shortest time between two warnings.
	clockWarningPause = 10 * time.Minute
)

// A clockWatch warns the operator if the clocks of Firestore and of the process differ.
type clockWatch struct {
	log     *slog.Logger
	metrics *metrics.Metrics

	mu     sync.Mutex
	warned time.Time
}

// ahead records how far Firestore's clock is ahead of the process's clock, and warns if
// the clocks differ too much.
func (c *clockWatch) ahead(d time.Duration) {
	c.metrics.ClockAhead(d)
	if d.Abs() <= clockTolerance {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.warned.IsZero() || now.Sub(c.warned) >= clockWarningPause {
		c.warned = now
		c.log.Warn("the clocks of this machine and of Firestore differ: set this machine's clock, or counts can become too low",
			"firestore_ahead_s", d.Seconds())
	}
}
