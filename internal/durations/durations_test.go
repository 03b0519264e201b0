package durations_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/durations"
)

func TestText(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0:                             "0s",
		time.Nanosecond:               "1ns",
		200 * time.Millisecond:        "200ms",
		1500 * time.Millisecond:       "1.5s",
		10 * time.Second:              "10s",
		time.Minute - 1:               "59.999999999s",
		time.Minute:                   "60s",
		-time.Minute:                  "-60s",
		90 * time.Second:              "90s",
		time.Minute + 1:               "60.000000001s",
		2*time.Minute - 1:             "119.999999999s",
		2 * time.Minute:               "2m",
		150 * time.Second:             "2m30s",
		2*time.Minute + 1:             "2m0.000000001s",
		20 * time.Minute:              "20m",
		time.Hour:                     "1h",
		-time.Hour:                    "-1h",
		90 * time.Minute:              "1h30m",
		time.Hour + 30*time.Second:    "1h0m30s",
		10*time.Hour + 10*time.Minute: "10h10m",
		192 * time.Hour:               "192h",
		100 * 365 * 24 * time.Hour:    "876000h",
		math.MaxInt64:                 "2562047h47m16.854775807s",
		math.MinInt64:                 "-2562047h47m16.854775808s",
	} {
		if got := durations.Text(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestTextIsRead(t *testing.T) {
	t.Parallel()
	for range 10_000 {
		d := time.Duration(rand.Int64N(int64(1)<<rand.IntN(63) + 1)) // of every order of magnitude
		if got, err := time.ParseDuration(durations.Text(d)); err != nil || got != d {
			t.Fatalf("%v is written %s, and read as %v, %v", d, durations.Text(d), got, err)
		}
	}
}
