package event_test

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

func TestParseTimeAccepts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		// Zones:
		"2026-03-14T09:26:53.589793Z":      "2026-03-14T09:26:53.589793Z",
		"2026-03-14 09:26:53.589793Z":      "2026-03-14T09:26:53.589793Z",
		"2026-03-14T09:26:53.589793":       "2026-03-14T09:26:53.589793Z",
		"2026-03-14 09:26:53":              "2026-03-14T09:26:53.000000Z",
		"2026-03-14T09:26:53+00:00":        "2026-03-14T09:26:53.000000Z",
		"2026-03-14T09:26:53-00:00":        "2026-03-14T09:26:53.000000Z",
		"2026-03-14T09:26:53+05:45":        "2026-03-14T03:41:53.000000Z",
		"2026-03-14 09:26:53.5-03:30":      "2026-03-14T12:56:53.500000Z",
		"2026-03-14T09:26:53+23:59":        "2026-03-13T09:27:53.000000Z",
		"2026-03-14T09:26:53-23:59":        "2026-03-15T09:25:53.000000Z",
		"2026-01-01T00:00:00+00:01":        "2025-12-31T23:59:00.000000Z",
		"2024-02-28T23:59:59.999999-00:01": "2024-02-29T00:00:59.999999Z",
		// Fractions of every length. They are cut off after six digits and never rounded.
		"2026-03-14T09:26:53Z":           "2026-03-14T09:26:53.000000Z",
		"2026-03-14T09:26:53.5Z":         "2026-03-14T09:26:53.500000Z",
		"2026-03-14T09:26:53.05Z":        "2026-03-14T09:26:53.050000Z",
		"2026-03-14T09:26:53.713Z":       "2026-03-14T09:26:53.713000Z",
		"2026-03-14T09:26:53.7131Z":      "2026-03-14T09:26:53.713100Z",
		"2026-03-14T09:26:53.71312Z":     "2026-03-14T09:26:53.713120Z",
		"2026-03-14T09:26:53.0000019Z":   "2026-03-14T09:26:53.000001Z",
		"2026-03-14T09:26:53.00000199Z":  "2026-03-14T09:26:53.000001Z",
		"2026-03-14T09:26:59.999999999Z": "2026-03-14T09:26:59.999999Z",
		"2026-03-14T09:26:53.000000999Z": "2026-03-14T09:26:53.000000Z",
		"1969-12-31T23:59:59.999999999Z": "1969-12-31T23:59:59.999999Z",
		"1969-12-31T23:59:59.000000001Z": "1969-12-31T23:59:59.000000Z",
		"0001-01-01T00:00:00.000000999Z": "0001-01-01T00:00:00.000000Z",
		// The calendar:
		"2024-02-29T00:00:00Z": "2024-02-29T00:00:00.000000Z",
		"2000-02-29T00:00:00Z": "2000-02-29T00:00:00.000000Z",
		"1970-01-01T00:00:00Z": "1970-01-01T00:00:00.000000Z",
		"2026-12-31T23:59:59Z": "2026-12-31T23:59:59.000000Z",
		// The range. The years 1 to 9999 are meant in UTC.
		"0001-01-01T00:00:00Z":                "0001-01-01T00:00:00.000000Z",
		"9999-12-31T23:59:59.999999999Z":      "9999-12-31T23:59:59.999999Z",
		"0000-12-31T23:00:00-01:00":           "0001-01-01T00:00:00.000000Z",
		"9999-12-31T23:59:59.999999999+00:01": "9999-12-31T23:58:59.999999Z",
	} {
		got, err := event.ParseTime(text)
		if err != nil {
			t.Errorf("ParseTime(%q): %v", text, err)
			continue
		}
		if event.FormatTime(got) != want || got.Location() != time.UTC {
			t.Errorf("ParseTime(%q) = %v, want %s", text, got, want)
		}
	}
}

func TestParseTimeRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		// Texts that are nothing like a time:
		"", " ", "T", "now", "1773480413", "2026", "2026-03-14", "09:26:53", "2026-03-14T", "2026-03-14T09", "2026-03-14T09:26", "2026-03-14T09:26Z",
		"2026-03-14T09:26:5", "2026-03-14T09:26:5Z", "14/Mar/2026:09:26:53 +0000", "Sat, 14 Mar 2026 09:26:53 GMT", "20260314T092653Z", "2026-W11-6T09:26:53Z", "2026-073T09:26:53Z",
		// Punctuation, and upper and lower case:
		"2026-03-14t09:26:53Z", "2026-03-14T09:26:53z", "2026-03-14_09:26:53Z", "2026-03-14\t09:26:53Z", "2026-03-1409:26:53Z", "2026-03-14  09:26:53Z", "2026-03-14T 09:26:53Z",
		"2026/03/14T09:26:53Z", "2026-03-14T09.26.53Z", "2026-03:14T09:26:53Z", "2026-03-14T09-26:53Z", "2026-03-14T09:26-53Z",
		" 2026-03-14T09:26:53Z", "2026-03-14T09:26:53Z ", "2026-03-14T09:26:53 ", "2026-03-14T09:26:53Z\n", "2026-03-14T09:26:53Z\x00", "\"2026-03-14T09:26:53Z\"", "2026-03-14T09:26:53ZZ",
		// Fields of the wrong width, signs, digits that are not ASCII:
		"26-03-14T09:26:53Z", "12026-03-14T09:26:53Z", "+2026-03-14T09:26:53Z", "-2026-03-14T09:26:53Z", "2026-3-14T09:26:53Z", "2026-03-4T09:26:53Z", "2026-03-14T9:26:53Z", "2026-03-14T09:6:53Z",
		"2026-+3-14T09:26:53Z", "2026--3-14T09:26:53Z", "2026-03-14T+9:26:53Z", "2026-03-14T 9:26:53Z", "202a-03-14T09:26:53Z", "٢٠٢٦-03-14T09:26:53Z", "2026-03-14T09:26:5३Z", "２０２６-03-14T09:26:53Z",
		// Days and times of day that do not exist:
		"2026-00-14T09:26:53Z", "2026-13-14T09:26:53Z", "2026-99-14T09:26:53Z", "2026-03-00T09:26:53Z", "2026-03-32T09:26:53Z", "2026-03-99T09:26:53Z", "2026-04-31T09:26:53Z", "2026-02-29T09:26:53Z",
		"2024-02-30T09:26:53Z", "1900-02-29T09:26:53Z", "2026-03-14T24:00:00Z", "2026-03-14T25:00:00Z", "2026-03-14T09:60:53Z", "2026-03-14T09:26:60Z", "2016-12-31T23:59:60Z", "2026-03-14T09:26:61Z", "2026-03-14T99:99:99Z",
		// Fractions:
		"2026-03-14T09:26:53.", "2026-03-14T09:26:53.Z", "2026-03-14T09:26:53.+00:00", "2026-03-14T09:26:53,5Z", "2026-03-14T09:26:53.1234567890Z", "2026-03-14T09:26:53." + strings.Repeat("0", 1000) + "Z",
		"2026-03-14T09:26:53.-5Z", "2026-03-14T09:26:53.+5Z", "2026-03-14T09:26:53.5e1Z", "2026-03-14T09:26:53.5.5Z", "2026-03-14T09:26:53. 5Z", "2026-03-14T09:26:53.5 Z", "2026-03-14T09:26.5Z",
		// Zones:
		"2026-03-14T09:26:53 Z", "2026-03-14T09:26:53 +00:00", "2026-03-14T09:26:53UTC", "2026-03-14T09:26:53 UTC", "2026-03-14T09:26:53+", "2026-03-14T09:26:53+00", "2026-03-14T09:26:53+0000", "2026-03-14T09:26:53+0:00",
		"2026-03-14T09:26:53+00:0", "2026-03-14T09:26:53+00:000", "2026-03-14T09:26:53+00:00:00", "2026-03-14T09:26:53+24:00", "2026-03-14T09:26:53+00:60", "2026-03-14T09:26:53-24:00", "2026-03-14T09:26:53\u221200:00",
		"2026-03-14T09:26:53Z+00:00", "2026-03-14T09:26:53+00:00Z", "2026-03-14T09:26:53+-1:00", "2026-03-14T09:26:53*00:00", "2026-03-14T09:26:53 00:00", "2026-03-14T09:26:53+00.00", "2026-03-14T09:26:53[UTC]",
		// Years:
		"0000-01-01T00:00:00Z", "0000-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "9999-12-31T23:59:00-23:59", "10000-01-01T00:00:00Z",
		// Texts that are not UTF-8, or very long:
		"2026-03-14T09:26:53\xff", "\xff\xfe", strings.Repeat("9", 1<<20), strings.Repeat("\xff", 1<<20),
	} {
		got, err := event.ParseTime(text)
		if err == nil {
			t.Errorf("ParseTime(%.60q) = %v, want an error", text, got)
			continue
		}
		if !got.IsZero() {
			t.Errorf("ParseTime(%.60q) = %v, want the zero time with the error %v", text, got, err)
		}
		if len(err.Error()) > 1000 {
			t.Errorf("ParseTime(%.60q): the error has %d bytes", text, len(err.Error()))
		}
	}
}

// ParseTime accepts every day of the calendar, and no day that does not exist.
func TestParseTimeKnowsTheCalendar(t *testing.T) {
	t.Parallel()
	for _, year := range []int{1, 1600, 1900, 1999, 2000, 2023, 2024, 2100, 9999} {
		for month := range 14 {
			for day := range 34 {
				text := fmt.Sprintf("%04d-%02d-%02dT00:00:00Z", year, month, day)
				_, goErr := time.Parse(time.RFC3339, text)
				if _, err := event.ParseTime(text); (err == nil) != (goErr == nil) {
					t.Errorf("ParseTime(%q) = %v, time.Parse: %v", text, err, goErr)
				}
			}
		}
	}
}

// Times that the program writes have a fixed width, so that they sort as text in the
// order of time.
func TestFormatTimeIsFixedWidthUTC(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		t    time.Time
		want string
	}{
		{time.Date(2026, 3, 14, 9, 26, 53, 500_000_000, time.UTC), "2026-03-14T09:26:53.500000Z"},
		{time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC), "2026-03-14T09:26:53.000000Z"},
		{time.Date(2026, 3, 14, 9, 26, 53, 999_999_999, time.UTC), "2026-03-14T09:26:53.999999Z"},
		{time.Date(2026, 3, 14, 9, 26, 53, 1, time.FixedZone("", 3600)), "2026-03-14T08:26:53.000000Z"},
		{time.Date(7, 1, 2, 3, 4, 5, 6000, time.UTC), "0007-01-02T03:04:05.000006Z"},
	} {
		if got := event.FormatTime(test.t); got != test.want {
			t.Errorf("FormatTime(%v) = %s, want %s", test.t, got, test.want)
		}
	}
}

func TestAttributeTimes(t *testing.T) {
	t.Parallel()
	c := classifier(t, "attribute:ts", "message")
	for text, want := range map[string]string{
		"2026-03-14T09:26:53.589793Z": "2026-03-14T09:26:53.589793Z",
		"2026-03-14 09:26:53":         "2026-03-14T09:26:53.000000Z",
		"0":                           "1970-01-01T00:00:00.000000Z",
		"-0":                          "1970-01-01T00:00:00.000000Z",
		"1773480413589":               "2026-03-14T09:26:53.589000Z",
		"0001773480413589":            "2026-03-14T09:26:53.589000Z",
		"-1":                          "1969-12-31T23:59:59.999000Z",
		"-60001":                      "1969-12-31T23:58:59.999000Z",
		"2026":                        "1970-01-01T00:00:02.026000Z", // digits alone are milliseconds, never a year
		"-62135596800000":             "0001-01-01T00:00:00.000000Z",
		"253402300799999":             "9999-12-31T23:59:59.999000Z",
	} {
		m := message(t, valid)
		m.Attributes = map[string]string{"ts": text}
		m.PublishTime = at(t, want)
		v := c.Classify(m)
		if v.Status != event.Counted || event.FormatTime(v.EventTime) != want || v.EventTime.Location() != time.UTC {
			t.Errorf("attribute %q: %s at %v (%s %v), want %s", text, v.Status, v.EventTime, v.Reason, v.Err, want)
		}
	}
	for _, text := range []string{
		"", " ", "1773480413.589", "1773480413589.0", "1e12", "0x10", "1_000", " 1", "1 ", "-", "+", "--1", "now", "2026-03-14", "2026-03-14T09:26:60Z",
		"-62135596800001", "253402300800000", strconv.Itoa(math.MaxInt64), strconv.Itoa(math.MinInt64), "9223372036854775808", "-9223372036854775809", strings.Repeat("9", 1000),
	} {
		m := message(t, valid)
		m.Attributes = map[string]string{"ts": text}
		if v := c.Classify(m); v.Status != event.DeadLetter || v.Reason != event.BadTime || v.HasTime {
			t.Errorf("attribute %.40q: %s %s at %v, want bad_time", text, v.Status, v.Reason, v.EventTime)
		}
	}
}

var timeShape = regexp.MustCompile(`^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?$`)

// oracleTime reads a time a second time by the same rules: a pattern for the form, and
// the standard library for the calendar.
func oracleTime(s string) (time.Time, bool) {
	shape := timeShape.FindStringSubmatch(s)
	if shape == nil {
		return time.Time{}, false
	}
	s = s[:10] + "T" + s[11:]
	if shape[2] == "" {
		s += "Z"
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	t = t.UTC().Truncate(time.Microsecond)
	return t, err == nil && t.Year() >= 1 && t.Year() <= 9999
}

func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{
		"2026-03-14T09:26:53.589793Z", "2026-03-14 09:26:53", "2026-03-14T09:26:53.999999999+05:45", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z",
		"0000-12-31T23:59:59-00:01", "2024-02-29T23:59:59-23:59", "2026-02-29T00:00:00Z", "2016-12-31T23:59:60Z", "2026-03-14T09:26:53,5Z", "2026-03-14T09:26:53.", "",
	} {
		f.Add(seed, "1970-01-01T00:00:00Z")
		f.Add("1969-12-31 23:59:59.9", seed)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, err := event.ParseTime(a)
		want, ok := oracleTime(a)
		if (err == nil) != ok || ok && !x.Equal(want) {
			t.Fatalf("ParseTime(%q) = %v, %v, want %v, %v", a, x, err, want, ok)
		}
		if err != nil {
			return
		}
		if year := x.Year(); year < 1 || year > 9999 || x.Location() != time.UTC || x.Nanosecond()%1000 != 0 {
			t.Errorf("ParseTime(%q) = %v: want whole microseconds of the years 1 to 9999 in UTC", a, x)
		}
		text := event.FormatTime(x)
		if again, err := event.ParseTime(text); err != nil || again != x {
			t.Errorf("ParseTime(%q) = %v, but of its own text %q: %v, %v", a, x, text, again, err)
		}
		if y, err := event.ParseTime(b); err == nil {
			if got, want := strings.Compare(text, event.FormatTime(y)), x.Compare(y); got != want {
				t.Errorf("%q and %q compare as text %d, as time %d", text, event.FormatTime(y), got, want)
			}
		}
	})
}

func BenchmarkParseTime(b *testing.B) {
	for name, text := range map[string]string{"micros": "2026-03-14T09:26:53.589793Z", "offset": "2026-03-14 09:26:53+05:45", "refused": "2026-02-30T09:26:53Z"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				event.ParseTime(text)
			}
		})
	}
}
