package service_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// A service opens no connection before it needs one. So a new instance is ready at once,
// and requests that need no store are answered even if the stores cannot be reached.
func TestNothingIsDialledBeforeItIsNeeded(t *testing.T) {
	t.Parallel()
	flags := map[string]string{"backend": "gcp", "google-cloud-project": "my-project"}
	listeners := map[string]net.Listener{}
	for _, setting := range []string{"firestore-emulator-host", "bigquery-emulator-host", "bigquery-storage-emulator-host"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		listeners[setting], flags[setting] = listener, listener.Addr().String()
	}
	settings, err := settings.Load(flags, env())
	if err != nil {
		t.Fatal(err)
	}
	service, err := service.New(t.Context(), settings, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/health", nil),
		httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil),
		httptest.NewRequest(http.MethodPost, "/push?dry_run=1", strings.NewReader(`{"message": {"data": "e30=", "messageId": "1"}}`)),
	} {
		answer := httptest.NewRecorder()
		service.Handler().ServeHTTP(answer, r)
		if answer.Code != http.StatusOK {
			t.Errorf("%s %s: %d %s", r.Method, r.URL, answer.Code, answer.Body)
		}
	}
	if err := service.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	for setting, listener := range listeners {
		// A listener accepts connections in the order in which they were opened. If the
		// first is the test's own, the service had opened none.
		own, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close()
		first, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		if first.RemoteAddr().String() != own.LocalAddr().String() {
			t.Errorf("--%s was dialled", setting)
		}
	}
}
