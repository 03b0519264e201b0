package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/audit"
	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
	"github.com/tidemark-dev/tidemark/service"
)

func auditCommand(p process) *cobra.Command {
	var o auditOptions
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Compare the aggregate with the raw rows, and repair it",
		Long: `Compare each window's count in the aggregate with the raw rows, and print the
windows that differ as JSON: on the configured backend, or at a running server with
--url. Windows that are not yet due are left out.

A count that is lower than the raw rows say is either waiting, if the next flush will
write it, or lost. --repair writes the right counts of the windows whose count was
lost. A window that waits for longer than FLUSH_HOLD_MAX and five minutes counts as
lost: no flush comes, or flushes fail. A count that is higher cannot be repaired,
because counts never fall. Either raw rows are gone: restore them. Or the aggregate's
log has a row that tidemark did not write: delete the row by hand.

With --dry-run nothing is compared. The command says how many bytes an audit of that
range would read of BigQuery at most. BigQuery bills those, but at least 10 MB for
each of the two tables. With --from, an audit reads only what was stored since about
then.

Exits with 1 if windows differ, or still differ after the repair. Windows that wait
are no difference.`,
		Example: `  tidemark audit
  tidemark audit --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z
  tidemark audit --dry-run --from 2026-03-01T00:00:00Z
  tidemark audit --repair --url http://127.0.0.1:8080`,
		Args: arguments(cobra.NoArgs),
	}
	settings := settingsFlags(cmd, p, settingsOptions{})
	flags := cmd.Flags()
	flags.StringVar(&o.from, "from", "", "first start of a window to compare, as 2026-03-14T09:26:00Z (default the beginning)")
	flags.StringVar(&o.to, "to", "", "end of the starts to compare, itself not among them (default now)")
	flags.BoolVar(&o.repair, "repair", false, "write the counts that are too low")
	flags.BoolVar(&o.dryRun, "dry-run", false, "say what an audit would read, and read nothing")
	server := flags.String("url", "", "server to ask, as http://127.0.0.1:8080, instead of the configured backend; it is sent "+delivery.TokenVariable+", if set")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.repair && o.dryRun {
			return usageError{errors.New("want --repair or --dry-run, not both")}
		}
		from, to, err := parseSpan(o.from, o.to, time.Now().UTC())
		if err != nil {
			return usageError{err}
		}
		// ask runs an audit and sets report. Its result is what is printed.
		ask := func(report any, _ func(*service.Service) error) (answer any, err error) {
			return auditServer(cmd.Context(), *server, p.token(), o, report)
		}
		if *server == "" {
			s, err := settings()
			if err != nil {
				return err
			}
			ask = func(report any, run func(*service.Service) error) (any, error) {
				return report, withBackend(cmd.Context(), s, p, run)
			}
		}
		if o.dryRun {
			var estimate audit.Estimate
			answer, err := ask(&estimate, func(service *service.Service) (err error) {
				estimate, err = service.Auditor().Estimate(cmd.Context(), from, to)
				return err
			})
			if err != nil {
				return err
			}
			return printEstimate(p, answer, estimate)
		}
		var report audit.Report
		answer, err := ask(&report, func(service *service.Service) (err error) {
			run := service.Auditor().Run
			if o.repair {
				run = service.Auditor().Repair
			}
			report, err = run(cmd.Context(), from, to)
			return err
		})
		if err != nil {
			return err
		}
		return printAudit(p, answer, report)
	}
	return cmd
}

// auditOptions are the flags of audit that say what to do.
type auditOptions struct {
	from, to       string // empty if not given
	repair, dryRun bool
}

// auditServer asks a server for an audit, reads the answer into report, and returns the
// answer. If there is no --to, the audit ends at the time of the server's clock. The server
// names the count by its own pipeline file, so report may lack the counts.
func auditServer(ctx context.Context, server, token string, o auditOptions, report any) (json.RawMessage, error) {
	method := http.MethodGet
	if o.repair {
		method = http.MethodPost
	}
	query := url.Values{}
	if o.from != "" {
		query.Set("from", o.from)
	}
	if o.to != "" {
		query.Set("to", o.to)
	}
	if o.dryRun {
		query.Set("dry_run", "1")
	}
	answer, err := askServer(ctx, token, method, server, "/audit", query)
	if err != nil {
		return nil, withAnswer(err, answer)
	}
	// Something other than Tidemark may answer 200 too; its answer must not pass for a
	// report without differences. Nor may a report pass for an estimate: a server that
	// does not know dry_run has run the audit.
	var found struct {
		To    time.Time
		Bytes *int64 // of an estimate
		More  *bool  // of a report
	}
	readable := json.Unmarshal(answer, &found) == nil && !found.To.IsZero() && json.Unmarshal(answer, report) == nil
	switch {
	case o.dryRun && !(readable && found.Bytes != nil):
		return nil, fmt.Errorf("what %s answers is not the estimate of an audit; if it is an older tidemark, it may have run the audit", server)
	case !o.dryRun && !(readable && found.More != nil):
		return nil, fmt.Errorf("what %s answers is not the report of an audit", server)
	}
	return answer, nil
}

// printEstimate prints the answer as JSON on stdout, and one line in words on stderr.
func printEstimate(p process, answer any, e audit.Estimate) error {
	if err := printReport(p.stdout, answer); err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "an audit of windows from %s to %s would read at most %.3f GiB of BigQuery\n",
		event.FormatFrom(e.From), event.FormatTime(e.To), float64(e.Bytes)/(1<<30))
	return nil
}

// printAudit prints the answer as JSON on stdout, and one line in words on stderr.
func printAudit(p process, answer any, report audit.Report) error {
	if err := printReport(p.stdout, answer); err != nil {
		return err
	}
	fmt.Fprintln(p.stderr, auditSummary(report))
	if !report.Clean() {
		return errNo
	}
	return nil
}

func auditSummary(r audit.Report) string {
	var parts []string
	if n := len(r.Repaired); n > 0 {
		parts = append(parts, windowCount(n)+" repaired")
	}
	lower, higher := len(r.Lower), len(r.Higher)
	if lower > 0 {
		parts = append(parts, windowCount(lower)+" lower than the raw rows: run again with --repair")
	}
	if higher > 0 {
		parts = append(parts, windowCount(higher)+" higher than the raw rows, which no repair can correct: see tidemark audit --help")
	}
	if r.Clean() {
		parts = append(parts, fmt.Sprintf("no differences in windows from %s to %s", event.FormatFrom(r.From), event.FormatTime(r.To)))
	}
	if n := len(r.Waiting); n > 0 {
		parts = append(parts, windowCount(n)+" waiting for the next flush")
	}
	if r.More {
		parts = append(parts, "and there are more: narrow --from and --to to see them")
	}
	return strings.Join(parts, "; ")
}

func windowCount(n int) string {
	if n == 1 {
		return "1 window"
	}
	return fmt.Sprintf("%d windows", n)
}
