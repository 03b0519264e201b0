package flush

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The tests in this file run flushes on stores that take time, in virtual time.

func early(c *Config) { c.Early = true }

// lateness sets the allowed lateness.
func lateness(d time.Duration) func(*Config) {
	return func(c *Config) { c.Windows.AllowedLateness = d }
}

// thisMinute returns the start of the window that contains the present time.
func thisMinute() time.Time { return windows.Start(time.Now()) }

// nextMinute sleeps until one second after the next minute has begun.
func nextMinute() { time.Sleep(time.Until(thisMinute().Add(time.Minute + time.Second))) }

// mustRun runs a flush, which must end in time and without an error.
func mustRun(t *testing.T, f *Flusher) Report {
	t.Helper()
	began := time.Now()
	r := f.Run(t.Context())
	if took := time.Since(began); took > f.cfg.Timeout || len(r.Errors) != 0 {
		t.Fatalf("a flush took %v, with the errors %v", took, r.Errors)
	}
	return r
}

func TestABacklogOfAThousandWindowsIsOneRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newSlowBackend()
		for i := range 1000 {
			b.add(thisMinute().Add(-time.Duration(i+10)*time.Minute), 1)
		}
		if r := mustRun(t, b.flusher()); len(r.Windows) != 1000 || r.Remaining != 0 || r.RemainingAtLeast {
			t.Errorf("%d windows, %d remain (at least: %v)", len(r.Windows), r.Remaining, r.RemainingAtLeast)
		}
	})
}

func TestAWeeksBacklogIsWorkedOffWithoutAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const week = 7 * 24 * 60
		b := newSlowBackend()
		first := thisMinute().Add(-(week + 10) * time.Minute)
		for i := range week {
			b.add(first.Add(time.Duration(i)*time.Minute), int64(i%7+1))
		}
		f := b.flusher(quiet(10 * time.Second))
		nextMinute() // more than FLUSH_QUIET passes after the last write
		runs := 1
		for mustRun(t, f).RemainingAtLeast {
			nextMinute()
			runs++
		}
		if runs != 11 {
			t.Errorf("it took %d runs of 1,000 windows", runs)
		}
		if len(b.log) != week || b.rawQueries != nil {
			t.Errorf("%d rows, counts of %d windows from raw", len(b.log), b.rawQueries)
		}
		for i := range week {
			start := first.Add(time.Duration(i) * time.Minute)
			if b.shards[start].pending {
				t.Fatalf("window %v is still pending", start)
			}
		}
		for _, row := range b.log {
			if want := int64(row.Start.Sub(first)/time.Minute)%7 + 1; row.PageViews != want || !row.Final {
				t.Fatalf("row %+v, want %d page views", row, want)
			}
		}
	})
}

// A replay brings old windows faster than flushes can publish them. Their counters may
// have expired, so each of them also needs a query of the raw rows.
func TestLiveWindowsAreFinalWithinTwoFlushesOfAReplay(t *testing.T) {
	t.Parallel()
	for name, adjust := range map[string]func(*Config){
		"final":                        func(*Config) {},
		"early, with a day's lateness": func(c *Config) { early(c); lateness(24 * time.Hour)(c) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const minutes = 200_000
				b := newSlowBackend()
				b.takes["raw"] = 3 * time.Second
				old := thisMinute().Add(-2 * minutes * time.Minute)
				for i := range minutes {
					b.add(old.Add(time.Duration(i)*time.Minute), 1)
				}
				f := b.flusher(quiet(10*time.Second), adjust)
				late := f.cfg.Windows.AllowedLateness
				live := thisMinute().Add(-late - 30*time.Minute)
				for start := live; start.Before(thisMinute()); start = start.Add(time.Minute) {
					b.add(start, 1) // some of these windows may get more events
				}
				const runs = 10
				for range runs {
					b.add(thisMinute(), 1)
					nextMinute()
					twoFlushesAgo := f.cfg.Windows.LastDue(time.Now().Add(-time.Minute), 10*time.Second)
					mustRun(t, f)
					if _, final := b.value(twoFlushesAgo); !final {
						t.Errorf("window %v is not final at %v", twoFlushesAgo, time.Now())
					}
					if closed := windows.LastEnded(time.Now()); f.cfg.Early {
						if n, _ := b.value(closed); n != 1 {
							t.Errorf("window %v is not published at %v", closed, time.Now())
						}
					}
				}
				published := 0
				for _, row := range b.log {
					if row.Start.Before(live) {
						published++
					}
				}
				if most := slices.Max(b.rawQueries); most > rawChunk+atOnce {
					t.Errorf("a query of %d windows", most)
				}
				if least := runs * 1000 / 2; published < least {
					t.Errorf("%d old windows in %d runs, want at least %d", published, runs, least)
				}
			})
		})
	}
}

func TestTheCountThatHangsFallsBackToRawAndStopsNoOther(t *testing.T) {
	t.Parallel()
	for _, hanging := range []int{2, 3 * atOnce} {
		t.Run(fmt.Sprint(hanging), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newSlowBackend()
				first := thisMinute().Add(-3 * time.Hour)
				for i := range 120 {
					start := first.Add(time.Duration(i) * time.Minute)
					b.add(start, 5)
					if i < hanging {
						b.takes["count "+clock(start)] = hangs
					}
				}
				f := b.flusher()
				r := mustRun(t, f)
				if hanging == 2 && (len(r.Windows) != 120 || r.Remaining != 0) {
					t.Errorf("%d windows in the first run, %d remain", len(r.Windows), r.Remaining)
				}
				for range hanging/atOnce + 1 {
					nextMinute()
					mustRun(t, f)
				}
				for i := range 120 {
					start := first.Add(time.Duration(i) * time.Minute)
					if n, final := b.value(start); n != 5 || !final || b.shards[start].pending {
						t.Errorf("window %d: value %d, final %v, pending %v", i, n, final, b.shards[start].pending)
					}
				}
			})
		})
	}
}

// The raw rows cannot be counted either, so these windows hang in every run.
func TestWindowsThatHangInEveryRunDoNotStopTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newSlowBackend()
		b.fail["raw"] = errors.New("away")
		first := thisMinute().Add(-12 * time.Hour)
		for i := range 2 {
			start := first.Add(time.Duration(i) * time.Minute)
			b.add(start, 5)
			b.takes["count "+clock(start)] = hangs
		}
		f := b.flusher(func(c *Config) { c.MaxWindows = 8 })
		for i := range 60 {
			b.add(first.Add(time.Duration(i+2)*time.Minute), 5)
		}
		for range 10 {
			nextMinute()
			if r := f.Run(t.Context()); len(r.Errors) != 1 || !errors.Is(r.Errors[0], b.fail["raw"]) {
				t.Errorf("errors %v", r.Errors)
			}
		}
		for i := range 60 {
			if _, final := b.value(first.Add(time.Duration(i+2) * time.Minute)); !final {
				t.Errorf("window %d is not final", i+2)
			}
		}
	})
}

func TestAnEarlyCountThatHangsIsNoErrorAndNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newSlowBackend()
		start := thisMinute()
		b.add(start, 5)
		b.takes["count "+clock(start)] = hangs
		f := b.flusher(early, lateness(time.Hour))
		for range 3 {
			nextMinute()
			if r := mustRun(t, f); len(r.Windows) != 0 {
				t.Errorf("published %v", r.Windows)
			}
		}
		b.takes["count "+clock(start)] = 0
		b.add(start, 1)
		if r := mustRun(t, f); !slices.Equal(r.Windows, []Window{{start, 6, false}}) {
			t.Errorf("published %v", r.Windows)
		}
		b.takes["count "+clock(start)] = hangs
		b.add(start, 1)
		for range 2 {
			if r := mustRun(t, f); len(r.Windows) != 0 {
				t.Errorf("published %v", r.Windows)
			}
		}
		if b.called("count") != 3 || b.rawQueries != nil {
			t.Errorf("%d counts and %d of raw rows", b.called("count"), b.rawQueries)
		}
	})
}

func TestEarlyWindowsThatNobodyHasWrittenAreNotCountedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * 60
		b := newSlowBackend()
		first := thisMinute().Add(-day * time.Minute)
		for i := range day {
			b.add(first.Add(time.Duration(i)*time.Minute), 1)
		}
		f := b.flusher(early, lateness(24*time.Hour))
		reached := func() {
			t.Helper()
			if n, _ := b.value(windows.LastEnded(time.Now())); n != 1 {
				t.Errorf("the newest window is not published at %v", time.Now())
			}
		}
		for range 2 { // the first run publishes MaxWindows of them, the second the others
			mustRun(t, f)
			reached()
		}
		counted := b.called("count")
		const runs = 30
		for i := range runs {
			b.add(thisMinute(), 1)
			if i%10 == 0 {
				b.add(first.Add(12*time.Hour), 1) // an event that comes hours after the others
			}
			nextMinute()
			mustRun(t, f)
			reached()
		}
		// Each run counts the window that has ended and the window that became due. Three
		// of the runs also count the window of the late-running events.
		if got := b.called("count") - counted; got != 2*runs+3 {
			t.Errorf("%d counts in %d runs", got, runs)
		}
		if n, final := b.value(first.Add(12 * time.Hour)); n != 4 || final {
			t.Errorf("the window with late-running events: %d, final %v", n, final)
		}
	})
}

// This happens while a replay keeps writing to old windows.
func TestMoreHeldWindowsThanCanBeListedAreNoError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newSlowBackend()
		b.takes["list"] = 200 * time.Millisecond
		first := thisMinute().Add(-60 * 24 * time.Hour)
		for i := range 80_000 {
			b.add(first.Add(time.Duration(i)*time.Minute), 1)
		}
		live := windows.LastDue(time.Now(), time.Minute)
		b.add(live, 1)
		b.shards[live].WrittenAt = time.Now().Add(-time.Minute)
		r := mustRun(t, b.flusher(quiet(time.Minute)))
		if _, final := b.value(live); !final || len(r.Windows) != 1 || r.Held == 0 || r.Held == 80_000 || !r.RemainingAtLeast {
			t.Errorf("%d windows, the live one: %v; held %d, at least: %v", len(r.Windows), final, r.Held, r.RemainingAtLeast)
		}
	})
}

// A run ends in time, whichever of its calls hangs.
func TestARunEndsWithinItsTimeout(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"list", "keep", "count 12:00", "raw", "append", "settle", "delete"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newSlowBackend()
				b.now = noon.Add(time.Hour)
				b.add(minute(0), 5)
				b.add(minute(1), 5)
				b.add(minute(-60*24*9), 5) // its counters may have expired
				b.takes[step] = hangs
				b.fail["raw"] = nil
				began := time.Now()
				r := b.flusher().Run(t.Context())
				if took := time.Since(began); took > 50*time.Second {
					t.Errorf("it took %v", took)
				}
				if hasErrors := step != "count 12:00"; (len(r.Errors) > 0) != hasErrors {
					t.Errorf("errors %v", r.Errors)
				}
			})
		})
	}
}

func TestWhileTheListingHangsWhatWasListedIsPublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newSlowBackend()
		b.takes["append"], b.takes["settle"] = 9*time.Second, 9*time.Second
		start := thisMinute().Add(-10 * time.Minute)
		b.add(start, 5)
		b.during["list"] = func() { b.takes["list"] = hangs } // from the second page on
		r := b.flusher().Run(t.Context())
		if len(r.Errors) != 1 || !slices.Equal(r.Windows, []Window{{start, 5, true}}) || b.shards[start].pending || !r.RemainingAtLeast {
			t.Errorf("report %+v", r)
		}
	})
}

// Even if counts take long, enough time is left to publish and settle what was counted.
func TestARunLeavesTimeToPublishWhatItHasCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newSlowBackend()
		b.takes["append"], b.takes["settle"] = 9*time.Second, 9*time.Second
		first := thisMinute().Add(-10 * time.Hour)
		for i := range 300 {
			start := first.Add(time.Duration(i) * time.Minute)
			b.add(start, 5)
			b.takes["count "+clock(start)] = 14 * time.Second
		}
		r := mustRun(t, b.flusher())
		if len(r.Windows) != 2*atOnce || r.Remaining == 0 || !r.RemainingAtLeast {
			t.Errorf("%d windows, %d remain (at least: %v)", len(r.Windows), r.Remaining, r.RemainingAtLeast)
		}
		for _, w := range r.Windows {
			if b.shards[w.Start].pending {
				t.Errorf("window %v is not settled", w.Start)
			}
		}
	})
}

// A query of the raw rows may take long. The other windows must not wait for it, and
// enough time must be left to publish its result.
func TestARunLeavesTimeForTheRawRows(t *testing.T) {
	t.Parallel()
	for takes, want := range map[time.Duration]int64{35 * time.Second: 5, 41 * time.Second: 0} {
		synctest.Test(t, func(t *testing.T) {
			b := newSlowBackend()
			b.takes["raw"], b.takes["append"], b.takes["settle"] = takes, time.Second, time.Second
			old, live := thisMinute().Add(-9*24*time.Hour), thisMinute().Add(-10*time.Minute)
			b.add(old, 5)
			b.add(live, 7)
			began := time.Now()
			r := b.flusher().Run(t.Context())
			if n, _ := b.value(live); n != 7 || b.shards[live].pending || b.log[0].WrittenAt.Sub(began) > 5*time.Second {
				t.Errorf("live window: value %d, pending %v, written %v after the start", n, b.shards[live].pending, b.log[0].WrittenAt.Sub(began))
			}
			if n, _ := b.value(old); n != want || b.shards[old].pending != (want == 0) || (len(r.Errors) == 1) != (want == 0) {
				t.Errorf("a query of %v: value %d, pending %v, errors %v", takes, n, b.shards[old].pending, r.Errors)
			}
			if want > 0 && !slices.Equal(r.Windows, []Window{{old, 5, true}, {live, 7, true}}) {
				t.Errorf("windows %v, want them oldest first", r.Windows)
			}
			if b.called("delete") != 1 {
				t.Error("expired counters were not deleted")
			}
		})
	}
}
