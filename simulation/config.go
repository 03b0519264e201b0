package simulation

import (
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/window"
)

// config is what the seed decides about a run as a whole.
type config struct {
	windows      window.Fixed
	maxClockSkew time.Duration
	quiet        time.Duration
	retention    time.Duration
	redeployed   bool // each process that starts has another retention
	early        bool
	maxWindows   int  // that a flush publishes
	idAttribute  bool // the event id is an attribute, which two messages may share

	processes int
	interval  time.Duration // between two batches of a process
	batchRows int
	messages  int
	traffic   time.Duration // how long messages are published
	outage    time.Duration
	aftermath time.Duration // after both, before all faults end
	noFlush   time.Duration // how long no flush comes
	faults    float64       // share of storage calls that fail in some way
	mishaps   time.Duration // between two mishaps of processes, at the most
}

// retentions are for how long counters may be kept.
var retentions = []time.Duration{20 * time.Minute, 2 * time.Hour, 192 * time.Hour}

func drawConfig(s *scheduler) config {
	c := config{
		windows:      window.Fixed{Duration: time.Minute, AllowedLateness: pick(s, 0, 30*time.Second, 2*time.Minute)},
		maxClockSkew: 5 * time.Minute,
		quiet:        pick(s, 0, 10*time.Second),
		retention:    pick(s, retentions...),
		redeployed:   s.chance(0.2),
		early:        s.chance(0.25),
		maxWindows:   pick(s, 1000, 4),
		idAttribute:  s.chance(0.3),
		processes:    1 + s.rng.IntN(3),
		interval:     pick(s, time.Millisecond, 200*time.Millisecond),
		batchRows:    pick(s, 3, 10, 1000),
		messages:     20 + s.rng.IntN(60),
		traffic:      s.between(2*time.Minute, 6*time.Minute),
		aftermath:    s.between(5*time.Minute, 40*time.Minute),
		faults:       pick(s, 0, 0.05, 0.2),
		mishaps:      pick(s, time.Minute, 5*time.Minute, time.Hour),
	}
	if s.chance(0.4) {
		c.outage = s.between(10*time.Minute, 6*time.Hour)
	}
	if s.chance(0.3) {
		c.noFlush = s.between(10*time.Minute, 3*time.Hour)
		c.aftermath = max(c.aftermath, c.noFlush)
	}
	return c
}

func pick[T any](s *scheduler, choices ...T) T { return choices[s.rng.IntN(len(choices))] }

func (c config) String() string {
	return fmt.Sprintf("%d messages in %v, lateness %v, quiet %v, retention %v (changing: %v), early %v, %d windows a flush, ids from an attribute %v; %d processes, batches of %d every %v; outage %v, no flush for %v, %.0f %% of calls fail",
		c.messages, c.traffic, c.windows.AllowedLateness, c.quiet, c.retention, c.redeployed, c.early, c.maxWindows, c.idAttribute, c.processes, c.batchRows, c.interval, c.outage, c.noFlush, 100*c.faults)
}
