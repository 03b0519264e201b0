package generator

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Simulate returns the stream of a configuration in simulated time. The stream yields the
// deliveries in the order in which they are due, without waiting. It starts at config.Start.
// If Start is zero, the start is chosen so that the stream ends at now. (With a Count,
// Simulate then runs through the stream once to find its length. If ctx ends meanwhile,
// Simulate returns ctx's error.) An endless stream needs a Start, and continues to the end
// of the year 9999.
//
// Equal configurations with equal, non-zero Start yield streams of the same bytes. Each
// iteration begins at the start.
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
			return nil, fmt.Errorf("generate: find the length of the stream: %w", err)
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

// length returns the length of a stream that has an end.
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
