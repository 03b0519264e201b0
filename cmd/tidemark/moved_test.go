package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// If the data files are deleted or replaced while the server has them open, everything
// written to them is lost when the process ends. So nothing may be acknowledged then.
func TestNothingIsAcknowledgedIntoFilesThatAreGone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		harm func(dir string) error
		file string // the file that the refusal names
	}{
		"the tables are deleted":      {func(dir string) error { return os.Remove(filepath.Join(dir, "warehouse.db")) }, "warehouse.db"},
		"the counters are deleted":    {func(dir string) error { return os.Remove(filepath.Join(dir, "counters.db")) }, "counters.db"},
		"the directory is deleted":    {os.RemoveAll, "warehouse.db"},
		"another directory is put up": {func(dir string) error { return replaceDir(t, dir) }, "warehouse.db"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			s := startServer(t, dir, "--commit-interval", "0s")
			if code, body := post(t, s, 1); code != http.StatusOK {
				t.Fatalf("the first push: %d %s", code, body)
			}
			if err := test.harm(dir); err != nil {
				t.Fatal(err)
			}
			for n := range 2 { // n is 0 for a dead letter, and 1 for an event
				code, body := post(t, s, n)
				if code != http.StatusServiceUnavailable && !(n == 0 && test.file == "counters.db") {
					t.Errorf("push: %d %s; want it refused", code, body)
				}
				if code != http.StatusOK && !strings.Contains(body, test.file+" was deleted, moved or replaced") {
					t.Errorf("push: %s; want it to say what has happened to %s", body, test.file)
				}
			}
		})
	}
}

// replaceDir replaces the directory by one that another server created.
func replaceDir(t *testing.T, dir string) error {
	if err := os.Rename(dir, dir+".old"); err != nil {
		return err
	}
	other := startServer(t, dir)
	if code, body := post(t, other, 2); code != http.StatusOK {
		t.Errorf("the other server: %d %s", code, body)
	}
	return nil
}

// post pushes message n: an event, or a dead letter if n is 0.
func post(t *testing.T, s *server, n int) (code int, answer string) {
	t.Helper()
	event := `{"ip": "198.51.100.23", "user_id": "1", "timestamp": "2026-03-14T09:26:10Z", "http_request": "GET", "http_response": 200, "num_bytes": 287, "user_agent": "curl"}`
	if n == 0 {
		event = "no event"
	}
	body := fmt.Sprintf(`{"message": {"data": %q, "messageId": "%d", "publishTime": "2026-03-14T09:26:10Z"}}`, base64.StdEncoding.EncodeToString([]byte(event)), n)
	response, err := http.Post(s.url+"/push", "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}
