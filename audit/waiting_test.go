package audit_test

import (
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/audit"
	"github.com/tidemark-dev/tidemark/warehouse"
)

func TestWhatTheNextFlushWritesIsWaitingAndNoFault(t *testing.T) {
	t.Parallel()
	s := newTables()
	due := func(start time.Time) time.Time { return windows.DueAt(start, quiet) }
	justDue := windows.LastDue(noon, quiet)
	s.raw = map[time.Time]int64{ago(60): 5, ago(40): 2, justDue: 3}
	s.publish(ago(60), 4)
	s.wait(ago(60), noon.Add(-time.Second)) // the last event came after the count was written
	s.wait(ago(40), noon.Add(-longest))
	s.wait(ago(30), noon) // the counters have no more events than the aggregate
	s.wait(justDue, justDue)
	report := run(t, s, ago(90), noon)
	check(t, "waiting", []audit.Window{{Start: ago(60), PageViews: 4, Raw: 5}, {Start: ago(40), Raw: 2}, {Start: justDue, Raw: 3}}, report.Waiting)
	if !report.Clean() {
		t.Errorf("the report is not clean, though windows only wait for the next flush: %+v", report)
	}

	// The time that a window may wait begins with its last write, or when it became due
	// if that is later.
	s = newTables()
	s.now = due(ago(60)).Add(longest)
	s.raw = map[time.Time]int64{ago(60): 1, ago(61): 1, ago(62): 1, ago(63): 1}
	s.wait(ago(63), s.now.Add(-longest))
	s.wait(ago(62), s.now.Add(-longest-1))
	s.wait(ago(61), ago(61))
	s.wait(ago(60), ago(60))
	report = run(t, s, ago(90), noon)
	check(t, "waiting", []audit.Window{{Start: ago(63), Raw: 1}, {Start: ago(60), Raw: 1}}, report.Waiting)
	check(t, "lower", []audit.Window{{Start: ago(62), Raw: 1}, {Start: ago(61), Raw: 1}}, report.Lower)
	if report.Clean() {
		t.Error("clean, though windows have waited too long")
	}
}

func TestAFlushDuringAnAuditMakesNothingLower(t *testing.T) {
	t.Parallel()
	s := newTables()
	s.raw[ago(20)] = 1
	s.wait(ago(20), noon)
	s.flushAfterRead = true
	if report := run(t, s, ago(90), noon); !report.Clean() {
		t.Errorf("lower %v", report.Lower)
	}
}

func TestAWindowThatIsTooHighDoesNotWait(t *testing.T) {
	t.Parallel()
	s := newTables()
	s.raw[ago(20)] = 1
	s.publish(ago(20), 2)
	s.wait(ago(20), noon)
	report := run(t, s, ago(90), noon)
	check(t, "higher", []audit.Window{{Start: ago(20), PageViews: 2, Raw: 1}}, report.Higher)
	check(t, "waiting", []audit.Window(nil), report.Waiting)
}

func TestARepairLeavesWhatWaitsToTheFlush(t *testing.T) {
	t.Parallel()
	s := newTables()
	s.raw = map[time.Time]int64{ago(20): 1, ago(19): 1}
	s.wait(ago(20), noon)
	waiting, lower := []audit.Window{{Start: ago(20), Raw: 1}}, []audit.Window{{Start: ago(19), Raw: 1}}
	report := repair(t, s)
	check(t, "waiting", waiting, report.Waiting)
	check(t, "repaired", lower, report.Repaired)
	check(t, "appended", []warehouse.WindowCount{{Start: ago(19), End: ago(18), PageViews: 1, Final: true, WrittenAt: noon}}, s.log)
}
