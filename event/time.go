package event

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// timeLayout is the layout of every time that Tidemark writes: RFC 3339, UTC, always six
// digits of fraction. So texts sort in the order of their times. (time.RFC3339Nano drops
// trailing zeros.)
const timeLayout = "2006-01-02T15:04:05.000000Z"

// FormatTime returns t in RFC 3339, in UTC, with exactly six digits of
// fraction.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// FormatFrom returns the beginning of a range of time, for users to read. The zero time
// means that the range has no beginning.
func FormatFrom(from time.Time) string {
	if from.IsZero() {
		return "the beginning"
	}
	return FormatTime(from)
}

var errTimeSyntax = errors.New("want a date, T or a space, hh:mm:ss, an optional fraction of 1 to 9 digits, then Z, an offset as +hh:mm, or nothing for UTC")

// ParseTime reads a time as events and push envelopes carry it: a date, "T" or a space,
// the time of day in whole seconds, up to nine digits of fraction after a point, then
// "Z", an offset "+hh:mm", or nothing, which means UTC. The time is returned in UTC, cut
// down (not rounded) to the microsecond.
//
// ParseTime is stricter than time.Parse, which accepts a comma for the point and a
// one-digit hour. ParseTime also accepts more: a space, and a missing zone. It accepts no
// second 60 and no lower case, and the year in UTC must be from 1 to 9999.
func ParseTime(s string) (time.Time, error) {
	year, ok1 := digits(s, 0, 4)
	month, ok2 := digits(s, 5, 2)
	dayOfMonth, ok3 := digits(s, 8, 2)
	hour, ok4 := digits(s, 11, 2)
	minute, ok5 := digits(s, 14, 2)
	second, ok6 := digits(s, 17, 2)
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) ||
		s[4] != '-' || s[7] != '-' || (s[10] != 'T' && s[10] != ' ') || s[13] != ':' || s[16] != ':' {
		return time.Time{}, fmt.Errorf("%s is not a time: %w", strictjson.Quote(s), errTimeSyntax)
	}
	nanos, rest, err := fraction(s[19:])
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is not a time: %w", strictjson.Quote(s), err)
	}
	offset, err := zone(rest)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is not a time: %w", strictjson.Quote(s), err)
	}
	if hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, fmt.Errorf("%s is not a time: hours go to 23, minutes and seconds to 59", strictjson.Quote(s))
	}
	t := time.Date(year, time.Month(month), dayOfMonth, hour, minute, second, nanos, time.UTC)
	if month < 1 || month > 12 || t.Day() != dayOfMonth { // Date normalises 30 February to March.
		return time.Time{}, fmt.Errorf("%s is not a time: no such day", strictjson.Quote(s))
	}
	return inRange(s, t.Add(-offset))
}

// parseAttributeTime reads a time from a message attribute, where Beam also
// accepts integer milliseconds since the Unix epoch.
func parseAttributeTime(s string) (time.Time, error) {
	millis, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return ParseTime(s)
	}
	return inRange(s, time.UnixMilli(millis))
}

// inRange returns t in UTC, cut down to the microsecond. It returns an error for a year
// that some store cannot hold or some reader cannot print.
func inRange(text string, t time.Time) (time.Time, error) {
	t = t.UTC()
	if year := t.Year(); year < 1 || year > 9999 {
		return time.Time{}, fmt.Errorf("%s is not a time: years go from 1 to 9999 in UTC", strictjson.Quote(text))
	}
	// Truncate(time.Microsecond) gives the same result, but is slower.
	return t.Add(-time.Duration(t.Nanosecond() % 1000)), nil
}

// digits reads the n decimal digits of s that begin at position at.
func digits(s string, at, n int) (value int, ok bool) {
	if len(s) < at+n {
		return 0, false
	}
	for _, c := range []byte(s[at : at+n]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		value = value*10 + int(c-'0')
	}
	return value, true
}

// fraction reads an optional fraction of a second and returns what follows it.
func fraction(s string) (nanos int, rest string, err error) {
	if s == "" || s[0] != '.' {
		return 0, s, nil
	}
	end := 1
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	if n := end - 1; n < 1 || n > 9 {
		return 0, "", fmt.Errorf("a fraction has 1 to 9 digits, not %d", n)
	}
	nanos, _ = digits(s, 1, end-1)
	for range 9 - (end - 1) {
		nanos *= 10
	}
	return nanos, s[end:], nil
}

// zone reads a time zone: nothing and Z are UTC.
func zone(s string) (offset time.Duration, err error) {
	if s == "" || s == "Z" {
		return 0, nil
	}
	hours, ok1 := digits(s, 1, 2)
	minutes, ok2 := digits(s, 4, 2)
	if len(s) != 6 || !ok1 || !ok2 || s[3] != ':' || (s[0] != '+' && s[0] != '-') || hours > 23 || minutes > 59 {
		return 0, errTimeSyntax
	}
	offset = time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if s[0] == '-' {
		return -offset, nil
	}
	return offset, nil
}
