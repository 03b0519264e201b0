package handler_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/audit"
	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/handler"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// fakeAudit records its calls. It returns what the hook returns, or an empty report if
// there is no hook.
type fakeAudit struct {
	hook  func(ctx context.Context) (audit.Report, error)
	calls []string
}

func (f *fakeAudit) call(ctx context.Context, name string, from, to time.Time) (audit.Report, error) {
	f.calls = append(f.calls, name+" "+event.FormatTime(from)+" "+event.FormatTime(to))
	if f.hook != nil {
		return f.hook(ctx)
	}
	return audit.Report{From: from, To: to}, nil
}

func (f *fakeAudit) Run(ctx context.Context, from, to time.Time) (audit.Report, error) {
	return f.call(ctx, "run", from, to)
}

func (f *fakeAudit) Estimate(ctx context.Context, from, to time.Time) (audit.Estimate, error) {
	report, err := f.call(ctx, "estimate", from, to)
	return audit.Estimate{From: report.From, To: report.To, Bytes: 12_345}, err
}

func (f *fakeAudit) Repair(ctx context.Context, from, to time.Time) (audit.Report, error) {
	return f.call(ctx, "repair", from, to)
}

func newAuditFixture(t *testing.T) (*fixture, *fakeAudit) {
	t.Helper()
	fake := &fakeAudit{}
	return newFixture(t, func(c *handler.Config) { c.Audit = fake }), fake
}

func get(target string) *http.Request { return httptest.NewRequest(http.MethodGet, target, nil) }

func TestAuditTakesARangeOfTimes(t *testing.T) {
	t.Parallel()
	const beginning, june = "0001-01-01T00:00:00.000000Z", "2026-06-01T00:00:00.000000Z"
	for query, want := range map[string]string{
		"":                                beginning + " " + received,
		"?":                               beginning + " " + received,
		"?from=2026-03-01T00:00:00Z":      "2026-03-01T00:00:00.000000Z " + received,
		"?to=2026-06-01T02:00:00%2B02:00": beginning + " " + june,
		"?to=2026-06-01%2000:00:00&from=2026-06-01T00:00:00": june + " " + june,
	} {
		f, fake := newAuditFixture(t)
		wantOK(t, f.do(get("/audit"+query)))
		wantOK(t, f.do(post("/audit"+query, "from=never")))
		if diff := cmp.Diff([]string{"run " + want, "repair " + want}, fake.calls); diff != "" {
			t.Errorf("%q (-want +got):\n%s", query, diff)
		}
	}
}

func TestABadRangeIsRefusedAndNothingRun(t *testing.T) {
	t.Parallel()
	for query, says := range map[string]string{
		"from=yesterday":                   `from: "yesterday" is not a time`,
		"to=":                              `to: "" is not a time`,
		"to=2026-06-01T02:00:00+02:00":     "%2B",
		"from=2026-06-31T00:00:00Z":        "no such day",
		"from=1&to=2":                      `to: "2"`,
		"from=2026-06-01T00:00:00Z&from=x": "from is given 2 times",
		"from=2026-03-14T09:00:00.000001Z&to=2026-03-14T09:00:00Z": "after to",
		"from=2026-03-14T09:27:31Z":                                "after to, " + received,
		"from=%zz":                                                 "query",
	} {
		f, fake := newAuditFixture(t)
		for _, r := range []*http.Request{get("/audit?" + query), post("/audit?"+query, "")} {
			if message := wantError(t, f.do(r), http.StatusBadRequest, "INVALID_ARGUMENT"); !strings.Contains(message, says) {
				t.Errorf("%s %s: message %q, want %q in it", r.Method, query, message, says)
			}
		}
		if len(fake.calls) != 0 {
			t.Errorf("%s: ran %q", query, fake.calls)
		}
	}
}

func TestAuditAnswersItsReport(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, time.March, 14, 9, 0, 0, 0, time.UTC)
	report := audit.Report{
		From: start, To: start.Add(10 * time.Minute), More: true,
		Waiting: []audit.Window{{Start: start.Add(2 * time.Minute), Raw: 1}},
		Lower:   []audit.Window{{Start: start, PageViews: 1, Raw: 2}},
		Higher:  []audit.Window{{Start: start.Add(time.Minute), PageViews: 1}},
	}
	f, fake := newAuditFixture(t)
	fake.hook = func(context.Context) (audit.Report, error) { return report, nil }
	want := map[string]any{
		"from": "2026-03-14T09:00:00.000000Z", "to": "2026-03-14T09:10:00.000000Z", "more": true,
		"waiting": []any{map[string]any{"window_start": "2026-03-14T09:02:00.000000Z", "page_views": 0.0, "raw": 1.0}},
		"lower":   []any{map[string]any{"window_start": "2026-03-14T09:00:00.000000Z", "page_views": 1.0, "raw": 2.0}},
		"higher":  []any{map[string]any{"window_start": "2026-03-14T09:01:00.000000Z", "page_views": 1.0, "raw": 0.0}},
	}
	if diff := cmp.Diff(want, wantOK(t, f.do(get("/audit")))); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	if line := f.lastLine(t); line["level"] != "WARN" || line["waiting"] != 1.0 || line["lower"] != 1.0 || line["higher"] != 1.0 || line["more"] != true || line["repaired"] != nil {
		t.Errorf("the log line of differences is %v", line)
	}

	report.Repaired, report.Lower, report.Higher, report.More = report.Lower, nil, nil, false
	want["repaired"], want["lower"], want["higher"], want["more"] = want["lower"], []any{}, []any{}, false
	if diff := cmp.Diff(want, wantOK(t, f.do(post("/audit", "")))); diff != "" {
		t.Errorf("repair (-want +got):\n%s", diff)
	}
	if line := f.lastLine(t); line["level"] != "INFO" || line["repaired"] != 1.0 {
		t.Errorf("the log line of a repair that leaves one to the flush is %v", line)
	}

	report.Waiting = nil
	want["waiting"] = []any{}
	if diff := cmp.Diff(want, wantOK(t, f.do(post("/audit", "")))); diff != "" {
		t.Errorf("second repair (-want +got):\n%s", diff)
	}
	if line := f.lastLine(t); line["level"] != "DEBUG" || line["repaired"] != 1.0 {
		t.Errorf("the log line of a repair is %v", line)
	}
}

func TestADryRunOfAnAuditRunsNone(t *testing.T) {
	t.Parallel()
	for _, r := range []*http.Request{get("/audit?from=2026-03-01T00:00:00Z&dry_run=1"), post("/audit?from=2026-03-01T00:00:00Z&dry_run=true", "")} {
		f, fake := newAuditFixture(t)
		want := map[string]any{"from": "2026-03-01T00:00:00.000000Z", "to": received, "bytes": 12_345.0}
		if diff := cmp.Diff(want, wantOK(t, f.do(r))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.Method, diff)
		}
		if diff := cmp.Diff([]string{"estimate 2026-03-01T00:00:00.000000Z " + received}, fake.calls); diff != "" {
			t.Errorf("%s ran (-want +got):\n%s", r.Method, diff)
		}
	}
	f, fake := newAuditFixture(t)
	wantError(t, f.do(post("/audit?dry_run=perhaps", "")), http.StatusBadRequest, "INVALID_ARGUMENT")
	if len(fake.calls) != 0 {
		t.Errorf("ran %q", fake.calls)
	}
}

func TestAuditFailuresAreRefusedForNow(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"passing":  errors.New("disk I/O error"),
		"deadline": context.DeadlineExceeded,
		"table":    &warehouse.TableError{Table: "raw", Err: errors.New("column is missing")},
	} {
		f, fake := newAuditFixture(t)
		fake.hook = func(context.Context) (audit.Report, error) { return audit.Report{}, err }
		for _, r := range []*http.Request{get("/audit"), post("/audit", "")} {
			if message := wantError(t, f.do(r), http.StatusServiceUnavailable, "UNAVAILABLE"); message != err.Error() {
				t.Errorf("%s: the answer says %q, want %q", name, message, err)
			}
			if line := f.lastLine(t); line["error"] != err.Error() {
				t.Errorf("%s: the log line is %v", name, line)
			}
		}
	}
}

func TestAuditStaysOnTheRequest(t *testing.T) {
	t.Parallel()
	for _, draining := range []bool{false, true} {
		f, fake := newAuditFixture(t)
		ctx, leave := context.WithCancel(t.Context())
		fake.hook = func(ctx context.Context) (audit.Report, error) {
			if draining {
				f.Drain()
			}
			leave()
			<-ctx.Done()
			return audit.Report{}, ctx.Err()
		}
		code, status := 499, "CANCELLED"
		if draining { // the client still waits for an answer
			code, status = http.StatusServiceUnavailable, "UNAVAILABLE"
		}
		wantError(t, f.do(get("/audit").WithContext(ctx)), code, status)
	}
}

func TestAuditIsRefusedWhileDraining(t *testing.T) {
	t.Parallel()
	f, fake := newAuditFixture(t)
	f.Drain()
	for _, r := range []*http.Request{get("/audit"), post("/audit", "")} {
		wantError(t, f.do(r), http.StatusServiceUnavailable, "UNAVAILABLE")
	}
	if len(fake.calls) != 0 {
		t.Errorf("ran %q", fake.calls)
	}
}

func TestAuditTakesGetHeadAndPost(t *testing.T) {
	t.Parallel()
	f, _ := newAuditFixture(t)
	res := f.do(httptest.NewRequest(http.MethodPut, "/audit", nil))
	wantError(t, res, http.StatusMethodNotAllowed, "UNIMPLEMENTED")
	if got := res.Header.Get("Allow"); got != "GET, HEAD, POST" {
		t.Errorf("Allow is %q", got)
	}
}
