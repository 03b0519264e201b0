package service

import (
	"log/slog"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/metrics"
)

const (
	// clockTolerance is how far Firestore's clock and the process's may differ without
	// a warning: well below the five minutes that a flush allows for.
	clockTolerance = time.Minute
	// clockWarningPause is how long the log is silent after a warning.
	clockWarningPause = 10 * time.Minute
)

// A clockWatch tells people that the clocks of Firestore and of the process differ.
type clockWatch struct {
	log     *slog.Logger
	metrics *metrics.Metrics

	mu     sync.Mutex
	warned time.Time
}

// ahead notes how far Firestore's clock is ahead of the process's.
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
