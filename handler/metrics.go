package handler

import "net/http"

// metrics answers the metrics, in one of Prometheus's formats.
func (h *Handler) metrics(w http.ResponseWriter, r *http.Request, _ *requestLine) error {
	h.cfg.Metrics.ServeHTTP(w, r)
	return nil
}
