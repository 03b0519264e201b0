package handler_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/handler"
)

// If a misspelt parameter were ignored, the server might do the opposite of what the
// caller meant.
func TestUnknownParametersAreRefused(t *testing.T) {
	t.Parallel()
	flushes, audits := 0, &fakeAudit{}
	f := newFixture(t, func(c *handler.Config) {
		c.Audit = audits
		c.Flush = func(context.Context) flush.Report { flushes++; return flush.Report{} }
	})
	for _, tc := range []struct{ method, target, says string }{
		{"POST", "/flush?dry_run=1", `no parameter "dry_run"`},
		{"POST", "/flush?x", "takes none"},
		{"POST", "/flush?=1", `no parameter ""`},
		{"POST", "/flush?a=%zz", "query"},
		{"GET", "/audit?form=2026-03-14T09:00:00Z", `no parameter "form"`},
		{"GET", "/audit?form=2026-03-14T09:00:00Z&to=2026-03-14T09:00:00Z", "from, to, dry_run"},
		{"GET", "/audit?From=2026-03-14T09:00:00Z", `"From"`},
		{"HEAD", "/audit?x=1", ""},
		{"POST", "/audit?dryrun=1", `no parameter "dryrun"`},
		{"POST", "/audit?repair=1&b=2&a=1", `"a"`}, // the first unknown name in alphabetical order
	} {
		res := f.do(httptest.NewRequest(tc.method, tc.target, nil))
		if message := wantError(t, res, http.StatusBadRequest, "INVALID_ARGUMENT"); !strings.Contains(message, tc.says) {
			t.Errorf("%s %s: the answer says %q, want %q in it", tc.method, tc.target, message, tc.says)
		}
	}
	if flushes+len(audits.calls) > 0 {
		t.Errorf("%d flushes, audits %q", flushes, audits.calls)
	}
}

func TestAPushRefusesWhatIsNearlyDryRunAndIgnoresOtherParameters(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"dryrun", "dry-run", "DRY_RUN", "Dry_Run", "dryRun", "dry.run", "dry%20run", "dry", "dry_runs", "dry_ru", "dyr_run", "dri_run", "drt_run", "try_run", "dry_run_only", "is_dry_run", "x-dry-run", "_dry_run", "dry_run%00",
	} {
		for _, target := range []string{"/push", "/push/raw"} {
			for _, query := range []string{name + "=1", name, "dry_run=1&" + name + "=0"} {
				f := newFixture(t)
				message := wantError(t, f.do(post(target+"?"+query, wrapped(record, "42", onTime))), http.StatusBadRequest, "INVALID_ARGUMENT")
				if !strings.Contains(message, "do you mean dry_run?") {
					t.Errorf("%s?%s: the answer says %q", target, query, message)
				}
				if n := len(f.ingest.submissions()); n != 0 {
					t.Errorf("%s?%s: %d messages were stored", target, query, n)
				}
			}
		}
	}
	for _, query := range []string{"", "token=x", "run=1", "run_id=7", "laundry=1", "utm_source=x&a=b&a=c", "key", "=", "country=de", "order=1", "thread=1"} {
		f := newFixture(t)
		wantOK(t, f.do(post("/push?"+query, wrapped(record, "42", onTime))))
		f.ingest.only(t)
	}
}
