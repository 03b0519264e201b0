package handler

import "net/http"

// health answers without a look at storage. A probe must not restart an instance
// because storage is down, and must not wake storage that is idle.
func health(w http.ResponseWriter, _ *http.Request, _ *requestLine) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}
