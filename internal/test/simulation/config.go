package simulation

import (
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/window"
)

// config is what the seed decides for the whole of a run.
type config struct {
	windows      window.Fixed
	relateness   bool // each process starts with an allowed lateness of its own
	byPublish    bool // event time is the publish time
	republished  bool // the deliveries of a message may have different publish times
	maxClockSkew time.Duration
	quiet        time.Duration
	retention    time.Duration
	redeployed   bool // each process starts with a retention of its own
	early        bool
	maxWindows   int  // how many windows a flush may write
	idAttribute  bool // the event id is an attribute, and two messages may have the same one

	processes int
	interval  time.Duration // between two batches of a process
	batchRows int
	pageSize  int // of pending shards
	commits   int // how many windows a commit writes at most
	messages  int
	head      time.Duration // from the beginning of the run to the end of the first window
	traffic   time.Duration // how long messages are published
	outage    time.Duration
	aftermath time.Duration // the time after head and traffic until all faults end
	noFlush   time.Duration // how long no flush comes
	faults    float64       // the share of storage calls that fail in some way
	mishaps   time.Duration // the longest time between two mishaps of processes
}

// durations are the possible durations of windows. A minute is in the list three times,
// so that it is chosen more often.
var durations = []time.Duration{time.Minute, time.Minute, time.Minute, 10 * time.Second, time.Hour}

// latenesses are the possible allowed latenesses, shortest first.
var latenesses = []time.Duration{0, 30 * time.Second, 2 * time.Minute}

// retentions are the possible times for which counters are kept.
var retentions = []time.Duration{20 * time.Minute, 2 * time.Hour, 192 * time.Hour}

func drawConfig(s *scheduler) config {
	c := config{
		windows:      window.Fixed{Duration: pick(s, durations...), AllowedLateness: pick(s, latenesses...)},
		relateness:   s.chance(0.2),
		byPublish:    s.chance(0.1),
		republished:  s.chance(0.3),
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
		pageSize:     pick(s, 1, 3, 300),
		commits:      pick(s, 1, 2, 500),
		messages:     20 + s.rng.IntN(60),
		traffic:      s.between(2*time.Minute, 6*time.Minute),
		aftermath:    s.between(5*time.Minute, 40*time.Minute),
		faults:       pick(s, 0, 0.05, 0.2),
		mishaps:      pick(s, time.Minute, 5*time.Minute, time.Hour),
	}
	c.head = s.between(time.Microsecond, min(c.windows.Duration, c.traffic))
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
	return fmt.Sprintf("%d messages in %v, windows of %v, lateness %v (changing: %v), quiet %v, retention %v (changing: %v), early %v, %d windows a flush, event time is publish time %v, publish times differ %v, ids from an attribute %v; %d processes, batches of %d every %v, commits of %d, pages of %d; outage %v, no flush for %v, %.0f %% of calls fail",
		c.messages, c.traffic, c.windows.Duration, c.windows.AllowedLateness, c.relateness, c.quiet, c.retention, c.redeployed, c.early, c.maxWindows, c.byPublish, c.republished, c.idAttribute,
		c.processes, c.batchRows, c.interval, c.commits, c.pageSize, c.outage, c.noFlush, 100*c.faults)
}
