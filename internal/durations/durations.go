// Package durations writes durations as people write them.
package durations

import (
	"strconv"
	"strings"
	"time"
)

// Text returns a duration as a setting may have it: below two minutes in seconds, and
// above without the units that are zero at its end. So 60s is not 1m0s, and 2m not 2m0s.
// [time.ParseDuration] reads it.
func Text(d time.Duration) string {
	if length := d.Abs(); time.Minute <= length && length < 2*time.Minute {
		return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
	}
	text := d.String()
	for _, end := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, end) {
			text = text[:len(text)-2]
		}
	}
	return text
}
