package generator

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/durations"
)

const (
	maxUsers   = 1_000_000
	minMeanGap = time.Microsecond // the resolution of event time
	maxMeanGap = 365 * 24 * time.Hour
)

// Config says what stream to make.
type Config struct {
	// Users is how many users there are.
	Users int
	// Rate is the events a minute that all users make together, without lag; the
	// publish delays of Lag come on top of the gaps between events.
	Rate float64
	// Lag turns on the lab's model of users who go offline.
	Lag bool
	// Seed decides the users and all that they do.
	Seed uint64

	// Malformed is the share, 0 to 1, of messages whose data is spoilt so that it
	// is no valid event, in one of several ways.
	Malformed float64
	// Duplicates is the share, 0 to 1, of messages that are delivered a second
	// time within a minute, the very same.
	Duplicates float64

	// Count ends the stream when so many messages have been made, malformed ones
	// included; a second delivery is no message of its own. 0 is no limit.
	Count int
	// Duration ends the stream so long after its start. 0 is no limit.
	Duration time.Duration

	// Start is when a simulated stream starts; see [Simulate]. [Run] starts now.
	Start time.Time
}

// lastTime ends every stream: past it a time could not be written.
var lastTime = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

// Default returns the lab's stream without lag: 10 users who make 120 events a
// minute together, without end, from seed 0.
func Default() Config { return Config{Users: 10, Rate: 120} }

// Validate returns all that is wrong with the configuration, joined, with the
// values.
func (c Config) Validate() error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	usersValid := c.Users >= 1 && c.Users <= maxUsers
	if !usersValid {
		problem("users is %d, want 1 to %d", c.Users, maxUsers)
	}
	rateValid := c.Rate > 0 && !math.IsInf(c.Rate, 1) // NaN is not > 0
	if !rateValid {
		problem("rate is %v events a minute, want more than 0", c.Rate)
	}
	if usersValid && rateValid {
		if gap := c.meanGapSeconds(); gap < minMeanGap.Seconds() || gap > maxMeanGap.Seconds() {
			problem("rate %v events a minute with %d users is an event of each every %.3g seconds, want %.3g to %.3g",
				c.Rate, c.Users, gap, minMeanGap.Seconds(), maxMeanGap.Seconds())
		}
	}
	if !isShare(c.Malformed) {
		problem("malformed is %v, want a share from 0 to 1", c.Malformed)
	}
	if !isShare(c.Duplicates) {
		problem("duplicates is %v, want a share from 0 to 1", c.Duplicates)
	}
	if c.Count < 0 {
		problem("count is %d, want 0 for no limit, or more", c.Count)
	}
	if c.Duration < 0 {
		problem("duration is %s, want 0 for no limit, or more", durations.Text(c.Duration))
	}
	if latest := lastTime.Add(-max(c.Duration, 0)); !c.Start.Before(latest) {
		problem("start is %s, want before %s, so that no time lies past year 9999", event.FormatTime(c.Start), event.FormatTime(latest))
	}
	return errors.Join(problems...)
}

func isShare(x float64) bool { return x >= 0 && x <= 1 } // NaN is neither

// endless tells whether the stream goes on until somebody stops it.
func (c Config) endless() bool { return c.Count == 0 && c.Duration == 0 }

// meanGapSeconds is a number, not a duration, since it may overflow one.
func (c Config) meanGapSeconds() float64 { return 60 * float64(c.Users) / c.Rate }

// maxGap is the longest gap between two events of a user.
func (c Config) maxGap() time.Duration {
	return time.Duration(2 * c.meanGapSeconds() * float64(time.Second))
}
