package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/tidemark-dev/tidemark/audit"
	"github.com/tidemark-dev/tidemark/event"
)

// An AuditRunner compares the aggregate with the raw rows, for windows that start in
// [from, to). [audit.Auditor] is the implementation and has the contract.
type AuditRunner interface {
	Run(ctx context.Context, from, to time.Time) (audit.Report, error)
	Estimate(ctx context.Context, from, to time.Time) (audit.Estimate, error)
	Repair(ctx context.Context, from, to time.Time) (audit.Report, error)
}

// audit returns the endpoint that runs the given method and answers its report. The
// status is 200 even if windows differ, because the audit itself has not failed. With
// dry_run=1 the endpoint answers an estimate of the cost and does not run the method.
func (h *Handler) audit(method func(AuditRunner, context.Context, time.Time, time.Time) (audit.Report, error)) endpoint {
	return func(w http.ResponseWriter, r *http.Request, line *requestLine) error {
		query, err := parameters(r, "from", "to", dryRunParameter)
		if err != nil {
			return err
		}
		dryRun, err := dryRun(query)
		if err != nil {
			return err
		}
		from, to, err := auditRange(query, h.cfg.Now().UTC())
		if err != nil {
			return refuse(errInvalid, err)
		}
		if dryRun {
			estimate, err := h.cfg.Audit.Estimate(r.Context(), from, to)
			if err != nil {
				return h.auditError(r, err)
			}
			return writeJSON(w, http.StatusOK, estimate)
		}
		report, err := method(h.cfg.Audit, r.Context(), from, to)
		if err != nil {
			return h.auditError(r, err)
		}
		line.add(slog.Int("waiting", len(report.Waiting)), slog.Int("lower", len(report.Lower)), slog.Int("higher", len(report.Higher)), slog.Bool("more", report.More))
		if report.Repaired != nil {
			line.add(slog.Int("repaired", len(report.Repaired)))
		}
		switch {
		case !report.Clean():
			line.raise(slog.LevelWarn)
		case len(report.Waiting) > 0:
			line.raise(slog.LevelInfo)
		}
		return writeJSON(w, http.StatusOK, report)
	}
}

// auditRange reads the parameters from and to. If both are missing, the range is
// everything up to now.
func auditRange(query url.Values, now time.Time) (from, to time.Time, err error) {
	from, fromErr := timeParameter(query, "from", time.Time{})
	to, toErr := timeParameter(query, "to", now)
	if err := errors.Join(fromErr, toErr); err != nil {
		return from, to, err
	}
	if from.After(to) {
		return from, to, fmt.Errorf("from is %s, which is after to, %s", event.FormatTime(from), event.FormatTime(to))
	}
	return from, to, nil
}

func timeParameter(values url.Values, name string, absent time.Time) (time.Time, error) {
	given := values[name]
	switch len(given) {
	case 0:
		return absent, nil
	case 1:
		t, err := event.ParseTime(given[0])
		if err != nil {
			return t, fmt.Errorf("%s: %w (in a URL, + is written %%2B)", name, err)
		}
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%s is given %d times; want it once", name, len(given))
}

// auditError returns the refusal for a failed audit: storage failed, or the client did
// not wait.
func (h *Handler) auditError(r *http.Request, err error) error {
	if h.clientGone(r) {
		return refuse(errClientGone, err)
	}
	return refuse(errAudit, err)
}
