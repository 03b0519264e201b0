package generator

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestLearningTheLengthEndsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Simulate(ctx, Config{Users: 10, Rate: 120, Count: math.MaxInt}, start); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want the context's error", err)
	}
}

func TestNoTimePassesTheYear9999(t *testing.T) {
	t.Parallel()
	last := time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)
	c := config(0, func(c *Config) { c.Start, c.Duplicates, c.Lag = last.Add(-time.Minute), 1, true })
	deliveries := simulate(t, c, start) // only the year 9999 ends this stream
	if n := len(deliveries); n < 10 || deliveries[n-1].At.After(last) {
		t.Errorf("%d deliveries to %v, want the last within year 9999", n, deliveries[n-1].At)
	}
	for _, c := range []Config{
		config(0, func(c *Config) { c.Start = last }),
		config(0, func(c *Config) { c.Start, c.Duration = last.Add(-time.Hour), time.Hour }),
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "start is 9999-12-31T") {
			t.Errorf("start %v and duration %v: error %v", c.Start, c.Duration, err)
		}
	}
}
