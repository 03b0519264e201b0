package generator

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/window"
)

func TestDuplicatesAreTheSameMessageLater(t *testing.T) {
	t.Parallel()
	const count = 10_000
	for _, share := range []float64{0, 0.2, 1} {
		firsts := map[string]Delivery{}
		redelivered := map[string]bool{}
		apart := 0
		for _, d := range simulate(t, config(count, func(c *Config) { c.Lag, c.Duplicates, c.Malformed = true, share, 0.1 }), start) {
			id := d.Message.ID
			if !d.Redelivery {
				firsts[id] = d
				continue
			}
			first, ok := firsts[id]
			if !ok || redelivered[id] {
				t.Fatalf("redelivery of message %s, which was delivered: %v, and redelivered: %v", id, ok, redelivered[id])
			}
			redelivered[id] = true
			if !reflect.DeepEqual(d.Message, first.Message) {
				t.Fatalf("redelivery differs (-first +second):\n%s", cmp.Diff(first.Message, d.Message))
			}
			delay := d.At.Sub(first.At)
			if delay < 0 || delay > maxRedeliveryDelay {
				t.Errorf("redelivered after %v", delay)
			}
			if delay > maxRedeliveryDelay/2 {
				apart++
			}
		}
		if share == 1 && len(redelivered) != count {
			t.Errorf("%d of %d messages redelivered, want all, those that are due after the end included", len(redelivered), count)
		}
		within(t, "share of duplicates", float64(len(redelivered))/count, share, 0.015)
		if apart < len(redelivered)/4 {
			t.Errorf("only %d of %d redeliveries come more than half a minute later", apart, len(redelivered))
		}
	}
}

func TestMalformedShareAndReasons(t *testing.T) {
	t.Parallel()
	classifier := event.NewClassifier(event.Rules{Schema: accesslog.Schema(), Windows: window.Fixed{Duration: time.Minute, AllowedLateness: 24 * time.Hour}})
	const count = 20_000
	for _, share := range []float64{0, 0.3, 1} {
		reasons := map[event.Reason]int{}
		malformed := 0
		for _, d := range simulate(t, config(count, func(c *Config) { c.Malformed = share }), start) {
			v := classifier.Classify(d.Message)
			if v.Status == event.DeadLetter {
				malformed++
				reasons[v.Reason]++
			}
			if d.Message.Attributes["timestamp"] == "" {
				t.Fatal("attribute timestamp is missing")
			}
		}
		within(t, "share of malformed", float64(malformed)/count, share, 0.012)
		if share == 0 {
			continue
		}
		// The shares are in ninths, because nine faults are equally likely. Two of them
		// are a wrong type, and two are not an object.
		for reason, want := range map[event.Reason]float64{event.BadJSON: 1, event.Empty: 1, event.NotAnObject: 2,
			event.MissingField: 1, event.WrongType: 2, event.BadTime: 1, event.BadUTF8: 1} {
			within(t, "share of "+string(reason), float64(reasons[reason])/float64(malformed), want/9, 0.02)
		}
	}
}

func TestEachFaultIsForItsReason(t *testing.T) {
	t.Parallel()
	want := map[string]event.Reason{
		"cut": event.BadJSON, "empty": event.Empty, "null": event.NotAnObject, "array": event.NotAnObject,
		"no user_id": event.MissingField, "number as string": event.WrongType, "fraction for integer": event.WrongType,
		"no such month": event.BadTime, "bad UTF-8": event.BadUTF8,
	}
	random := newRandom("test", 0, 0)
	got := map[string]event.Reason{}
	for _, f := range faults() {
		for _, d := range simulate(t, config(100, nil), start) {
			d.Message.Data = f.spoil(d.Message.Data, random)
			v := anyLateness.Classify(d.Message)
			if reason, ok := got[f.name]; ok && reason != v.Reason {
				t.Errorf("%s is both %s and %s", f.name, reason, v.Reason)
			}
			got[f.name] = v.Reason
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

// Faults change nothing else: the other messages are the same as in a stream without faults.
func TestFaultsLeaveTheRestOfTheStreamAlone(t *testing.T) {
	t.Parallel()
	clean := simulate(t, config(3000, withLag), start)
	faulty := messages(simulate(t, config(3000, withEverything), start))
	if len(faulty) != len(clean) {
		t.Fatalf("%d messages, want %d", len(faulty), len(clean))
	}
	spoilt := 0
	for i := range clean {
		if !bytes.Equal(clean[i].Message.Data, faulty[i].Message.Data) {
			spoilt++
			faulty[i].Message.Data = clean[i].Message.Data
		}
	}
	if !reflect.DeepEqual(faulty, clean) {
		t.Errorf("messages (-clean +faulty):\n%s", cmp.Diff(clean, faulty))
	}
	within(t, "share of spoilt data", float64(spoilt)/3000, 0.1, 0.03)
}
