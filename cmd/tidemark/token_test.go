package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

const secret = "eyJhbGciOiJSUzI1NiJ9.eyJlbWFpbCI6IiJ9.c2VjcmV0"

// runWithToken runs a command with a token in its environment.
func runWithToken(t *testing.T, token, stdin string, args ...string) (code int, said string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out bytes.Buffer
	code = run(ctx, args, process{
		stdin: strings.NewReader(stdin), stdout: &out, stderr: &out,
		lookup: func(name string) (string, bool) { return token, name == delivery.TokenVariable },
	})
	return code, out.String()
}

var tokenCommands = [][]string{
	{"flush"}, {"audit"}, {"audit", "--repair"},
	{"replay", "-", "--url"}, {"generate", "--count", "1", "--rate", "60000", "--url"},
}

// toServer adds the URL that is to be called to a command.
func toServer(command []string, url string) []string {
	if command[len(command)-1] == "--url" {
		return append(command[:len(command):len(command)], url+"/push")
	}
	return append(command[:len(command):len(command)], "--url", url)
}

func TestEveryCommandThatCallsAServerSendsTheToken(t *testing.T) {
	t.Parallel()
	for _, command := range tokenCommands {
		for _, token := range []string{secret, ""} {
			var mu sync.Mutex
			var seen []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, r.Header.Get("Authorization"))
				io.WriteString(w, `{"read_time":"2026-03-14T09:26:53Z","to":"2026-03-14T09:26:53Z","more":false}`)
			}))
			code, said := runWithToken(t, token, "{}\n", toServer(command, server.URL)...)
			server.Close()
			want := ""
			if token != "" {
				want = "Bearer " + token
			}
			if code != exitDone || len(seen) == 0 || slices.ContainsFunc(seen, func(sent string) bool { return sent != want }) {
				t.Errorf("%q: exit code %d, sent %q, want %q each time: %s", command, code, seen, want, said)
			}
		}
	}
}

func TestNoCommandSendsTheTokenInClear(t *testing.T) {
	t.Parallel()
	for _, command := range tokenCommands {
		code, said := runWithToken(t, secret, "{}\n", toServer(command, "http://tidemark.invalid")...)
		if code != exitUsage || !strings.Contains(said, delivery.TokenVariable) || strings.Contains(said, secret) {
			t.Errorf("%q: exit code %d: %s", command, code, said)
		}
	}
}

func TestATokenDoesNotFollowARedirect(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	for _, command := range [][]string{{"flush"}, {"audit"}, {"audit", "--repair"}} {
		if code, said := runWithToken(t, secret, "", toServer(command, server.URL)...); code != exitNo || !strings.Contains(said, "307") {
			t.Errorf("%q: exit code %d: %s", command, code, said)
		}
	}
}

func TestDevHasNoTokenToCallItselfWith(t *testing.T) {
	t.Parallel()
	code, _, log := runCommand(t, "dev", "--auth", "oidc", "--audience", "https://x", "--push-callers", "p@x", "--flush-callers", "f@x", "--data-dir", t.TempDir())
	if code != exitUsage || !strings.Contains(log, "AUTH=oidc: dev calls its own server") {
		t.Errorf("exit code %d: %s", code, log)
	}
}
