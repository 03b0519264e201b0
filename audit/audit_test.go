package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tidemark-dev/tidemark/audit"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
	"github.com/tidemark-dev/tidemark/windowstore"
)

var (
	noon    = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	windows = window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute}
)

const (
	quiet   = 10 * time.Second
	holdMax = 10 * time.Minute
	// longest is how long a window may wait for its flush after its last write, before
	// the audit lists it as lower.
	longest = holdMax + 5*time.Minute
)

// tables is a warehouse in memory that has only counts of raw rows and written counts. It
// also has the pending windows of the counters.
type tables struct {
	now     time.Time
	raw     map[time.Time]int64
	log     []warehouse.WindowCount
	pending []windowstore.PendingWindow

	audits, appends     int
	flushAfterRead      bool // a flush comes after the first read, whether that is of the counters or of the tables
	block               bool // an audit does not return before its context ends
	failPending         error
	failAudit           error
	failAppend          error
	failAuditAfterwards error // what audits fail with after an AppendCounts
}

func newTables() *tables { return &tables{now: noon, raw: map[time.Time]int64{}} }

func (s *tables) auditor() *audit.Auditor {
	return audit.New(audit.Config{
		Warehouse: s, Counters: s, Windows: windows, Quiet: quiet, HoldMax: holdMax, Timeout: time.Minute,
		Now: func() time.Time { return s.now },
	})
}

// wait makes the window pending. An event was last added to it at the given time.
func (s *tables) wait(start, written time.Time) {
	s.pending = append(s.pending, windowstore.PendingWindow{Start: start, ReadTime: s.now, Shards: []windowstore.Shard{
		{Window: start, WrittenAt: written.Add(-time.Hour)}, {Window: start, WrittenAt: written}, {Window: start, WrittenAt: written.Add(-time.Minute)},
	}})
}

func (s *tables) Pending(_ context.Context, from, through time.Time) iter.Seq2[windowstore.PendingWindow, error] {
	return func(yield func(windowstore.PendingWindow, error) bool) {
		defer s.afterRead()
		for _, w := range s.pending {
			if !w.Start.Before(from) && !w.Start.After(through) && !yield(w, nil) {
				return
			}
		}
		if s.failPending != nil {
			yield(windowstore.PendingWindow{}, s.failPending)
		}
	}
}

// afterRead runs a flush if flushAfterRead is set, so that the flush comes between the
// audit's two reads.
func (s *tables) afterRead() {
	if !s.flushAfterRead {
		return
	}
	for _, w := range s.pending {
		s.publish(w.Start, s.raw[w.Start])
	}
	s.pending, s.flushAfterRead = nil, false
}

func (s *tables) publish(start time.Time, n int64) {
	s.log = append(s.log, warehouse.WindowCount{Start: start, PageViews: n})
}

// AuditBytes returns one byte for each second of the range.
func (s *tables) AuditBytes(_ context.Context, from, to time.Time) (int64, error) {
	return int64(to.Sub(from).Seconds()), s.failAudit
}

func (s *tables) AppendCounts(_ context.Context, rows []warehouse.WindowCount) error {
	s.appends++
	if s.failAppend != nil {
		return s.failAppend
	}
	s.log = append(s.log, rows...)
	s.failAudit = s.failAuditAfterwards
	return nil
}

func (s *tables) Audit(ctx context.Context, from, to time.Time, limit int) ([]warehouse.Discrepancy, error) {
	s.audits++
	defer s.afterRead()
	if s.block {
		<-ctx.Done()
		return nil, errors.New("interrupted") // a driver may not return the context's error
	}
	if s.failAudit != nil {
		return nil, s.failAudit
	}
	all := map[time.Time]warehouse.Discrepancy{}
	for start, n := range s.raw {
		all[start] = warehouse.Discrepancy{Start: start, Raw: n}
	}
	for _, row := range s.log {
		d := all[row.Start]
		all[row.Start] = warehouse.Discrepancy{Start: row.Start, Raw: d.Raw, PageViews: max(d.PageViews, row.PageViews)}
	}
	var found []warehouse.Discrepancy
	for start, d := range all {
		if d.PageViews != d.Raw && !start.Before(from) && start.Before(to) {
			found = append(found, d)
		}
	}
	higher := func(d warehouse.Discrepancy) int {
		if d.PageViews > d.Raw {
			return 1
		}
		return 0
	}
	slices.SortFunc(found, func(a, b warehouse.Discrepancy) int {
		if kind := higher(a) - higher(b); kind != 0 {
			return kind
		}
		return a.Start.Compare(b.Start)
	})
	return found[:min(limit, len(found))], nil
}

func ago(minutes int) time.Time { return noon.Add(-time.Duration(minutes) * time.Minute) }

func check(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func run(t *testing.T, s *tables, from, to time.Time) audit.Report {
	t.Helper()
	report, err := s.auditor().Run(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func repair(t *testing.T, s *tables) audit.Report {
	t.Helper()
	report, err := s.auditor().Repair(t.Context(), time.Time{}, s.now)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestLowerAndHigherAreListedApart(t *testing.T) {
	t.Parallel()
	s := newTables()
	s.raw = map[time.Time]int64{ago(20): 5, ago(19): 5, ago(18): 5, ago(17): 5}
	s.publish(ago(20), 4)
	s.publish(ago(19), 5)
	s.publish(ago(18), 6)
	s.publish(ago(16), 1)
	report := run(t, s, ago(30), noon)
	check(t, "lower", []audit.Window{{Start: ago(20), PageViews: 4, Raw: 5}, {Start: ago(17), Raw: 5}}, report.Lower)
	check(t, "higher", []audit.Window{{Start: ago(18), PageViews: 6, Raw: 5}, {Start: ago(16), PageViews: 1}}, report.Higher)
	if report.More || report.Clean() || report.Repaired != nil || s.appends != 0 {
		t.Errorf("more %v, clean %v, repaired %v, %d appends", report.More, report.Clean(), report.Repaired, s.appends)
	}
}

func TestAnAuditEndsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newTables()
		s.block = true
		began := time.Now()
		_, err := s.auditor().Run(t.Context(), time.Time{}, noon)
		if err == nil || !strings.Contains(err.Error(), "narrow it by from and to") || time.Since(began) != time.Minute {
			t.Errorf("error %v after %v, want advice after a minute", err, time.Since(began))
		}
		// If the caller cancels the audit, the error needs no advice.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.auditor().Repair(ctx, time.Time{}, noon); err == nil || strings.Contains(err.Error(), "narrow") {
			t.Errorf("called off: error %v", err)
		}
	})
}

func TestWindowsNotYetDueAreLeftOut(t *testing.T) {
	t.Parallel()
	s := newTables()
	start := ago(5)
	s.raw[start] = 3
	s.publish(start.Add(windows.Duration), 9)
	due := windows.DueAt(start, quiet)

	s.now = due.Add(-1)
	if report := run(t, s, ago(60), s.now); !report.Clean() || !report.To.Equal(start) {
		t.Errorf("before it is due: %+v", report)
	}
	s.now = due
	report := run(t, s, ago(60), s.now)
	check(t, "lower when due", []audit.Window{{Start: start, Raw: 3}}, report.Lower)
	if len(report.Higher) != 0 || !report.To.Equal(start.Add(windows.Duration)) {
		t.Errorf("when due: %+v, want nothing of the next window", report)
	}
	s.now = s.now.Add(windows.Duration)
	check(t, "higher a minute later", []audit.Window{{Start: start.Add(windows.Duration), PageViews: 9}}, run(t, s, ago(60), s.now).Higher)
	// A repair does not write them either.
	s.now = due.Add(-1)
	repair(t, s)
	if s.appends != 0 {
		t.Error("a window that is not due was repaired")
	}
}

func TestTheRangeIsHalfOpenAndReported(t *testing.T) {
	t.Parallel()
	s := newTables()
	for i := 10; i <= 20; i++ {
		s.raw[ago(i)] = 1
	}
	lastEnd := windows.End(windows.LastDue(noon, quiet))
	kolkata := time.FixedZone("", 19800)
	for _, tc := range []struct {
		from, to, wantTo time.Time
		want             int
	}{
		{ago(20), ago(10), ago(10), 10},
		{ago(20).In(kolkata), ago(19).In(kolkata), ago(19), 1},
		{ago(15), ago(15), ago(15), 0},
		{ago(12), ago(18), ago(12), 0}, // from is after to
		{time.Time{}, noon.AddDate(50, 0, 0), lastEnd, 11},
		{noon.Add(time.Hour), noon.Add(2 * time.Hour), noon.Add(time.Hour), 0},
	} {
		report := run(t, s, tc.from, tc.to)
		if len(report.Lower) != tc.want || report.From != tc.from.UTC() || report.To != tc.wantTo {
			t.Errorf("from %v to %v: %d windows from %v to %v", tc.from, tc.to, len(report.Lower), report.From, report.To)
		}
	}
}

// An estimate is for the same range that an audit would read, and reads no rows.
func TestAnEstimateReadsNothing(t *testing.T) {
	t.Parallel()
	s := newTables()
	for to, want := range map[time.Time]audit.Estimate{
		noon.Add(-time.Hour): {From: noon.Add(-2 * time.Hour), To: noon.Add(-time.Hour), Bytes: 3600},
		// The last due window ends 3 minutes before noon, minus the quiet time.
		noon.Add(time.Hour):      {From: noon.Add(-2 * time.Hour), To: noon.Add(-3 * time.Minute), Bytes: 2*3600 - 180},
		noon.Add(-2 * time.Hour): {From: noon.Add(-2 * time.Hour), To: noon.Add(-2 * time.Hour)},
	} {
		got, err := s.auditor().Estimate(t.Context(), noon.Add(-2*time.Hour), to)
		if err != nil || got != want {
			t.Errorf("to %v: %+v, %v, want %+v", to, got, err, want)
		}
	}
	if s.audits != 0 || s.appends != 0 {
		t.Errorf("%d audits, %d appends, want none", s.audits, s.appends)
	}
	s.failAudit = errors.New("no such dataset")
	if _, err := s.auditor().Estimate(t.Context(), noon.Add(-time.Hour), noon); !errors.Is(err, s.failAudit) {
		t.Errorf("%v, want %v", err, s.failAudit)
	}
}

func TestARepairMendsWhatIsLowerOnce(t *testing.T) {
	t.Parallel()
	s := newTables()
	s.raw = map[time.Time]int64{ago(20): 5, ago(19): 5, ago(18): 5}
	s.publish(ago(20), 4)
	s.publish(ago(18), 6)
	before := len(s.log)
	higher := []audit.Window{{Start: ago(18), PageViews: 6, Raw: 5}}

	report := repair(t, s)
	check(t, "repaired", []audit.Window{{Start: ago(20), PageViews: 4, Raw: 5}, {Start: ago(19), Raw: 5}}, report.Repaired)
	check(t, "lower", []audit.Window(nil), report.Lower)
	check(t, "higher", higher, report.Higher)
	check(t, "appended", []warehouse.WindowCount{
		{Start: ago(20), End: ago(19), PageViews: 5, Final: true, WrittenAt: noon},
		{Start: ago(19), End: ago(18), PageViews: 5, Final: true, WrittenAt: noon},
	}, s.log[before:])
	if s.appends != 1 {
		t.Errorf("%d appends, want 1", s.appends)
	}

	again := repair(t, s)
	check(t, "higher after the second", higher, again.Higher)
	if len(again.Repaired) != 0 || again.Repaired == nil || s.appends != 1 {
		t.Errorf("the second repair: %#v, %d appends", again.Repaired, s.appends)
	}
}

func TestTheReportIsBoundedAndRepeatedRepairsReachEverything(t *testing.T) {
	t.Parallel()
	s := newTables()
	const lower = audit.MaxWindows + 500
	for i := range lower {
		s.raw[ago(10+i)] = 1
	}
	for i := range audit.MaxWindows { // these windows are higher, which no repair corrects, and older
		s.publish(ago(10+lower+i), 1)
	}
	report := repair(t, s)
	if len(report.Repaired) != audit.MaxWindows || len(report.Lower) != 500 || len(report.Higher) != audit.MaxWindows-500 || !report.More {
		t.Errorf("first: %d repaired, %d lower, %d higher, more %v", len(report.Repaired), len(report.Lower), len(report.Higher), report.More)
	}
	report = repair(t, s)
	if len(report.Repaired) != 500 || len(report.Lower) != 0 || len(report.Higher) != audit.MaxWindows || report.More {
		t.Errorf("second: %d repaired, %d lower, %d higher, more %v", len(report.Repaired), len(report.Lower), len(report.Higher), report.More)
	}
}

func TestFailuresAreReturnedWithWhatFailed(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for name, tc := range map[string]struct {
		fail func(*tables)
		says string
	}{
		"counters":               {func(s *tables) { s.failPending = down }, "wait for a flush"},
		"audit":                  {func(s *tables) { s.failAudit = down }, "audit windows from the beginning to 20"},
		"append":                 {func(s *tables) { s.failAppend = down }, "repair 1 windows from 2026-03-14T11:40:00.000000Z"},
		"audit after the repair": {func(s *tables) { s.failAuditAfterwards = down }, "after the repair of 1 windows"},
	} {
		s := newTables()
		s.raw[ago(20)] = 1
		tc.fail(s)
		_, err := s.auditor().Repair(t.Context(), time.Time{}, noon)
		if !errors.Is(err, down) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.says)
		}
	}
}

func TestReportsInJSON(t *testing.T) {
	t.Parallel()
	empty := audit.Report{From: ago(20), To: ago(10)}
	full := audit.Report{
		From: ago(20), To: ago(10), More: true, Repaired: []audit.Window{},
		Waiting: []audit.Window{{Start: ago(13), Raw: 1}},
		Lower:   []audit.Window{{Start: ago(15), PageViews: 1, Raw: 2}},
		Higher:  []audit.Window{{Start: ago(14), PageViews: 3}},
	}
	for want, report := range map[string]audit.Report{
		`{"from":"2026-03-14T11:40:00.000000Z","to":"2026-03-14T11:50:00.000000Z","waiting":[],"lower":[],"higher":[],"more":false}`: empty,
		`{"from":"2026-03-14T11:40:00.000000Z","to":"2026-03-14T11:50:00.000000Z","repaired":[],` +
			`"waiting":[{"window_start":"2026-03-14T11:47:00.000000Z","page_views":0,"raw":1}],` +
			`"lower":[{"window_start":"2026-03-14T11:45:00.000000Z","page_views":1,"raw":2}],` +
			`"higher":[{"window_start":"2026-03-14T11:46:00.000000Z","page_views":3,"raw":0}],"more":true}`: full,
	} {
		text, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		check(t, "JSON", want, string(text))
		var read audit.Report
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		check(t, "read again", report, read)
	}
	named := audit.Report{From: ago(20), To: ago(10), Count: "orders", Repaired: full.Lower}
	text, err := json.Marshal(named)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "JSON with the name of the count", `{"from":"2026-03-14T11:40:00.000000Z","to":"2026-03-14T11:50:00.000000Z",`+
		`"repaired":[{"window_start":"2026-03-14T11:45:00.000000Z","orders":1,"raw":2}],"waiting":[],"lower":[],"higher":[],"more":false}`, string(text))
}
