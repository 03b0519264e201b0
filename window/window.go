// Package window divides event time into fixed windows. Only this package decides which
// window an instant is in, when a window ends, whether an event is late for its window,
// and whether a window is due.
//
// Windows are half-open, [start, start+duration), aligned to the Unix epoch, and in UTC,
// like Apache Beam's FixedWindows with offset 0. Every function is exact to the
// nanosecond for the years 1 to 9999, so also before 1970.
package window

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/internal/durations"
)

const day = 24 * time.Hour

// Fixed is a scheme of fixed windows. Its zero value is not usable; use [New].
type Fixed struct {
	// Duration is the length of each window. It is a number of whole seconds that
	// divides a day, so that windows begin at the same clock times every day.
	Duration time.Duration
	// AllowedLateness is how long after the end of a window an event of the window may
	// be published and still be counted.
	AllowedLateness time.Duration
}

// New returns the scheme with the given window duration and allowed lateness, or an error
// that names everything that is wrong with them.
func New(duration, allowedLateness time.Duration) (Fixed, error) {
	var errs []error
	if duration <= 0 || duration%time.Second != 0 || day%duration != 0 {
		errs = append(errs, fmt.Errorf("window duration %s is not a number of whole seconds that divides a day", durations.Text(duration)))
	}
	if allowedLateness < 0 || allowedLateness%time.Microsecond != 0 {
		errs = append(errs, fmt.Errorf("allowed lateness %s is not zero or more whole microseconds", durations.Text(allowedLateness)))
	}
	return Fixed{Duration: duration, AllowedLateness: allowedLateness}, errors.Join(errs...)
}

// Start returns the start of the window that t is in, in UTC.
func (f Fixed) Start(t time.Time) time.Time {
	// Seconds since the epoch, not time.Truncate: Truncate counts from year 1,
	// and a duration since the epoch overflows nanoseconds in year 2262.
	seconds, length := t.Unix(), int64(f.Duration/time.Second)
	into := seconds % length
	if into < 0 { // Go rounds towards zero, but windows before 1970 round down
		into += length
	}
	return time.Unix(seconds-into, 0).UTC()
}

// End returns when the window that starts at start ends. The window does not contain this
// instant.
func (f Fixed) End(start time.Time) time.Time { return start.Add(f.Duration) }

// closes returns the first publish time at which an event of the window is late.
func (f Fixed) closes(start time.Time) time.Time { return f.End(start).Add(f.AllowedLateness) }

// Late reports whether an event of the window that starts at start is late: whether its
// publish time is at or after the window's end plus the allowed lateness. This is Beam's
// rule with the message's own publish time instead of the watermark. So the result
// depends on neither place nor time of the call.
func (f Fixed) Late(start, published time.Time) bool {
	return !published.Before(f.closes(start))
}

// DueAt returns when the window that starts at start is due and may be written as final:
// the window's end, plus the allowed lateness, plus quiet. During quiet, messages that were
// published at the last moment can still arrive.
func (f Fixed) DueAt(start time.Time, quiet time.Duration) time.Time {
	return f.closes(start).Add(quiet)
}

// LastDue returns the start of the latest window that is due at now: the greatest start for
// which DueAt(start, quiet) is not after now.
func (f Fixed) LastDue(now time.Time, quiet time.Duration) time.Time {
	return f.LastEnded(now.Add(-f.AllowedLateness).Add(-quiet)) // in two steps, because the sum may overflow
}

// LastEnded returns the start of the latest window that has ended at now. Events of this
// window may still be counted.
func (f Fixed) LastEnded(now time.Time) time.Time {
	return f.Start(now.Add(-f.Duration))
}
