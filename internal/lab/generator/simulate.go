package generator

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Simulate returns the stream of a configuration in simulated time: its
// deliveries in the order in which they are due, made as fast as they are asked
// for. The stream starts at config.Start; if that is zero, then so that it ends at
// now, and nothing lies in the future. (With a Count that takes a first run
// through the stream, to learn its length; if ctx ends during it, its error is
// returned.) An endless stream needs a Start, and goes on to the end of year 9999.
//
// Equal configurations with equal, non-zero Start give streams that are the same
// to the byte. Each iteration begins at the start again.
func Simulate(ctx context.Context, config Config, now time.Time) (iter.Seq[Delivery], error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	start := config.Start
	if start.IsZero() {
		if config.endless() {
			return nil, errors.New("generate: a simulated stream needs a count, a duration or a start")
		}
		length, err := length(ctx, config)
		if err != nil {
			return nil, fmt.Errorf("generate: learn the length of the stream: %w", err)
		}
		start = now.Add(-length)
	}
	return func(yield func(Delivery) bool) {
		for m := newModel(config, start); !m.over; {
			for _, d := range m.advance(m.due()) {
				if !yield(d) {
					return
				}
			}
		}
	}, nil
}

// length returns how long a stream with an end runs.
func length(ctx context.Context, config Config) (time.Duration, error) {
	if config.Count == 0 {
		return config.Duration, nil
	}
	start := time.Unix(0, 0)
	end := start
	for m := newModel(config, start); !m.over; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		end = m.due()
		m.advance(end)
	}
	return end.Sub(start), nil
}
