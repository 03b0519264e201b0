package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// parseSpan reads the flags --from and --to, or returns everything that is wrong with
// them. Without --from, the span begins at the zero time. Without --to, the span ends at
// end; a zero end means that the span has no end.
func parseSpan(fromText, toText string, end time.Time) (from, to time.Time, err error) {
	to = end
	var problems []error
	parse := func(flag, text string, t *time.Time) {
		if text == "" {
			return
		}
		var err error
		if *t, err = event.ParseTime(text); err != nil {
			problems = append(problems, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	parse("from", fromText, &from)
	parse("to", toText, &to)
	if len(problems) == 0 && !to.IsZero() && from.After(to) {
		problems = append(problems, fmt.Errorf("--from is %s, which is after --to, %s", event.FormatTime(from), event.FormatTime(to)))
	}
	return from, to, errors.Join(problems...)
}
