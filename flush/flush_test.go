package flush

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
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

// backend is a counter store and an aggregate in memory, of one shard per window.
type backend struct {
	now    time.Time
	shards map[time.Time]*shard
	raw    map[time.Time]int64
	log    []warehouse.WindowCount

	appends, rawQueries int
	calls               []string
	fail                map[string]error // by call, as "count 12:00"
	kept                time.Duration
	afterPending        func()
}

type shard struct {
	windowstore.Shard
	ids      int64
	pending  bool
	expireAt time.Time
}

func newBackend() *backend {
	return &backend{now: noon, shards: map[time.Time]*shard{}, raw: map[time.Time]int64{}, fail: map[string]error{}}
}

// add counts n more ids in a window, as the push path does.
func (b *backend) add(start time.Time, n int64) {
	s, ok := b.shards[start]
	if !ok {
		s = &shard{Shard: windowstore.Shard{Window: start, CreatedAt: b.now}}
		b.shards[start] = s
	}
	s.ids, s.pending, s.expireAt = s.ids+n, true, time.Time{}
	s.Version++
	s.WrittenAt = b.now
	b.raw[start] += n
}

func clock(t time.Time) string { return t.Format("15:04") }

func (b *backend) call(name string) error {
	b.calls = append(b.calls, name)
	return b.fail[name]
}

func (b *backend) Pending(ctx context.Context, from, through time.Time) iter.Seq2[windowstore.PendingWindow, error] {
	return func(yield func(windowstore.PendingWindow, error) bool) {
		var starts []time.Time
		for start, s := range b.shards {
			if s.pending && !start.Before(from) && !start.After(through) {
				starts = append(starts, start)
			}
		}
		slices.SortFunc(starts, time.Time.Compare)
		for _, start := range starts {
			if err := b.call("pending " + clock(start)); err != nil {
				yield(windowstore.PendingWindow{}, err)
				return
			}
			w := windowstore.PendingWindow{Start: start, ReadTime: b.now, Shards: []windowstore.Shard{b.shards[start].Shard}}
			if !yield(w, nil) {
				return
			}
		}
		if b.afterPending != nil {
			b.afterPending()
		}
	}
}

func (b *backend) Count(_ context.Context, start time.Time) (int64, error) {
	if err := b.call("count " + clock(start)); err != nil {
		return 0, err
	}
	return b.shards[start].ids, nil
}

func (b *backend) KeepAtLeast(_ context.Context, keep time.Duration) (time.Duration, error) {
	if err := b.call("keep"); err != nil {
		return 0, err
	}
	if b.kept == 0 || keep < b.kept {
		b.kept = keep
	}
	return b.kept, nil
}

func (b *backend) Settle(_ context.Context, shards []windowstore.Shard, expireAt time.Time) error {
	for _, read := range shards {
		if err := b.call("settle " + clock(read.Window)); err != nil {
			return err
		}
		if s := b.shards[read.Window]; s.Version == read.Version {
			s.pending, s.expireAt = false, expireAt
		}
	}
	return nil
}

func (b *backend) DeleteExpired(_ context.Context, now time.Time) (int, error) {
	if err := b.call("delete"); err != nil {
		return 0, err
	}
	n := 0
	for start, s := range b.shards {
		if !s.pending && !s.expireAt.After(now) {
			delete(b.shards, start)
			n++
		}
	}
	return n, nil
}

func (b *backend) AppendCounts(_ context.Context, rows []warehouse.WindowCount) error {
	b.appends++
	if err := b.call("append"); err != nil {
		return err
	}
	b.log = append(b.log, rows...)
	return nil
}

func (b *backend) CountRaw(_ context.Context, starts []time.Time) ([]int64, error) {
	b.rawQueries++
	if err := b.call("raw"); err != nil {
		return nil, err
	}
	counts := make([]int64, len(starts))
	for i, start := range starts {
		counts[i] = b.raw[start]
	}
	return counts, nil
}

// value is what a reader of the aggregate sees: the greatest count of a window,
// and whether any row of it is final.
func (b *backend) value(start time.Time) (pageViews int64, final bool) {
	for _, row := range b.log {
		if row.Start.Equal(start) {
			pageViews, final = max(pageViews, row.PageViews), final || row.Final
		}
	}
	return pageViews, final
}

func (b *backend) flusher(adjust ...func(*Config)) *Flusher {
	cfg := Config{
		Counters: b, Aggregate: b, Windows: windows,
		MaxWindows: 1000, Timeout: 50 * time.Second, Retention: 192 * time.Hour,
		Now: func() time.Time { return b.now },
	}
	for _, f := range adjust {
		f(&cfg)
	}
	return New(cfg)
}

func quiet(d time.Duration) func(*Config) {
	return func(c *Config) { c.Quiet, c.HoldMax = d, 10*time.Minute }
}

// minute returns the start of the window n minutes after noon.
func minute(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }

// closed is when the window at noon closes: late events from here on.
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
	if !slices.Equal(b.calls, []string{"delete"}) {
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
	if b.appends != 1 || len(r.Windows) != 50 || !slices.IsSortedFunc(r.Windows, func(a, b Window) int { return a.Start.Compare(b.Start) }) {
		t.Errorf("%d appends, %d windows", b.appends, len(r.Windows))
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
	b.afterPending = func() { b.add(noon, 1) } // after Count, before Settle
	f := b.flusher()
	f.Run(t.Context())
	if !b.shards[noon].pending {
		t.Fatal("the shard was settled though it had changed since it was read")
	}
	b.afterPending = nil
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
	start := b.now.Add(24 * time.Hour) // the backlog of an outage arrives a day late
	b.now = start
	f := b.flusher(quiet(10 * time.Second))
	for range 10*60 + 1 { // an event a second, a run a second
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
	b.shards[minute(0)].CreatedAt, b.shards[minute(0)].WrittenAt = b.now, b.now // held
	f := b.flusher(quiet(10*time.Second), func(c *Config) { c.MaxWindows = 4 })
	r := f.Run(t.Context())
	if r.Held != 1 || len(r.Windows) != 4 || r.Remaining != 5 || r.Windows[0].Start != minute(1) {
		t.Errorf("first run: %+v", r)
	}
	if r = f.Run(t.Context()); len(r.Windows) != 4 || r.Remaining != 1 || r.Windows[0].Start != minute(5) {
		t.Errorf("second run: %+v", r)
	}
}

func TestARunEndsWithinItsTimeoutAndPublishesWhatItHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		for i := range 10 {
			b.add(minute(i), 1)
		}
		b.now = noon.Add(time.Hour)
		f := b.flusher(func(c *Config) { c.Counters = slow{b, 5 * time.Second} })
		began := time.Now()
		r := f.Run(t.Context())
		if took := time.Since(began); took > 50*time.Second || len(r.Windows) == 0 || len(r.Windows)+r.Remaining != 10 || len(r.Errors) != 0 {
			t.Errorf("took %v, %+v", took, r)
		}
	})
}

// slow is a counter store that takes its time to count.
type slow struct {
	*backend
	per time.Duration
}

func (s slow) Count(ctx context.Context, start time.Time) (int64, error) {
	select {
	case <-time.After(s.per):
		return s.backend.Count(ctx, start)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestAWindowWhoseCountersMayHaveExpiredIsCountedFromRaw(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	b.shards[noon].ids = 2 // the others have expired
	b.now = closed.Add(192*time.Hour - clockMargin)
	f := b.flusher()
	f.Run(t.Context())
	if n, final := b.value(noon); n != 5 || !final || b.shards[noon].pending {
		t.Errorf("value %d, final %v, pending %v; want 5 from raw", n, final, b.shards[noon].pending)
	}
	b = newBackend()
	b.add(noon, 5)
	b.now = closed.Add(192*time.Hour - clockMargin - time.Second)
	b.flusher().Run(t.Context())
	if b.rawQueries != 0 {
		t.Error("a window within the retention was counted from raw")
	}
}

// What has expired depends on the settings of the time at which it was settled.
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
			b.flusher(short).Run(t.Context()) // deletes
			b.add(noon, 1)
			b.now = noon.Add(3*time.Hour + 20*time.Minute) // due by all of these
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

func TestAnOldWindowWithoutRawRowsKeepsWhatItsCountersHave(t *testing.T) {
	t.Parallel()
	b := newBackend()
	b.add(noon, 5)
	delete(b.raw, noon)
	b.now = noon.Add(1000 * time.Hour)
	if r := b.flusher().Run(t.Context()); len(r.Windows) != 1 || r.Windows[0].PageViews != 5 || len(r.Errors) != 0 {
		t.Errorf("report %+v", r)
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
	if len(f.early) != 0 {
		t.Errorf("still remembers the early counts %v", f.early)
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
	} {
		got, err := json.Marshal(r)
		if err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	}
}
