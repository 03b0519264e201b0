package generator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/window"
)

var start = time.Date(2026, 3, 14, 9, 26, 53, 589793238, time.UTC)

// config returns the lab's stream of count messages from start, with changes.
func config(count int, change func(*Config)) Config {
	c := Default()
	c.Count, c.Start = count, start
	if change != nil {
		change(&c)
	}
	return c
}

// simulate returns the stream of c as a slice.
func simulate(t testing.TB, c Config, now time.Time) []Delivery {
	t.Helper()
	stream, err := Simulate(t.Context(), c, now)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(stream)
}

func withLag(c *Config) { c.Lag = true }

func withEverything(c *Config) { c.Lag, c.Malformed, c.Duplicates = true, 0.1, 0.2 }

// lines returns the stream as push bodies, one per line.
func lines(deliveries []Delivery) string {
	var b strings.Builder
	for _, d := range deliveries {
		fmt.Fprintf(&b, "%s %t %s\n", d.At.Format(time.RFC3339Nano), d.Redelivery, envelope.Encode(d.Message))
	}
	return b.String()
}

// messages returns the deliveries without the redeliveries.
func messages(deliveries []Delivery) []Delivery {
	return slices.DeleteFunc(slices.Clone(deliveries), func(d Delivery) bool { return d.Redelivery })
}

func TestSameSeedAndStartGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	c := config(2000, withEverything)
	stream, err := Simulate(t.Context(), c, start)
	if err != nil {
		t.Fatal(err)
	}
	want := lines(slices.Collect(stream))
	if got := lines(slices.Collect(stream)); got != want {
		t.Error("a second iteration differs")
	}
	if got := lines(simulate(t, c, start.Add(time.Hour))); got != want {
		t.Error("a second stream differs, asked for at another time")
	}
	c.Seed = 1
	if got := lines(simulate(t, c, start)); got == want {
		t.Error("another seed gives the same stream")
	}
}

func TestAnotherSeedHasOtherUsersAndIDs(t *testing.T) {
	t.Parallel()
	seen := map[string]string{} // user or message id -> where
	for seed := range uint64(50) {
		for _, d := range simulate(t, config(200, func(c *Config) { c.Seed = seed }), start) {
			where := fmt.Sprint("seed ", seed)
			for _, id := range []string{"user " + parseEvent(t, d).UserID, "message " + d.Message.ID} {
				if other, ok := seen[id]; ok && other != where {
					t.Fatalf("%s is in %s and %s", id, other, where)
				}
				seen[id] = where
			}
		}
	}
}

// If a run starts again soon, with the same seed and the same topic, its messages must not
// look like redeliveries.
func TestAnotherStartHasOtherIDs(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for i := range 50 {
		at := start.Add(time.Duration(i) * time.Microsecond)
		for _, d := range simulate(t, config(200, func(c *Config) { c.Start = at }), start) {
			if seen[d.Message.ID] {
				t.Fatalf("message id %s twice", d.Message.ID)
			}
			seen[d.Message.ID] = true
		}
	}
}

// anyLateness classifies every event as an event, on time or late. It is used where
// lateness does not matter.
var anyLateness = event.NewClassifier(event.Rules{Schema: accesslog.Schema(), Windows: window.Fixed{Duration: time.Minute}})

func parseEvent(t testing.TB, d Delivery) accesslog.Record {
	t.Helper()
	v := anyLateness.Classify(d.Message)
	if v.Status == event.DeadLetter {
		t.Fatalf("message %s is no event: %v\n%s", d.Message.ID, v.Err, d.Message.Data)
	}
	return accesslog.Of(v.Event)
}

func TestEveryMessageIsAValidEventInTheLabsFormat(t *testing.T) {
	t.Parallel()
	format := regexp.MustCompile(`^\{"ip": "(?:\d{1,3}\.){3}\d{1,3}", "user_id": "-?\d{1,19}", ` +
		`"lat": -?\d+\.\d{1,4}, "lng": -?\d+\.\d{1,4}, "timestamp": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", ` +
		`"http_request": "\\"GET [a-z]+\.html HTTP/1\.0\\"", "http_response": 200, "num_bytes": [1-4]\d\d, ` +
		`"user_agent": "(?:[ !#-\[\]-~]|\\u[0-9a-f]{4})+"\}$`)
	agents := map[string]bool{}
	escaped, negative := 0, 0
	for _, d := range simulate(t, config(5000, func(c *Config) { c.Users, c.Lag = 300, true }), start) {
		data := d.Message.Data
		if !format.Match(data) {
			t.Fatalf("not the lab's format:\n%s", data)
		}
		if bytes.Contains(data, []byte(`\u`)) {
			escaped++
		}
		e := parseEvent(t, d)
		agents[e.UserAgent] = true
		id, err := strconv.ParseInt(e.UserID, 10, 64)
		if err != nil {
			t.Errorf("user id: %v", err)
		}
		if id < 0 {
			negative++
		}
		if ip, err := netip.ParseAddr(e.IP); err != nil || !ip.Is4() || ip.IsPrivate() || ip.IsLoopback() || ip.IsMulticast() {
			t.Errorf("address is %s, %v, want a public one", e.IP, err)
		}
		if *e.Lat < -90 || *e.Lat > 90 || *e.Lng < -180 || *e.Lng > 180 {
			t.Errorf("place is %v, %v", *e.Lat, *e.Lng)
		}
		want := event.Message{ID: d.Message.ID, PublishTime: d.At, PublishTimeSource: event.FromMessage, Data: data,
			Attributes: map[string]string{"timestamp": event.FormatTime(e.Timestamp)}}
		if !reflect.DeepEqual(d.Message, want) {
			t.Fatalf("message (-want +got):\n%s", cmp.Diff(want, d.Message))
		}
		if d.At.Before(e.Timestamp) || d.At.Location() != time.UTC || d.At.Nanosecond()%1000 != 0 {
			t.Errorf("published at %v, event time %v", d.At, e.Timestamp)
		}
	}
	if len(agents) < 30 || escaped == 0 || negative == 0 {
		t.Errorf("%d user agents, %d events with an escape, %d of a negative user id: too few", len(agents), escaped, negative)
	}
}

// All events of a user have the same address, place and user agent, and users differ in them.
func TestUsersKeepTheirIdentity(t *testing.T) {
	t.Parallel()
	type facts struct {
		IP, Agent string
		Lat, Lng  float64
	}
	users := map[string]facts{}
	addresses := map[string]bool{}
	for _, d := range simulate(t, config(2000, withLag), start) {
		e := parseEvent(t, d)
		got := facts{e.IP, e.UserAgent, *e.Lat, *e.Lng}
		if want, ok := users[e.UserID]; ok && got != want {
			t.Fatalf("user %s is %+v and %+v", e.UserID, want, got)
		}
		users[e.UserID] = got
		addresses[e.IP] = true
	}
	if len(users) != 10 || len(addresses) != 10 {
		t.Errorf("%d users at %d addresses, want 10", len(users), len(addresses))
	}
}

func TestMessageIDsAreUniqueNumbers(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, d := range messages(simulate(t, config(5000, withEverything), start)) {
		if _, err := strconv.ParseInt(d.Message.ID, 10, 64); err != nil || seen[d.Message.ID] {
			t.Fatalf("message id %q: %v, seen before: %v", d.Message.ID, err, seen[d.Message.ID])
		}
		seen[d.Message.ID] = true
	}
}

func TestDeliveriesAreInOrderOfTime(t *testing.T) {
	t.Parallel()
	last := start.Truncate(time.Microsecond)
	for _, d := range simulate(t, config(5000, withEverything), start) {
		if d.At.Before(last) {
			t.Fatalf("delivery at %v after one at %v", d.At, last)
		}
		last = d.At
	}
}

func TestCountIsOfMessages(t *testing.T) {
	t.Parallel()
	for _, count := range []int{1, 2, 500} {
		if got := len(messages(simulate(t, config(count, withEverything), start))); got != count {
			t.Errorf("%d messages, want %d", got, count)
		}
	}
}

func TestDurationEndsTheStream(t *testing.T) {
	t.Parallel()
	const length = 10 * time.Minute
	for _, count := range []int{0, 1_000_000} {
		deliveries := simulate(t, config(count, func(c *Config) { c.Lag, c.Duration = true, length }), start)
		end := start.Add(length)
		var latest time.Time
		for _, d := range deliveries {
			if e := parseEvent(t, d); e.Timestamp.After(latest) {
				latest = e.Timestamp
			}
			if d.At.After(end) {
				t.Errorf("delivery at %v, after the end at %v", d.At, end)
			}
		}
		if len(deliveries) < 1000 || !latest.Before(end) || end.Sub(latest) > 10*time.Second {
			t.Errorf("%d deliveries, the last event at %v, want about 1200 until shortly before %v", len(deliveries), latest, end)
		}
	}
}

// Events that are held when the stream ends are published at that instant, in order.
func TestHeldEventsArePublishedAtTheEnd(t *testing.T) {
	t.Parallel()
	const length = 100 * time.Second
	held, delayed := 0, 0
	for seed := range uint64(100) {
		endless := config(0, func(c *Config) { c.Lag, c.Seed, c.Users = true, seed, 3 })
		finite := endless
		finite.Duration = length
		end := start.Add(length)

		// These are all events that the endless stream creates before the end, including
		// those that it publishes later.
		want := map[string]bool{}
		stream, err := Simulate(t.Context(), endless, start)
		if err != nil {
			t.Fatal(err)
		}
		for d := range stream {
			if d.At.After(end.Add(5 * time.Minute)) {
				break
			}
			if parseEvent(t, d).Timestamp.Before(end.Truncate(time.Microsecond)) {
				want[string(d.Message.Data)] = true
			}
		}
		last := map[string]time.Time{}
		for _, d := range simulate(t, finite, start) {
			if !want[string(d.Message.Data)] {
				t.Fatalf("seed %d: event is not of the endless stream, or twice: %s", seed, d.Message.Data)
			}
			delete(want, string(d.Message.Data))
			e := parseEvent(t, d)
			if !last[e.UserID].Before(e.Timestamp) {
				t.Fatalf("seed %d: events of user %s out of order", seed, e.UserID)
			}
			last[e.UserID] = e.Timestamp
			if d.At.Equal(end.Truncate(time.Microsecond)) {
				held++
				if d.At.Sub(e.Timestamp) < maxPublishDelay {
					delayed++
				}
			}
		}
		if len(want) > 0 {
			t.Fatalf("seed %d: %d events were never published", seed, len(want))
		}
	}
	if held < 100 || delayed == 0 {
		t.Errorf("%d events published at the end, %d of them in their delay: too few to tell", held, delayed)
	}
}

// If no start is set, all times of a stream are in the past, so the stream can be
// replayed unchanged.
func TestStreamWithoutStartEndsNow(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)
	for name, c := range map[string]Config{
		"by count":    {Users: 10, Rate: 120, Lag: true, Count: 1000},
		"duplicates":  {Users: 10, Rate: 120, Count: 1000, Duplicates: 0.5},
		"by duration": {Users: 10, Rate: 120, Duration: time.Hour},
		"by either":   {Users: 10, Rate: 120, Count: 1_000_000, Duration: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deliveries := simulate(t, c, now)
			last := deliveries[len(deliveries)-1].At
			if last.After(now) || now.Sub(last) > 10*time.Second {
				t.Errorf("the stream ends at %v, want shortly before %v", last, now)
			}
			if c.Duration == 0 && !last.Equal(now.Truncate(time.Microsecond)) {
				t.Errorf("the last delivery is at %v, want at %v", last, now)
			}
			first := deliveries[0].At
			if c.Duration == time.Hour && (first.Before(now.Add(-time.Hour)) || first.After(now.Add(-time.Hour+10*time.Second))) {
				t.Errorf("the stream starts at %v, want an hour before %v", first, now)
			}
		})
	}
}

func TestEndlessStreamNeedsAStart(t *testing.T) {
	t.Parallel()
	if _, err := Simulate(t.Context(), Default(), start); err == nil || !strings.Contains(err.Error(), "needs a count, a duration or a start") {
		t.Errorf("error is %v", err)
	}
	if _, err := Simulate(t.Context(), Config{}, start); err == nil || !strings.Contains(err.Error(), "users is 0") {
		t.Errorf("error is %v", err)
	}
}

// A user's events do not depend on how many other users there are.
func TestUsersAreIndependent(t *testing.T) {
	t.Parallel()
	of := func(users int) map[string][]string {
		events := map[string][]string{}
		// The gaps are the same, because the rate grows with the number of users.
		for _, d := range simulate(t, config(0, func(c *Config) { c.Users, c.Rate, c.Duration = users, 12*float64(users), time.Hour }), start) {
			id := parseEvent(t, d).UserID
			events[id] = append(events[id], string(d.Message.Data))
		}
		return events
	}
	few, many := of(3), of(20)
	if len(few) != 3 || len(many) != 20 {
		t.Fatalf("%d and %d users, want 3 and 20", len(few), len(many))
	}
	for id, want := range few {
		if diff := cmp.Diff(want, many[id]); diff != "" {
			t.Errorf("events of user %s (-of 3 +of 20):\n%s", id, diff)
		}
	}
}

func TestPageTreeIsTheLabs(t *testing.T) {
	t.Parallel()
	nodes, depth := 0, 0
	names := map[string]bool{}
	var visit func(p, parent *page, level int)
	visit = func(p, parent *page, level int) {
		nodes++
		depth = max(depth, level)
		names[p.name] = true
		if p.next[0] != p {
			t.Errorf("no user can stay on %s", p.name)
		}
		for _, next := range p.next[1:] {
			if next != parent {
				visit(next, p, level+1)
			}
		}
	}
	visit(newPageTree(), nil, 0)
	if nodes != 16 || len(names) != 15 || depth != 3 {
		t.Errorf("%d nodes, %d names, depth %d, want 16, 15 and 3", nodes, len(names), depth)
	}
}

func TestPushBodyOfADeliveryDecodesToIt(t *testing.T) {
	t.Parallel()
	for _, d := range simulate(t, config(1000, withEverything), start) {
		body := envelope.Encode(d.Message)
		if !json.Valid(body) || bytes.ContainsRune(body, '\n') {
			t.Fatalf("not one line of JSON: %s", body)
		}
		got, err := envelope.Decode(body, start)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, d.Message) {
			t.Fatalf("message (-sent +decoded):\n%s", cmp.Diff(d.Message, got))
		}
	}
}

func BenchmarkSimulate(b *testing.B) {
	stream, err := Simulate(b.Context(), config(b.N, withLag), start)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for range stream {
	}
}
