package event_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/test/testlog"
)

// traffic returns the messages of the traffic log in delivery order.
func traffic(tb testing.TB) []event.Message {
	tb.Helper()
	var messages []event.Message
	for _, body := range testlog.Traffic(tb) {
		messages = append(messages, decode(tb, body))
	}
	return messages
}

// edges returns the messages of the edge cases.
func edges(tb testing.TB) []event.Message {
	tb.Helper()
	var messages []event.Message
	for _, edge := range testlog.EdgeCases(tb) {
		messages = append(messages, decode(tb, edge.Body))
	}
	return messages
}

func TestEdgeCasesGetTheirVerdicts(t *testing.T) {
	t.Parallel()
	for _, want := range testlog.EdgeCases(t) {
		t.Run(want.Why, func(t *testing.T) {
			t.Parallel()
			v := defaults(t).Classify(decode(t, want.Body))
			if v.Status != want.Status || v.EventID != want.MessageID {
				t.Errorf("%s with id %s, want %s: %s %v", v.Status, v.EventID, want.Status, v.Reason, v.Err)
			}
			if want.Reason != "" {
				checkDeadLetter(t, v, want.Reason)
			} else if got := event.FormatTime(v.Window); got != want.WindowStart {
				t.Errorf("window %s, want %s", got, want.WindowStart)
			}
		})
	}
}

// tally is the result of a sequence of deliveries in which each message is counted once.
type tally struct {
	Deliveries, Messages, Counted, Late int
	DeadLetters                         map[event.Reason]int
	Windows                             map[string]int64 // counted messages, by window start
}

// count classifies every delivery and counts distinct ids.
func count(t *testing.T, c *event.Classifier, messages []event.Message) tally {
	t.Helper()
	seen := map[string]event.Verdict{}
	for _, m := range messages {
		v := c.Classify(m)
		if first, again := seen[m.ID]; again {
			if diff := cmp.Diff(first, v, byText); diff != "" {
				t.Errorf("message %s, delivered again: %s", m.ID, diff)
			}
			continue
		}
		seen[m.ID] = v
	}
	sum := tally{Deliveries: len(messages), Messages: len(seen), DeadLetters: map[event.Reason]int{}, Windows: map[string]int64{}}
	for _, v := range seen {
		switch v.Status {
		case event.Counted:
			sum.Counted++
			sum.Windows[event.FormatTime(v.Window)]++
		case event.Late:
			sum.Late++
		case event.DeadLetter:
			sum.DeadLetters[v.Reason]++
		}
	}
	return sum
}

func TestTheNASALogComesToItsKnownCounts(t *testing.T) {
	t.Parallel()
	want := tally{
		Deliveries: testlog.Deliveries, Messages: testlog.Messages, Counted: testlog.Counted, Late: testlog.Late,
		DeadLetters: testlog.Reasons, Windows: testlog.TrafficWindows(t),
	}
	messages := traffic(t)
	if diff := cmp.Diff(want, count(t, defaults(t), messages)); diff != "" {
		t.Errorf("in delivery order: %s", diff)
	}
	slices.Reverse(messages)
	if diff := cmp.Diff(want, count(t, defaults(t), messages)); diff != "" {
		t.Errorf("in reverse order: %s", diff)
	}
}

// A message gets the same verdict whichever goroutine classifies it, and whatever else is
// classified at the same time.
func TestConcurrentClassificationGivesTheSameVerdicts(t *testing.T) {
	t.Parallel()
	c := defaults(t)
	messages := append(traffic(t)[:500], edges(t)...)
	want := make([]event.Verdict, len(messages))
	for i, m := range messages {
		want[i] = c.Classify(m)
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range messages {
				// Each goroutine begins at another message, and every second one goes
				// backwards.
				i = (i + worker*len(messages)/8) % len(messages)
				if worker%2 == 1 {
					i = len(messages) - 1 - i
				}
				if diff := cmp.Diff(want[i], c.Classify(messages[i]), byText); diff != "" {
					t.Errorf("message %s: %s", messages[i].ID, diff)
				}
			}
		})
	}
	all.Wait()
}
