package generator

import (
	"errors"
	"fmt"
	"iter"
	"time"
)

// Simulate returns the stream of a configuration in simulated time: its
// deliveries in the order in which they are due, made as fast as they are asked
// for. The stream starts at config.Start; if that is zero, then so that it ends at
// now, and nothing lies in the future. (With a Count that takes a first run
// through the stream, to learn its length.) An endless stream needs a Start.
//
// Equal configurations with equal, non-zero Start give streams that are the same
// to the byte. Each iteration begins at the start again.
func Simulate(config Config, now time.Time) (iter.Seq[Delivery], error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	start := config.Start
	if start.IsZero() {
		if config.endless() {
			return nil, errors.New("generate: a simulated stream needs a count, a duration or a start")
		}
		start = now.Add(-length(config))
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
func length(config Config) time.Duration {
	if config.Count == 0 {
		return config.Duration
	}
	start := time.Unix(0, 0)
	end := start
	for m := newModel(config, start); !m.over; {
		end = m.due()
		m.advance(end)
	}
	return end.Sub(start)
}
