package delivery_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

const secret = "eyJhbGciOiJSUzI1NiJ9.eyJlbWFpbCI6IiJ9.c2VjcmV0"

func TestATokenGoesOverTLSOrToThisMachine(t *testing.T) {
	t.Parallel()
	for url, good := range map[string]bool{
		"https://tidemark-abc123-uc.a.run.app/push": true,
		"https://10.0.0.1":                          true,
		"http://127.0.0.1:8080/push":                true,
		"http://127.8.9.10/push":                    true,
		"http://[::1]:8080":                         true,
		"http://localhost:8080":                     true,
		"http://tidemark-abc123-uc.a.run.app/push":  false,
		"http://10.0.0.1:8080":                      false,
		"http://localhost.example.com":              false,
		"http://localhost@example.com":              false,
		"http://0.0.0.0:8080":                       false,
		"http://169.254.169.254":                    false,
	} {
		err := delivery.CheckToken(url, secret)
		if (err == nil) != good || err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v; must it be accepted: %v", url, err, good)
		}
		if err := delivery.CheckToken(url, ""); err != nil {
			t.Errorf("%s without a token: %v", url, err)
		}
	}
	for _, bad := range []string{secret + "\n", secret + "\r\nX-Other: 1", " " + secret, secret + " x", secret + "ä"} {
		if err := delivery.CheckToken("https://x", bad); err == nil || !strings.Contains(err.Error(), delivery.TokenVariable) || strings.Contains(err.Error(), secret) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
}

func TestTheTokenIsSentWithEachBody(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", secret} {
		want := []string(nil)
		if token != "" {
			want = []string{"Bearer " + token}
		}
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got := r.Header.Values("Authorization"); strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("Authorization is %q, want %q", got, want)
			}
		}))
		defer server.Close()
		d := delivery.Deliverer{URL: server.URL, Token: token}
		if _, err := d.Deliver(t.Context(), []byte("{}")); err != nil {
			t.Error(err)
		}
	}
}

func TestATokenIsNotSentInClear(t *testing.T) {
	t.Parallel()
	d := delivery.Deliverer{URL: "http://192.0.2.1/push", Token: secret, Client: &http.Client{Transport: noTransport{t}}}
	if _, err := d.Deliver(t.Context(), []byte("{}")); err == nil || !strings.Contains(err.Error(), "unencrypted") {
		t.Errorf("error %v", err)
	}
}

type noTransport struct{ t *testing.T }

func (n noTransport) RoundTrip(*http.Request) (*http.Response, error) {
	n.t.Error("a request was sent")
	return nil, http.ErrHandlerTimeout
}
