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

// Config describes a stream.
type Config struct {
	// Users is how many users there are.
	Users int
	// Rate is how many events a minute all users create together, without lag. With Lag the
	// publish delays come on top of the gaps between events.
	Rate float64
	// Lag turns on the lab's model of users who go offline.
	Lag bool
	// Seed determines the users and everything that they do.
	Seed uint64

	// Malformed is the share, 0 to 1, of messages whose data is made invalid, in one of
	// several ways.
	Malformed float64
	// Duplicates is the share, 0 to 1, of messages that are delivered a second time,
	// unchanged, within a minute.
	Duplicates float64

	// Count ends the stream after this many messages, malformed messages included. A second
	// delivery is not another message. 0 means no limit.
	Count int
	// Duration ends the stream this long after its start. 0 means no limit.
	Duration time.Duration

	// Start is when a simulated stream starts; see [Simulate]. [Run] always starts now.
	Start time.Time
}

// lastTime ends every stream, because a later time cannot be written.
var lastTime = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

// Default returns the lab's stream without lag: 10 users who create 120 events a minute
// together. The stream is endless, and its seed is 0.
func Default() Config { return Config{Users: 10, Rate: 120} }

// Validate returns all problems of the configuration, joined, with the wrong values.
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
			problem("rate %v events a minute with %d users means an event of each user every %.3g seconds, want %.3g to %.3g",
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
		problem("count is %d, want 1 or more, or 0 for no limit", c.Count)
	}
	if c.Duration < 0 {
		problem("duration is %s, want more than 0, or 0 for no limit", durations.Text(c.Duration))
	}
	if latest := lastTime.Add(-max(c.Duration, 0)); !c.Start.Before(latest) {
		problem("start is %s, want a time before %s, so that no time is after the year 9999", event.FormatTime(c.Start), event.FormatTime(latest))
	}
	return errors.Join(problems...)
}

func isShare(x float64) bool { return x >= 0 && x <= 1 } // NaN is neither

// endless reports whether the stream continues until somebody stops it.
func (c Config) endless() bool { return c.Count == 0 && c.Duration == 0 }

// meanGapSeconds returns a number, because a time.Duration might overflow.
func (c Config) meanGapSeconds() float64 { return 60 * float64(c.Users) / c.Rate }

// maxGap is the longest gap between two events of a user.
func (c Config) maxGap() time.Duration {
	return time.Duration(2 * c.meanGapSeconds() * float64(time.Second))
}
