package handler

import (
	"log/slog"
	"net/http"
)

// flush runs a flush and answers its report. The report says what failed.
func (h *Handler) flush(w http.ResponseWriter, r *http.Request, line *requestLine) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	report := h.cfg.Flush(r.Context())
	line.add(slog.Int("windows", len(report.Windows)), slog.Int("held", report.Held), slog.Int("remaining", report.Remaining))
	code := http.StatusOK
	if len(report.Errors) > 0 {
		line.add(slog.Int("failures", len(report.Errors)), slog.String("error", clip(report.Errors[0].Error(), maxLogged)))
		setRetryAfter(w)
		code = http.StatusServiceUnavailable
	}
	return writeJSON(w, code, report)
}
