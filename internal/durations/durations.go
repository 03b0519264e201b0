// Package durations reads and writes durations as people write them.
package durations

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Text returns a duration as a setting may have it: below two minutes in seconds, and
// above without the units that are zero at its end. So 60s is not 1m0s, and 2m not 2m0s.
// [time.ParseDuration] reads it.
func Text(d time.Duration) string {
	if length := d.Abs(); time.Minute <= length && length < 2*time.Minute {
		text := strconv.FormatInt(int64(d/time.Second), 10)
		if fraction := length % time.Second; fraction > 0 {
			text += strings.TrimRight(fmt.Sprintf(".%09d", fraction), "0")
		}
		return text + "s"
	}
	text := d.String()
	for _, end := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, end) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// Max is the longest duration that Parse takes: a century. A sum of durations overflows
// at almost three centuries.
const Max = 100 * 365 * 24 * time.Hour

// Parse reads a duration of zero or more. A plain number is in seconds, as in the lab's
// WINDOW_DURATION=60.
func Parse(text string) (time.Duration, error) {
	unit := ""
	if strings.Trim(text, "0123456789.") == "" {
		unit = "s"
	}
	d, err := time.ParseDuration(text + unit)
	if err != nil || d < 0 || d > Max {
		return 0, errors.New("want a duration of zero or more and at most a century: with units, as 90s, 2m or 1h30m, or in seconds, as 90 or 1.5")
	}
	return d, nil
}
