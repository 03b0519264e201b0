package flush

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
	"github.com/tidemark-dev/tidemark/windowstore"
)

var (
	noon    = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	windows = window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute}
)

func quiet(d time.Duration) func(*Config) {
	return func(c *Config) { c.Quiet, c.HoldMax = d, 10*time.Minute }
}

// minute returns the start of the window n minutes after noon.
func minute(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }

// closed is the end of the window at noon plus the allowed lateness. Events of the window
// that are published from then on are late.
var closed = noon.Add(3 * time.Minute)

func TestAWindowIsPublishedOnceItIsDueAndNotBefore(t *testing.T) {
	t.Parallel()
	for _, q := range []time.Duration{0, 10 * time.Second} {
		b := newBackend()
		b.add(noon, 5)
		f := b.flusher(quiet(q))
		b.now = closed.Add(q - 1)
		if r := f.Run(t.Context()); len(r.Windows) != 0 || b.appends != 0 || !b.shards[noon].pending {
			t.Errorf("quiet %v: a nanosecond before it is due: %d windows, %d appends", q, len(r.Windows), b.appends)
		}
		b.now = closed.Add(q)
		want := Report{ReadTime: b.now, Windows: []Window{{noon, 5, true}}}
		if diff := cmp.Diff(want, f.Run(t.Context())); diff != "" {
			t.Errorf("quiet %v: report when due (-want +got):\n%s", q, diff)
		}
		row := warehouse.WindowCount{Start: noon, End: minute(1), PageViews: 5, Final: true, WrittenAt: b.now}
		if diff := cmp.Diff([]warehouse.WindowCount{row}, b.log); diff != "" {
			t.Errorf("quiet %v: log (-want +got):\n%s", q, diff)
		}
		if s := b.shards[noon]; s.pending || !s.expireAt.Equal(b.now.Add(192*time.Hour)) {
			t.Errorf("quiet %v: settled: %v, expires at %v", q, !s.pending, s.expireAt)
		}
	}
}

func TestNothingIsWrittenWhenThereIsNothingToWrite(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	b.now = closed
	f := b.flusher()
	f.Run(t.Context())
	b.calls = nil
	if r := f.Run(t.Context()); len(r.Windows) != 0 {
		t.Errorf("second run published %v", r.Windows)
	}
	if !slices.Equal(b.calls, []string{"list", "list", "delete"}) {
		t.Errorf("second run called %q", b.calls)
	}
}

func TestAllWindowsAreOneAppendOldestFirst(t *testing.T) {
	t.Parallel()
	b := newBackend()
	for i := range 50 {
		b.add(minute(i), int64(i)+1)
	}
	b.now = noon.Add(2 * time.Hour)
	r := b.flusher().Run(t.Context())
	if b.appends != 1 || len(r.Windows) != 50 || !slices.IsSortedFunc(b.log, func(a, b warehouse.WindowCount) int { return a.Start.Compare(b.Start) }) {
		t.Errorf("%d appends, %d windows, rows %v", b.appends, len(r.Windows), b.log)
	}
}

func TestAnEventAfterItsWindowBecameFinalIsPublishedByTheNextRun(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	b.now = closed
	f := b.flusher()
	f.Run(t.Context())
	b.add(noon, 2)
	f.Run(t.Context())
	if n, _ := b.value(noon); n != 7 || b.shards[noon].pending {
		t.Errorf("value %d, want 7", n)
	}
}

func TestAnIncrementDuringARunIsNotSettled(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	b.now = closed
	b.during["append"] = func() { b.add(noon, 1) } // after Count and before Settle
	f := b.flusher()
	f.Run(t.Context())
	if !b.shards[noon].pending {
		t.Fatal("the shard was settled, though it had changed since it was read")
	}
	delete(b.during, "append")
	f.Run(t.Context())
	if n, _ := b.value(noon); n != 6 {
		t.Errorf("value %d, want 6", n)
	}
}

func TestARunThatDiesBetweenAnyTwoStepsIsRepairedByTheNext(t *testing.T) {
	t.Parallel()
	died := errors.New("died")
	for _, step := range []string{"pending 12:01", "keep", "count 12:01", "append", "settle 12:01", "delete"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			b := newBackend()
			b.add(minute(0), 5)
			b.add(minute(1), 6)
			b.now = noon.Add(time.Hour)
			b.fail[step] = died
			f := b.flusher()
			if r := f.Run(t.Context()); len(r.Errors) != 1 || !errors.Is(r.Errors[0], died) {
				t.Errorf("errors %v", r.Errors)
			}
			delete(b.fail, step)
			if r := f.Run(t.Context()); len(r.Errors) != 0 {
				t.Errorf("errors of the next run: %v", r.Errors)
			}
			for i, want := range []int64{5, 6} {
				if n, final := b.value(minute(i)); n != want || !final || b.shards[minute(i)].pending {
					t.Errorf("window %d: value %d, final %v, pending %v", i, n, final, b.shards[minute(i)].pending)
				}
			}
		})
	}
}

func TestAnErrorInOneWindowDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	b := newBackend()
	for i := range 3 {
		b.add(minute(i), 1)
	}
	b.now = noon.Add(time.Hour)
	b.fail["count 12:01"] = errors.New("away")
	r := b.flusher(func(c *Config) { c.MaxWindows = 2 }).Run(t.Context())
	if len(r.Windows) != 2 || r.Windows[1].Start != minute(2) || len(r.Errors) != 1 || r.Remaining != 0 {
		t.Errorf("report %+v: a failing window must not count against the limit", r)
	}
}

func TestARefusedRowDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(minute(0), 1)
	b.add(minute(1), 1)
	b.now = noon.Add(time.Hour)
	f := b.flusher(func(c *Config) { c.Aggregate = refusing{b, minute(0)} })
	r := f.Run(t.Context())
	if len(r.Windows) != 1 || r.Windows[0].Start != minute(1) || len(r.Errors) != 1 || !b.shards[minute(0)].pending {
		t.Errorf("report %+v", r)
	}
}

// refusing is an aggregate that refuses the row of one window.
type refusing struct {
	*backend
	start time.Time
}

func (a refusing) AppendCounts(ctx context.Context, rows []warehouse.WindowCount) error {
	for i, row := range rows {
		if row.Start.Equal(a.start) {
			return &warehouse.RefusedError{Rows: map[int]error{i: errors.New("out of range")}}
		}
	}
	return a.backend.AppendCounts(ctx, rows)
}

func TestAWindowStillBeingWrittenIsHeldBackButNotForEver(t *testing.T) {
	t.Parallel()
	b := newBackend()
	start := b.now.Add(24 * time.Hour) // the window's events arrive a day late, after an outage
	b.now = start
	f := b.flusher(quiet(10 * time.Second))
	for range 10*60 + 1 { // an event and a run every second
		b.add(noon, 1)
		r := f.Run(t.Context())
		held := b.now.Sub(start) < 10*time.Minute
		if (r.Held == 1) != held || (len(r.Windows) == 1) == held {
			t.Fatalf("after %v: held %d, published %d", b.now.Sub(start), r.Held, len(r.Windows))
		}
		b.now = b.now.Add(time.Second)
	}
	b = newBackend()
	b.add(noon, 1)
	b.now = closed.Add(time.Hour)
	b.shards[noon].WrittenAt = b.now.Add(-10 * time.Second)
	if r := b.flusher(quiet(10 * time.Second)).Run(t.Context()); r.Held != 0 || len(r.Windows) != 1 {
		t.Errorf("a window left alone for FLUSH_QUIET: %+v", r)
	}
}

func TestARunIsBoundedInWindowsOldestFirst(t *testing.T) {
	t.Parallel()
	b := newBackend()
	for i := range 10 {
		b.add(minute(i), 1)
	}
	b.now = noon.Add(time.Hour)
	b.shards[minute(0)].CreatedAt, b.shards[minute(0)].WrittenAt = b.now, b.now // this window is held back
	f := b.flusher(quiet(10*time.Second), func(c *Config) { c.MaxWindows = 4 })
	r := f.Run(t.Context())
	if r.Held != 1 || len(r.Windows) != 4 || r.Windows[0].Start != minute(1) || r.Remaining != 1 || !r.RemainingAtLeast {
		t.Errorf("first run: %+v", r)
	}
	r = f.Run(t.Context())
	if len(r.Windows) != 4 || r.Windows[0].Start != minute(5) || r.Remaining != 1 || !r.RemainingAtLeast {
		t.Errorf("second run: %+v", r)
	}
	r = f.Run(t.Context())
	if len(r.Windows) != 1 || r.Remaining != 0 || r.RemainingAtLeast || r.Held != 1 {
		t.Errorf("third run: %+v", r)
	}
}

func TestAFullRunListsNoFurther(t *testing.T) {
	t.Parallel()
	b := newBackend()
	for i := range 10 * page {
		b.add(minute(i), 1)
	}
	b.now = noon.Add(24 * time.Hour * 7)
	f := b.flusher(func(c *Config) { c.MaxWindows = page })
	if r := f.Run(t.Context()); len(r.Windows) != page || len(r.Errors) != 0 || b.called("list") != 1+2 {
		t.Errorf("%d windows, errors %v, %d pages listed; want one page of the newest windows, and two pages of the others", len(r.Windows), r.Errors, b.called("list"))
	}
}

func TestAShareOfARunIsForTheNewestWindows(t *testing.T) {
	t.Parallel()
	b := newBackend()
	for i := range 100 {
		b.add(minute(i), 1)
	}
	b.now = minute(99).Add(3 * time.Minute) // the last window has just become due
	r := b.flusher(func(c *Config) { c.MaxWindows = 12 }).Run(t.Context())
	var got, want []int
	for _, w := range r.Windows {
		got = append(got, int(w.Start.Sub(noon)/time.Minute))
	}
	want = append(want, 0, 1, 2, 3, 4, 5, 6, 7, 8, 97, 98, 99)
	if !slices.Equal(got, want) || r.Remaining != 1 || !r.RemainingAtLeast {
		t.Errorf("published %v, want %v; %d remain (at least: %v)", got, want, r.Remaining, r.RemainingAtLeast)
	}
}

// A quarter of the largest possible MaxWindows, times the window duration, does not fit a
// time.Duration.
func TestTheShareOfTheNewestWindowsDoesNotOverflow(t *testing.T) {
	t.Parallel()
	b := newBackend()
	half := noon.Truncate(12 * time.Hour)
	for i := range 3 {
		b.add(half.Add(-time.Duration(i)*12*time.Hour), 1) // the first of these windows has not ended yet
	}
	f := b.flusher(func(c *Config) { c.MaxWindows, c.Windows.Duration = 1_000_000, 12*time.Hour })
	b.now = half.Add(6 * time.Hour)
	if r := f.Run(t.Context()); len(r.Windows) != 2 || !b.shards[half].pending {
		t.Errorf("report %+v", r)
	}
}

// When a window of a day becomes due, its shards are older than HoldMax already. It must
// still be held back: the time is counted from when the window became due.
func TestALongWindowIsHeldBackFromWhenItIsDue(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.now = noon.Truncate(24 * time.Hour)
	day, due := b.now, b.now.Add(24*time.Hour+2*time.Minute+10*time.Second)
	b.add(day, 1)
	const holdMax = 3 * time.Minute
	f := b.flusher(quiet(10*time.Second), func(c *Config) { c.Windows.Duration, c.HoldMax = 24*time.Hour, holdMax })
	for b.now = due; !b.now.After(due.Add(holdMax)); b.now = b.now.Add(time.Second) {
		b.add(day, 1)
		r := f.Run(t.Context())
		held := b.now.Sub(due) < holdMax
		if (r.Held == 1) != held || (len(r.Windows) == 1) == held {
			t.Fatalf("%v after it was due: held %d, published %d", b.now.Sub(due), r.Held, len(r.Windows))
		}
	}
}

func TestTheNewestWriteAndTheOldestShardDecideWhetherAWindowIsHeldBack(t *testing.T) {
	t.Parallel()
	now := noon.Add(24 * time.Hour)
	f := newBackend().flusher(quiet(10 * time.Second))
	r := &run{Flusher: f, report: Report{ReadTime: now}}
	for _, tc := range []struct {
		created, written []time.Duration // how long before now
		held             bool
	}{
		{created: []time.Duration{9 * time.Minute, time.Minute}, written: []time.Duration{time.Minute, time.Second}, held: true},
		{created: []time.Duration{time.Minute, 9 * time.Minute}, written: []time.Duration{time.Second, time.Minute}, held: true},
		{created: []time.Duration{time.Minute, 10 * time.Minute}, written: []time.Duration{time.Second, time.Second}},
		{created: []time.Duration{10 * time.Minute, time.Minute}, written: []time.Duration{time.Second, time.Second}},
		{created: []time.Duration{time.Minute, time.Minute}, written: []time.Duration{10 * time.Second, time.Minute}},
	} {
		w := windowstore.PendingWindow{Start: noon, ReadTime: now}
		for i := range tc.created {
			w.Shards = append(w.Shards, windowstore.Shard{CreatedAt: now.Add(-tc.created[i]), WrittenAt: now.Add(-tc.written[i])})
		}
		if held := r.held(w); held != tc.held {
			t.Errorf("created %v and written %v ago: held %v", tc.created, tc.written, held)
		}
	}
}

// The greater count is right: both counts may be too low, since counters expire, and so
// may partitions of raw rows.
func TestOfAWindowThatMayHaveExpiredTheGreaterCountIsPublished(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ counters, raw, want int64 }{
		{counters: 2, raw: 5, want: 5},
		{counters: 5, raw: 2, want: 5},
		{counters: 5, raw: 0, want: 5},
	} {
		b := newBackend()
		b.add(noon, tc.counters)
		b.raw[noon] = tc.raw
		b.now = closed.Add(192*time.Hour - clockMargin)
		if r := b.flusher().Run(t.Context()); len(r.Errors) != 0 {
			t.Errorf("%+v: errors %v", tc, r.Errors)
		}
		if n, final := b.value(noon); n != tc.want || !final || b.shards[noon].pending {
			t.Errorf("%+v: value %d, final %v, pending %v", tc, n, final, b.shards[noon].pending)
		}
	}
}

func TestAWindowWithinTheRetentionIsNotCountedFromRaw(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	b.now = closed.Add(192*time.Hour - clockMargin - time.Second)
	b.flusher().Run(t.Context())
	if n, _ := b.value(noon); n != 5 || b.rawQueries != nil {
		t.Errorf("value %d after counts of %d windows from raw", n, b.rawQueries)
	}
}

// Which counters have expired depends on the settings that held when they were settled.
func TestARaisedSettingDoesNotHideThatCountersHaveExpired(t *testing.T) {
	t.Parallel()
	for name, raise := range map[string]func(*Config){
		"retention":        func(c *Config) { c.Retention = 400_000 * time.Hour },
		"allowed lateness": func(c *Config) { c.Windows.AllowedLateness = 3 * time.Hour },
		"quiet":            func(c *Config) { c.Quiet = 3 * time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend()
			b.add(noon, 5)
			b.now = closed
			short := func(c *Config) { c.Retention = time.Hour }
			b.flusher(short).Run(t.Context())
			b.now = closed.Add(2 * time.Hour)
			b.flusher(short).Run(t.Context()) // deletes the counters
			b.add(noon, 1)
			b.now = noon.Add(3*time.Hour + 20*time.Minute) // the window is due under each of these settings
			b.flusher(short, raise).Run(t.Context())
			if n, _ := b.value(noon); n != 6 {
				t.Errorf("value %d, want 6", n)
			}
		})
	}
}

func TestAWindowWithTooManyIDsIsCountedFromRaw(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	b.fail["count 12:00"] = fmt.Errorf("count: %w", windowstore.ErrTooManyKeys)
	b.now = closed
	if r := b.flusher().Run(t.Context()); len(r.Windows) != 1 || r.Windows[0].PageViews != 5 || len(r.Errors) != 0 {
		t.Errorf("report %+v", r)
	}
}

func TestAWindowThatNeitherSourceCanCountStaysPending(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	delete(b.raw, noon)
	b.fail["count 12:00"] = fmt.Errorf("count: %w", windowstore.ErrTooManyKeys)
	b.now = closed
	r := b.flusher().Run(t.Context())
	if len(r.Errors) != 1 || !errors.Is(r.Errors[0], windowstore.ErrTooManyKeys) || len(b.log) != 0 || !b.shards[noon].pending {
		t.Errorf("report %+v, log %v", r, b.log)
	}
}

func TestWhileRawCannotBeCountedTheOtherWindowsAreFlushed(t *testing.T) {
	t.Parallel()
	b := newBackend()
	for i := range rawChunk + 1 {
		b.add(minute(-24*60*30+i), 1)
	}
	b.add(noon, 5)
	b.now = closed
	b.fail["raw"] = errors.New("away")
	r := b.flusher(func(c *Config) { c.MaxWindows = rawChunk + 1 }).Run(t.Context())
	if len(r.Windows) != 1 || r.Windows[0].Start != noon || len(r.Errors) != 2 {
		t.Errorf("%d windows, errors %v", len(r.Windows), r.Errors)
	}
}

func TestEarlyCountsArePublishedWithoutBeingSettled(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	b.add(minute(1), 1)
	f := b.flusher(func(c *Config) { c.Early = true })
	b.now = minute(1).Add(-1)
	if r := f.Run(t.Context()); len(r.Windows) != 0 {
		t.Errorf("published %v before the window had ended", r.Windows)
	}
	b.now = minute(1)
	if r := f.Run(t.Context()); !slices.Equal(r.Windows, []Window{{noon, 5, false}}) || !b.shards[noon].pending {
		t.Errorf("published %v when the window had ended; pending %v", r.Windows, b.shards[noon].pending)
	}
	if r := f.Run(t.Context()); len(r.Windows) != 0 {
		t.Errorf("published %v again though nothing had changed", r.Windows)
	}
	b.add(noon, 1)
	if r := f.Run(t.Context()); !slices.Equal(r.Windows, []Window{{noon, 6, false}}) {
		t.Errorf("published %v after another event", r.Windows)
	}
	b.now = closed
	if r := f.Run(t.Context()); !slices.Contains(r.Windows, Window{noon, 6, true}) || b.shards[noon].pending {
		t.Errorf("published %v when the window was due; pending %v", r.Windows, b.shards[noon].pending)
	}
	b.now = noon.Add(time.Hour)
	f.Run(t.Context())
	if len(f.early.windows) != 0 {
		t.Errorf("still remembers the early counts %v", f.early.windows)
	}
}

func TestEarlyWindowsForWhichARunHasNoPlaceDoNotRemain(t *testing.T) {
	t.Parallel()
	b := newBackend()
	for i := range 10 {
		b.add(minute(i), 1)
	}
	b.now = minute(10)
	f := b.flusher(early, lateness(time.Hour), func(c *Config) { c.MaxWindows = 4 })
	if r := f.Run(t.Context()); len(r.Windows) != 4 || r.Windows[3].Start != minute(9) || r.Remaining != 0 || r.RemainingAtLeast {
		t.Errorf("report %+v", r)
	}
}

func TestAWriteThatAddsNoIDIsCountedOnce(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	b.now = minute(1)
	f := b.flusher(early)
	f.Run(t.Context())
	b.add(noon, 0) // a redelivery: no new id
	for range 3 {
		if r := f.Run(t.Context()); len(r.Windows) != 0 {
			t.Errorf("published %v again", r.Windows)
		}
	}
	if n := b.called("count"); n != 2 {
		t.Errorf("counted %d times", n)
	}
}

func TestAnEarlyCountThatWasCutOffIsRepeated(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	b.now = minute(1)
	f := b.flusher(early)
	ctx, cancel := context.WithCancel(t.Context())
	b.during["count 12:00"] = cancel
	b.fail["count 12:00"] = context.Canceled
	if r := f.Run(ctx); len(r.Errors) == 0 {
		t.Error("a canceled run reports no error")
	}
	delete(b.fail, "count 12:00")
	if r := f.Run(t.Context()); !slices.Equal(r.Windows, []Window{{noon, 5, false}}) {
		t.Errorf("published %v", r.Windows)
	}
}

func TestVersionsAreOfEveryShardInAnyOrder(t *testing.T) {
	t.Parallel()
	e := newEarlyCounts()
	versions := func(shards ...windowstore.Shard) uint64 {
		return e.versions(windowstore.PendingWindow{Shards: shards})
	}
	a, b := windowstore.Shard{Name: "a", Version: 1}, windowstore.Shard{Name: "b", Version: 1}
	a2, b2 := windowstore.Shard{Name: "a", Version: 2}, windowstore.Shard{Name: "b", Version: 2}
	if versions(a, b) != versions(b, a) {
		t.Error("the order of a window's shards changes its version")
	}
	seen := map[uint64]bool{}
	for _, sum := range []uint64{versions(a), versions(b), versions(a, b), versions(a2, b), versions(a, b2), versions(a2, b2)} {
		if seen[sum] {
			t.Error("two states of a window have the same version")
		}
		seen[sum] = true
	}
}

func TestExpiredCountersAreDeleted(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	b.now = closed
	f := b.flusher()
	f.Run(t.Context())
	b.now = b.now.Add(192*time.Hour - 1)
	f.Run(t.Context())
	if b.shards[noon] == nil {
		t.Error("deleted before its time")
	}
	b.now = b.now.Add(1)
	f.Run(t.Context())
	if b.shards[noon] != nil {
		t.Error("still there when it had expired")
	}
}

func TestAReportSpellsOutABoundedNumberOfErrors(t *testing.T) {
	t.Parallel()
	b := newBackend()
	for i := range 100 {
		b.add(minute(i), 1)
		b.fail["count "+clock(minute(i))] = errors.New("away")
	}
	b.now = noon.Add(24 * time.Hour)
	r := b.flusher().Run(t.Context())
	if len(r.Errors) != maxErrors+1 || r.Errors[maxErrors].Error() != "and 80 more errors" {
		t.Errorf("%d errors, the last %v", len(r.Errors), r.Errors[len(r.Errors)-1])
	}
}

func TestReportJSON(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Report{
		`{"read_time":"2026-03-14T12:00:00.000000Z","windows":[],"held":0,"remaining":0,"errors":[]}`: {ReadTime: noon},
		`{"read_time":"2026-03-14T12:00:00.000000Z","windows":[{"window_start":"2026-03-14T12:01:00.000000Z","page_views":3,"is_final":true}],"held":1,"remaining":2,"errors":["away"]}`: {ReadTime: noon,
			Windows: []Window{{minute(1), 3, true}}, Held: 1, Remaining: 2, Errors: []error{errors.New("away")}},
		`{"read_time":"2026-03-14T12:00:00.000000Z","windows":[],"held":0,"remaining":1,"remaining_at_least":true,"errors":[]}`: {ReadTime: noon,
			Remaining: 1, RemainingAtLeast: true},
	} {
		got, err := json.Marshal(r)
		if err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	}
}
