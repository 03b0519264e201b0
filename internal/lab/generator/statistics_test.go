package generator

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// within fails the test if a number differs from the wanted number by more than the
// tolerance.
func within(t testing.TB, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %.5g, want %.5g +- %.2g", what, got, want, tolerance)
	}
}

// A view has the values of a delivery that the statistics need.
type view struct {
	user, page       string
	event, published time.Time
}

func (v view) lag() time.Duration { return v.published.Sub(v.event) }

func views(t *testing.T, lag bool, hours int) []view {
	t.Helper()
	stream, err := Simulate(t.Context(), config(0, func(c *Config) { c.Lag, c.Duration = lag, time.Duration(hours)*time.Hour }), start)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{} // so that equal texts share their memory
	text := func(data []byte, before, after string) string {
		_, rest, _ := bytes.Cut(data, []byte(before))
		found, _, ok := bytes.Cut(rest, []byte(after))
		if !ok {
			t.Fatalf("no %q in %s", before, data)
		}
		if names[string(found)] == "" {
			names[string(found)] = string(found)
		}
		return names[string(found)]
	}
	var all []view
	for d := range stream {
		at, err := event.ParseTime(d.Message.Attributes["timestamp"])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, view{
			user:  text(d.Message.Data, `"user_id": "`, `"`),
			page:  text(d.Message.Data, `GET `, ` HTTP`),
			event: at, published: d.Message.PublishTime,
		})
	}
	return all
}

// perMinute returns mean and standard deviation of the events in a whole minute.
func perMinute(all []view, hours int, timeOf func(view) time.Time) (mean, deviation float64) {
	counts := map[int64]float64{}
	for _, v := range all {
		counts[timeOf(v).Unix()/60]++
	}
	first := start.Unix()/60 + 1 // the first and the last minute are partial
	minutes := int64(hours*60 - 1)
	for minute := first; minute < first+minutes; minute++ {
		mean += counts[minute] / float64(minutes)
	}
	for minute := first; minute < first+minutes; minute++ {
		deviation += math.Pow(counts[minute]-mean, 2) / float64(minutes)
	}
	return mean, math.Sqrt(deviation)
}

func eventTime(v view) time.Time   { return v.event }
func publishTime(v view) time.Time { return v.published }

// share returns the share of views for which is returns true.
func share(all []view, is func(view) bool) float64 {
	n := 0
	for _, v := range all {
		if is(v) {
			n++
		}
	}
	return float64(n) / float64(len(all))
}

// The figures are those of the lab's generator, measured over some hundred hours
// of simulated time.

func TestStreamWithoutLagIsLikeTheLabs(t *testing.T) {
	t.Parallel()
	const hours = 20
	all := views(t, false, hours)
	mean, deviation := perMinute(all, hours, eventTime)
	within(t, "events a minute", mean, 120, 0.6)
	within(t, "deviation of events a minute", deviation, 6.5, 0.5)
	if late := share(all, func(v view) bool { return v.lag() != 0 }); late != 0 {
		t.Errorf("a share of %v lags", late)
	}

	var gaps []float64
	last := map[string]time.Time{}
	for _, v := range all {
		if before, ok := last[v.user]; ok {
			gaps = append(gaps, v.event.Sub(before).Seconds())
		}
		last[v.user] = v.event
	}
	slices.Sort(gaps)
	for _, q := range []float64{0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99} { // uniform from 0 to 10 s
		within(t, "quantile of the gaps", gaps[int(q*float64(len(gaps)))], 10*q, 0.08)
	}
	if longest := gaps[len(gaps)-1]; longest > 10 {
		t.Errorf("longest gap is %v s, want at most 10", longest)
	}

	for page, want := range map[string]float64{
		"eucharya": 15.2, "bacteria": 10.9, "home": 8.7,
		"archea": 6.5, "protozoa": 6.5, "chromista": 6.5, "plantae": 6.5, "fungi": 6.5, "animalia": 6.5,
		"archaea": 4.3, "amoebozoa": 4.3, "cryptista": 4.3, "coniferophyta": 4.3, "blastocladiomycota": 4.3, "acanthocephala": 4.3,
	} {
		got := share(all, func(v view) bool { return v.page == page+".html" })
		within(t, "percentage of "+page, 100*got, want, 0.5)
	}
}

func TestStreamWithLagIsLikeTheLabs(t *testing.T) {
	t.Parallel()
	const hours = 60
	all := views(t, true, hours)
	mean, deviation := perMinute(all, hours, eventTime)
	within(t, "events a minute", mean, 117.9, 0.4)
	within(t, "deviation of events a minute, by event time", deviation, 6.4, 0.3)
	_, deviation = perMinute(all, hours, publishTime)
	within(t, "deviation of events a minute, by publish time", deviation, 12.7, 0.5)

	lags := make([]float64, 0, len(all))
	sum := 0.0
	for _, v := range all {
		lags = append(lags, v.lag().Seconds())
		sum += v.lag().Seconds()
	}
	slices.Sort(lags)
	within(t, "mean lag", sum/float64(len(lags)), 5.8, 0.2)
	for q, want := range map[float64]float64{0.5: 0.17, 0.75: 4.3, 0.9: 21, 0.95: 34, 0.99: 63, 0.999: 106} {
		within(t, "quantile of the lags", lags[int(q*float64(len(lags)))], want, 0.1*want)
	}
	for over, want := range map[time.Duration]float64{time.Second: 28, 10 * time.Second: 18, 30 * time.Second: 6.1, time.Minute: 1.2, 2 * time.Minute: 0.05} {
		got := share(all, func(v view) bool { return v.lag() > over })
		within(t, "percentage that lags over "+over.String(), 100*got, want, 0.05*want+0.02)
	}
	within(t, "percentage published in another minute",
		100*share(all, func(v view) bool { return v.event.Unix()/60 != v.published.Unix()/60 }), 9.3, 0.3)
	for grace, want := range map[time.Duration]float64{0: 9.37, time.Second: 8.76, 10 * time.Second: 5.34, 30 * time.Second: 1.8, time.Minute: 0.34, 90 * time.Second: 0.068} {
		got := share(all, func(v view) bool {
			return !v.published.Before(v.event.Truncate(time.Minute).Add(time.Minute + grace))
		})
		within(t, "percentage past the end of its minute by "+grace.String(), 100*got, want, 0.05*want+0.02)
	}

	bursts, inBursts, largest := burstsOf(all)
	within(t, "bursts an hour", bursts/hours, 505, 8)
	within(t, "mean burst", inBursts/bursts, 5, 0.1)
	within(t, "percentage that is published in a burst", 100*inBursts/float64(len(all)), 36, 1)
	if largest < 25 || largest > 70 {
		t.Errorf("the largest burst is of %v events, want about 42", largest)
	}
}

// burstsOf counts bursts and their events, and finds the largest burst. A burst is more than
// one event that a user publishes at one instant. Its events are next to each other in the
// stream.
func burstsOf(all []view) (bursts, events, largest float64) {
	for i := 0; i < len(all); {
		size := 1
		for i+size < len(all) && all[i+size].user == all[i].user && all[i+size].published.Equal(all[i].published) {
			size++
		}
		if size > 1 {
			bursts++
			events += float64(size)
			largest = max(largest, float64(size))
		}
		i += size
	}
	return bursts, events, largest
}
