package service_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// checkedToken returns a token as Cloud Run passes it on after checking it.
func checkedToken(email string) string {
	now := time.Now().Unix()
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256","kid":"1","typ":"JWT"}`)) + "." +
		encode(fmt.Appendf(nil, `{"iss":"https://accounts.google.com","sub":"1","aud":"https://x","email":%q,"email_verified":true,"iat":%d,"exp":%d}`, email, now, now+3600)) +
		".SIGNATURE_REMOVED_BY_GOOGLE"
}

// The settings decide who may call which route.
func TestTheSettingsSayWhoMayCall(t *testing.T) {
	t.Parallel()
	for _, method := range []struct {
		name string
		env  []string
		take bool // with a token that Cloud Run has checked
	}{
		{"iam", []string{"K_SERVICE", "tidemark"}, true},
		{"oidc", []string{"AUTH", "oidc"}, false},
		{"oidc on Cloud Run", []string{"K_SERVICE", "tidemark", "AUTH", "oidc"}, false},
	} {
		t.Run(method.name, func(t *testing.T) {
			t.Parallel()
			s, err := settings.Load(nil, env(append(method.env, "DATA_DIR", t.TempDir(), "BACKEND", "gcp", "GOOGLE_CLOUD_PROJECT", "my-project", "AUDIENCE", "https://x",
				"PUSH_CALLERS", "push@x", "FLUSH_CALLERS", "flush@x", "VIEW_CALLERS", "view@x")...))
			if err != nil {
				t.Fatal(err)
			}
			s.Backend = "local" // which Load refuses on Cloud Run
			running, err := service.New(t.Context(), s, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := running.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			for _, call := range []struct {
				route, by string
				code      int
			}{
				{"POST /push/raw", "push@x", 200}, {"POST /push/raw", "flush@x", 403}, {"POST /push/raw", "view@x", 403},
				{"POST /flush", "flush@x", 200}, {"POST /flush", "push@x", 403}, {"POST /flush", "view@x", 403},
				{"GET /audit", "view@x", 200}, {"GET /audit", "push@x", 403}, {"GET /audit", "flush@x", 403},
				{"GET /metrics", "view@x", 200}, {"GET /metrics", "push@x", 403}, {"GET /metrics", "flush@x", 403},
				{"POST /audit", "flush@x", 200}, {"POST /audit", "view@x", 403},
			} {
				verb, path, _ := strings.Cut(call.route, " ")
				r := httptest.NewRequest(verb, path, strings.NewReader("no event"))
				r.Header.Set("Authorization", "Bearer "+checkedToken(call.by))
				w := httptest.NewRecorder()
				running.Handler().ServeHTTP(w, r)
				want := call.code
				if !method.take {
					want = http.StatusUnauthorized
				}
				if w.Code != want {
					body, _ := io.ReadAll(w.Body)
					t.Errorf("%s by %s is answered %d, want %d: %s", call.route, call.by, w.Code, want, body)
				}
			}
		})
	}
}

// With AUTH=none, a request that reads is answered only if a setting says that its host
// name is this server's.
func TestTheSettingsSayWhichNamesRead(t *testing.T) {
	t.Parallel()
	s, err := settings.Load(nil, env("DATA_DIR", t.TempDir(), "HOST", "box.lan", "ALLOWED_HOSTS", "tidemark.internal, tidemark"))
	if err != nil {
		t.Fatal(err)
	}
	running, err := service.New(t.Context(), s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "box.lan:8080": 200, "tidemark.internal": 200, "tidemark:8080": 200, "rebound.example.com": 403,
	} {
		for _, path := range []string{"/audit", "/metrics"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			running.Handler().ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s of %s is answered %d, want %d", path, host, w.Code, want)
			}
		}
	}
}

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}
