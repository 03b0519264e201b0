package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAFlushOfAServerIsItsReportOrNone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status    int
		answer    string
		code      int
		out, says string
	}{
		"report":   {200, `{"read_time":"2026-03-14T09:26:53Z","held":1}`, exitDone, "{\n  \"read_time\": \"2026-03-14T09:26:53Z\",\n  \"held\": 1\n}\n", ""},
		"failures": {503, `{"read_time":"2026-03-14T09:26:53Z"}`, exitNo, "{\n  \"read_time\": \"2026-03-14T09:26:53Z\"\n}\n", "503"},
		"other":    {200, `{"status":"dead_letter"}`, exitNo, "", "not the report of a flush"},
		"page":     {200, `<html>`, exitNo, "", "not the report of a flush"},
		"error":    {403, `no entry`, exitNo, "", "403 Forbidden: no entry"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			io.WriteString(w, tc.answer)
		}))
		defer server.Close()
		code, out, log := runCommand(t, "flush", "--url", server.URL)
		if code != tc.code || out != tc.out || !strings.Contains(log, tc.says) {
			t.Errorf("%s: exit code %d, printed %q, said %q", name, code, out, log)
		}
	}
}
