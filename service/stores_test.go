package service

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/memfirestore"
	"github.com/tidemark-dev/tidemark/settings"
)

// Stored rows are personal data, so other users of the machine must not be able to read
// them.
func TestTheDataDirectoryIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	for name, create := range map[string]func(settings.Settings) error{
		"by a server": func(s settings.Settings) error {
			unlock, err := Lock(s)
			if err != nil {
				return err
			}
			return unlock()
		},
		"by a function": func(s settings.Settings) error {
			service, err := New(t.Context(), s, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			return service.Close(t.Context())
		},
	} {
		dir := filepath.Join(t.TempDir(), "new", "data")
		if err := create(settingsOf(t, map[string]string{"DATA_DIR": dir})); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o700 {
			t.Errorf("%s the directory is created %v, want -rwx------", name, mode)
		}
	}
}

// On one machine, another data directory is the simplest way to start with nothing. The
// error must say so.
func TestAnotherWindowOnOneMachineIsToldOfAnotherDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(window string) error {
		service, err := New(t.Context(), settingsOf(t, map[string]string{"DATA_DIR": dir, "WINDOW_DURATION": window}), slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		answer := httptest.NewRecorder()
		service.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/push/raw", strings.NewReader(
			`{"ip": "", "user_id": "", "timestamp": "2026-03-14T09:26:53Z", "http_request": "", "http_response": 1, "num_bytes": 1, "user_agent": ""}`)))
		if answer.Code != http.StatusOK {
			t.Errorf("push: %d %s", answer.Code, answer.Body)
		}
		return service.Close(context.WithoutCancel(t.Context()))
	}
	if err := open("60s"); err != nil {
		t.Fatal(err)
	}
	err := open("10s")
	if err == nil {
		t.Fatal("windows of 10s and of 60s are mixed")
	}
	for _, part := range []string{"WINDOW_DURATION is 60s on record and 10s in this process", "use another DATA_DIR", "PIPELINE"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q lacks %q", err, part)
		}
	}
}

// A query that a person waits for may take minutes. A query of a flush may take no longer
// than the flush.
func TestOnlyQueriesOfAServiceAreBoundByTheFlushTimeout(t *testing.T) {
	t.Parallel()
	var bound time.Duration // the time limit of the last query
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var job struct {
			Configuration struct{ JobTimeoutMs string }
		}
		_ = json.NewDecoder(r.Body).Decode(&job)
		ms, err := strconv.Atoi(job.Configuration.JobTimeoutMs)
		if err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		bound = time.Duration(ms) * time.Millisecond
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer server.Close()
	settings := settingsOf(t, map[string]string{
		"BACKEND": "gcp", "GOOGLE_CLOUD_PROJECT": "my-project", "RAW_METHOD": "insert_all",
		"FIRESTORE_EMULATOR_HOST": memfirestore.New(time.Now).Start(t), "BIGQUERY_EMULATOR_HOST": strings.TrimPrefix(server.URL, "http://"), "FLUSH_TIMEOUT": "20s",
	})

	tables, err := OpenWarehouse(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	for _, err := range tables.RawRows(t.Context(), time.Time{}, time.Time{}) {
		if err == nil {
			t.Error("the query returned rows, want an error")
		}
	}
	if bound <= settings.FlushTimeout {
		t.Errorf("a command's query is bound to %v, want more than FLUSH_TIMEOUT", bound)
	}

	service, err := New(t.Context(), settings, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close(context.WithoutCancel(t.Context()))
	if _, err := service.warehouse.CountRaw(t.Context(), []time.Time{time.Unix(0, 0)}); err == nil {
		t.Error("the query returned counts, want an error")
	}
	if bound <= 0 || bound > settings.FlushTimeout {
		t.Errorf("a service's query is bound to %v, want FLUSH_TIMEOUT at most", bound)
	}

	over, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	if _, err := service.warehouse.CountRaw(over, []time.Time{time.Unix(0, 0)}); err == nil || !strings.Contains(err.Error(), "FLUSH_TIMEOUT=20s") {
		t.Errorf("a query that takes too long: %v, want it to name FLUSH_TIMEOUT", err)
	}
}

// settingsOf returns settings as the environment gives them.
func settingsOf(t *testing.T, environment map[string]string) settings.Settings {
	t.Helper()
	s, err := settings.Load(nil, func(name string) (string, bool) { value, ok := environment[name]; return value, ok })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Reading a large window may take longer than a write of a push.
func TestTheReadOfAWindowMayTakeAsLongAsAFlush(t *testing.T) {
	t.Parallel()
	if config := FirestoreConfig(settings.Settings{FlushTimeout: 45 * time.Second}); config.CountTimeout != 45*time.Second || config.CallTimeout != settings.StepTimeout {
		t.Errorf("%+v", config)
	}
}

// BigQuery's clients retry until their time is over, so an append must have a time limit.
func TestAnAppendToBigQueryTakesNoLongerThanAStep(t *testing.T) {
	t.Parallel()
	if config := BigQueryConfig(settings.Settings{}); config.AppendTimeout != settings.StepTimeout {
		t.Errorf("an append may take %v, want %v", config.AppendTimeout, settings.StepTimeout)
	}
}
