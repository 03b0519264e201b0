package window_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/window"
)

func scheme(t testing.TB, duration, lateness time.Duration) window.Fixed {
	t.Helper()
	f, err := window.New(duration, lateness)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	x, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestNewTakesWholeSecondsThatDivideADay(t *testing.T) {
	t.Parallel()
	for seconds := 1; seconds <= 24*60*60; seconds++ {
		d := time.Duration(seconds) * time.Second
		_, err := window.New(d, 0)
		if divides := 24*60*60%seconds == 0; (err == nil) != divides {
			t.Errorf("New(%v, 0) = %v; divides a day: %v", d, err, divides)
		}
	}
}

func TestNewRefusesDurationsThatDoNotDivideADay(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{
		0, -1, -time.Second, -time.Minute, 1, time.Millisecond, 500 * time.Millisecond, time.Second - 1, time.Second + 1,
		1500 * time.Millisecond, 7 * time.Second, 7 * time.Hour, 24*time.Hour - time.Second, 24*time.Hour + time.Second,
		48 * time.Hour, math.MaxInt64, math.MinInt64,
	} {
		if _, err := window.New(d, 0); err == nil || !strings.Contains(err.Error(), durations.Text(d)) {
			t.Errorf("New(%d ns, 0) = %v, want an error that names the value", d, err)
		}
	}
}

func TestNewTakesLatenessInMicroseconds(t *testing.T) {
	t.Parallel()
	for _, l := range []time.Duration{0, time.Microsecond, time.Millisecond, 2 * time.Minute, 365 * 24 * time.Hour} {
		if f, err := window.New(time.Minute, l); err != nil || f.AllowedLateness != l || f.Duration != time.Minute {
			t.Errorf("New(1m, %v) = %+v, %v", l, f, err)
		}
	}
	for _, l := range []time.Duration{-1, -time.Microsecond, -time.Minute, 1, 999, 1001, time.Second + 1, math.MaxInt64, math.MinInt64} {
		if _, err := window.New(time.Minute, l); err == nil || !strings.Contains(err.Error(), durations.Text(l)) {
			t.Errorf("New(1m, %d ns) = %v, want an error that names the value", l, err)
		}
	}
}

func TestNewNamesEveryFault(t *testing.T) {
	t.Parallel()
	_, err := window.New(7*time.Second, -3*time.Second)
	if err == nil || !strings.Contains(err.Error(), "7s") || !strings.Contains(err.Error(), "-3s") {
		t.Errorf("New(7s, -3s) = %v, want both values named", err)
	}
}

// grid has a window start for each duration and each part of the calendar that is
// difficult for arithmetic: before the epoch, around the epoch, at both ends of the
// range, and after the year 2262, when nanoseconds since the epoch overflow an int64.
var grid = []struct {
	duration time.Duration
	starts   []string
}{
	{time.Second, []string{"0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2026-03-14T09:26:53Z", "9999-12-31T23:59:59Z"}},
	{time.Minute, []string{"0001-01-01T00:00:00Z", "0001-01-01T00:01:00Z", "1969-12-31T23:59:00Z", "1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z", "2000-02-29T23:59:00Z", "2026-03-14T09:26:00Z", "2262-04-11T23:47:00Z", "9999-12-31T23:59:00Z"}},
	{90 * time.Second, []string{"0001-01-01T00:01:30Z", "1969-12-31T23:58:30Z", "1970-01-01T00:01:30Z", "2026-03-14T09:27:00Z"}},
	{time.Hour, []string{"0001-01-01T00:00:00Z", "1969-12-31T23:00:00Z", "1970-01-01T00:00:00Z", "2026-03-14T09:00:00Z", "2300-01-01T00:00:00Z", "9999-12-31T23:00:00Z"}},
	{8 * time.Hour, []string{"1677-09-21T00:00:00Z", "1969-12-31T16:00:00Z", "2026-03-14T08:00:00Z"}},
	{24 * time.Hour, []string{"0001-01-01T00:00:00Z", "1900-02-28T00:00:00Z", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z", "2016-12-31T00:00:00Z", "9999-12-31T00:00:00Z"}},
}

// eachWindow runs the test for every window of the grid, with an allowed lateness of 2
// minutes.
func eachWindow(t *testing.T, test func(t *testing.T, f window.Fixed, start time.Time)) {
	for _, row := range grid {
		for _, s := range row.starts {
			t.Run(fmt.Sprintf("%v/%s", row.duration, s), func(t *testing.T) {
				t.Parallel()
				test(t, scheme(t, row.duration, 2*time.Minute), instant(t, s))
			})
		}
	}
}

// steps are the resolutions at which edges are tested.
var steps = []time.Duration{time.Nanosecond, time.Microsecond, time.Second}

func TestWindowsAreHalfOpen(t *testing.T) {
	t.Parallel()
	eachWindow(t, func(t *testing.T, f window.Fixed, start time.Time) {
		end := start.Add(f.Duration)
		if got := f.End(start); !got.Equal(end) {
			t.Errorf("End(%v) = %v, want %v", start, got, end)
		}
		check := func(at, want time.Time) {
			t.Helper()
			if got := f.Start(at); got != want.UTC() {
				t.Errorf("Start(%v) = %v, want %v", at, got, want)
			}
		}
		check(start, start)
		check(end, end)
		for _, step := range steps {
			check(start.Add(-step), start.Add(-f.Duration))
			check(end.Add(-step), start)
			if step < f.Duration {
				check(start.Add(step), start)
				check(end.Add(step), end)
			}
		}
	})
}

func TestLateFromTheEndPlusTheAllowedLatenessOn(t *testing.T) {
	t.Parallel()
	eachWindow(t, func(t *testing.T, f window.Fixed, start time.Time) {
		closes := start.Add(f.Duration + 2*time.Minute)
		if !f.Late(start, closes) {
			t.Errorf("Late(%v, %v) = false at the very edge", start, closes)
		}
		for _, step := range steps {
			if f.Late(start, closes.Add(-step)) {
				t.Errorf("Late(%v) = true %v before the edge", start, step)
			}
			if !f.Late(start, closes.Add(step)) {
				t.Errorf("Late(%v) = false %v after the edge", start, step)
			}
		}
	})
}

func TestDueFromTheEndPlusLatenessPlusQuietOn(t *testing.T) {
	t.Parallel()
	const quiet = 10 * time.Second
	eachWindow(t, func(t *testing.T, f window.Fixed, start time.Time) {
		due := start.Add(f.Duration + 2*time.Minute + quiet)
		if got := f.DueAt(start, quiet); !got.Equal(due) {
			t.Errorf("DueAt(%v) = %v, want %v", start, got, due)
		}
		if got := f.LastDue(due, quiet); !got.Equal(start) {
			t.Errorf("LastDue(%v) = %v, want %v", due, got, start)
		}
		for _, step := range steps {
			if got, want := f.LastDue(due.Add(-step), quiet), start.Add(-f.Duration); !got.Equal(want) {
				t.Errorf("LastDue %v before the edge = %v, want %v", step, got, want)
			}
			if got := f.LastDue(due.Add(step), quiet); step < f.Duration && !got.Equal(start) {
				t.Errorf("LastDue %v after the edge = %v, want %v", step, got, start)
			}
		}
	})
}

func TestLastEndedIsTheWindowThatHasJustEnded(t *testing.T) {
	t.Parallel()
	eachWindow(t, func(t *testing.T, f window.Fixed, start time.Time) {
		end := start.Add(f.Duration)
		if got := f.LastEnded(end); !got.Equal(start) {
			t.Errorf("LastEnded(%v) = %v, want %v", end, got, start)
		}
		if got, want := f.LastEnded(end.Add(-1)), start.Add(-f.Duration); !got.Equal(want) {
			t.Errorf("LastEnded 1 ns before the end = %v, want %v", got, want)
		}
	})
}

// When a window is due, whatever the quiet time is, no event can still be published that
// is on time. Otherwise a final count could be too low.
func TestNothingOnTimeIsPublishedOnceTheWindowIsDue(t *testing.T) {
	t.Parallel()
	for _, lateness := range []time.Duration{0, time.Microsecond, 2 * time.Minute, 48 * time.Hour} {
		f := scheme(t, time.Minute, lateness)
		start := instant(t, "2026-03-14T09:26:00Z")
		for _, quiet := range []time.Duration{0, time.Nanosecond, 10 * time.Second} {
			if !f.Late(start, f.DueAt(start, quiet)) {
				t.Errorf("lateness %v, quiet %v: an event published when the window is due is not late", lateness, quiet)
			}
		}
		if f.Late(start, f.DueAt(start, 0).Add(-1)) {
			t.Errorf("lateness %v: without quiet time, an event published just before the window is due is late", lateness)
		}
	}
}

func TestAllAnswersAreInUTC(t *testing.T) {
	t.Parallel()
	// A zone whose offset is not a whole number of hours must not move the grid.
	kathmandu := time.FixedZone("+0545", 5*60*60+45*60)
	f := scheme(t, time.Hour, 0)
	at := time.Date(2026, 3, 14, 15, 11, 53, 589793000, kathmandu)
	want := time.Date(2026, 3, 14, 9, 0, 0, 0, time.UTC)
	if got := f.Start(at); got != want {
		t.Errorf("Start(%v) = %v, want %v", at, got, want)
	}
	for name, got := range map[string]time.Time{
		"End":       f.End(f.Start(at)),
		"DueAt":     f.DueAt(f.Start(at), time.Second),
		"LastDue":   f.LastDue(at, time.Second),
		"LastEnded": f.LastEnded(at),
	} {
		if got.Location() != time.UTC {
			t.Errorf("%s is in %v, want UTC", name, got.Location())
		}
	}
}

// Each of the two settings fits a time.Duration, but their sum may not.
func TestLastDueDoesNotOverflow(t *testing.T) {
	t.Parallel()
	const century = 100 * 365 * 24 * time.Hour
	f := scheme(t, time.Minute, 2*century)
	start := instant(t, "2026-03-14T09:26:00Z")
	if got := f.LastDue(f.DueAt(start, 2*century), 2*century); !got.Equal(start) {
		t.Errorf("LastDue = %v, want %v", got, start)
	}
}

func BenchmarkStart(b *testing.B) {
	f := scheme(b, time.Minute, 2*time.Minute)
	for _, s := range []string{"1969-12-31T23:59:59.5Z", "2026-03-14T09:26:53.589793Z"} {
		at := instant(b, s)
		b.Run(s[:4], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Start(at)
			}
		})
	}
}
