package window_test

import (
	"math/big"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/window"
)

// These are the first and last instants for which the package promises to be exact.
var (
	firstSecond = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	endSecond   = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
)

// divisors are the allowed window durations, in seconds.
var divisors = func() (all []int64) {
	for s := int64(1); s <= 86400; s++ {
		if 86400%s == 0 {
			all = append(all, s)
		}
	}
	return all
}()

// within maps any number into [low, high). A number that is already in there stays the
// same.
func within(x, low, high int64) int64 {
	span := high - low
	return low + (x%span+span)%span
}

// anyInstant maps any two numbers to an instant of the years 1 to 9999.
func anyInstant(seconds, nanos int64) time.Time {
	return time.Unix(within(seconds, firstSecond, endSecond), within(nanos, 0, 1e9))
}

// anyScheme maps any two numbers to a valid scheme.
func anyScheme(t *testing.T, pick, lateness int64) window.Fixed {
	duration := time.Duration(divisors[within(pick, 0, int64(len(divisors)))]) * time.Second
	f, err := window.New(duration, time.Duration(within(lateness, 0, 1e12))*time.Microsecond)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// nanos returns the exact number of nanoseconds from the epoch to t. It is a big.Int
// because an int64 can hold it only for the years 1678 to 2262.
func nanos(t time.Time) *big.Int {
	n := new(big.Int).Mul(big.NewInt(t.Unix()), big.NewInt(1e9))
	return n.Add(n, big.NewInt(int64(t.Nanosecond())))
}

func plus(n *big.Int, ds ...time.Duration) *big.Int {
	sum := new(big.Int).Set(n)
	for _, d := range ds {
		sum.Add(sum, big.NewInt(int64(d)))
	}
	return sum
}

func addSeeds(f *testing.F) {
	for _, s := range []string{
		"0001-01-01T00:00:00Z", "1677-09-21T00:12:43.145224192Z", "1969-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00Z",
		"2026-03-14T09:26:59.999999Z", "2262-04-11T23:47:16.854775808Z", "9999-12-31T23:59:59.999999999Z",
	} {
		at := instant(f, s)
		// anyInstant returns these instants unchanged. The picks 0, 27 and 95 give
		// durations of 1 s, something in between, and 24 h.
		for _, pick := range []int64{0, 27, 95} {
			f.Add(at.Unix(), int64(at.Nanosecond()), pick, int64(120e6), int64(10e9))
		}
	}
}

func FuzzAnInstantIsInExactlyOneWindow(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, seconds, ns, pick, lateness, _ int64) {
		w, at := anyScheme(t, pick, lateness), anyInstant(seconds, ns)
		start := w.Start(at)
		if at.Before(start) || !at.Before(w.End(start)) {
			t.Errorf("%v: %v is not in [%v, %v)", w.Duration, at.UTC(), start, w.End(start))
		}
		if again := w.Start(start); again != start {
			t.Errorf("Start(%v) = %v, but a window's start must be in the window", start, again)
		}
		// The first and last instants of the window are in it. The instants next to them
		// are in the neighbouring windows.
		for offset, want := range map[time.Duration]time.Time{
			-1:             start.Add(-w.Duration),
			0:              start,
			w.Duration - 1: start,
			w.Duration:     start.Add(w.Duration),
		} {
			if got := w.Start(start.Add(offset)); got != want {
				t.Errorf("%v: Start(%v + %d ns) = %v, want %v", w.Duration, start, offset, got, want)
			}
		}
		// This computes the start again with integers that cannot overflow. Div rounds
		// down if the divisor is positive.
		length := big.NewInt(int64(w.Duration))
		floor := new(big.Int).Div(nanos(at), length)
		if want := floor.Mul(floor, length); nanos(start).Cmp(want) != 0 {
			t.Errorf("%v: Start(%v) is %v ns from the epoch, want %v", w.Duration, at.UTC(), nanos(start), want)
		}
	})
}

func FuzzLateness(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, seconds, ns, pick, lateness, lag int64) {
		w, at := anyScheme(t, pick, lateness), anyInstant(seconds, ns)
		start, published := w.Start(at), at.Add(time.Duration(lag))
		late := w.Late(start, published)
		closes := plus(nanos(start), w.Duration, w.AllowedLateness)
		if want := nanos(published).Cmp(closes) >= 0; late != want {
			t.Errorf("%+v: Late(%v, %v) = %v, want %v", w, start, published.UTC(), late, want)
		}
		// What is late is still late if it is published later, and what is on time was on
		// time before.
		for _, step := range []time.Duration{1, time.Microsecond, time.Hour} {
			if late && !w.Late(start, published.Add(step)) || !late && w.Late(start, published.Add(-step)) {
				t.Errorf("%+v: lateness of %v is not monotone at %v", w, start, published.UTC())
			}
		}
	})
}

func FuzzLastDueIsDueAndTheNextIsNot(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, seconds, ns, pick, lateness, anyQuiet int64) {
		w, now := anyScheme(t, pick, lateness), anyInstant(seconds, ns)
		quiet := time.Duration(within(anyQuiet, 0, 1e15))
		last := w.LastDue(now, quiet)
		if w.Start(last) != last {
			t.Errorf("%+v: LastDue = %v, which is not the start of a window", w, last)
		}
		if w.DueAt(last, quiet).After(now) {
			t.Errorf("%+v: LastDue = %v, due at %v, after %v", w, last, w.DueAt(last, quiet), now.UTC())
		}
		if next := w.End(last); !w.DueAt(next, quiet).After(now) {
			t.Errorf("%+v: LastDue = %v, but %v is due too at %v", w, last, next, now.UTC())
		}
		if due := plus(nanos(last), w.Duration, w.AllowedLateness, quiet); nanos(w.DueAt(last, quiet)).Cmp(due) != 0 {
			t.Errorf("%+v: DueAt(%v) = %v", w, last, w.DueAt(last, quiet))
		}
		if closed := w.LastEnded(now); w.End(closed).After(now) || !w.End(w.End(closed)).After(now) {
			t.Errorf("%+v: LastEnded(%v) = %v", w, now.UTC(), closed)
		}
	})
}
