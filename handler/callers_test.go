package handler_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/callers"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/handler"
)

const serviceURL = "https://tidemark-abc123-uc.a.run.app"

func account(name string) string { return name + "@project.iam.gserviceaccount.com" }

// identity returns the first two parts of an account's token: header and claims.
func identity(email string) string {
	now := time.Now().Unix()
	header := `{"alg":"RS256","kid":"current","typ":"JWT"}`
	claims := fmt.Sprintf(`{"iss":"https://accounts.google.com","sub":"1","aud":%q,"email":%q,"email_verified":true,"iat":%d,"exp":%d}`, serviceURL, email, now, now+3600)
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
}

var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// googleSigned returns an account's token with a valid signature of the keys that
// googleKeys serves.
func googleSigned(email string) string {
	text := identity(email)
	hash := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, signingKey(), crypto.SHA256, hash[:])
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// googleChecked returns an account's token as Cloud Run passes it on after checking it.
func googleChecked(email string) string { return identity(email) + ".SIGNATURE_REMOVED_BY_GOOGLE" }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func googleKeys(*http.Request) (*http.Response, error) {
	key := signingKey().PublicKey
	body, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kid": "current",
		"n":   base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
		"e":   base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
	}}})
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(body)))}, err
}

// checkedBy changes the configuration so that the handler checks its callers. It counts
// the flushes that the handler starts.
func checkedBy(t *testing.T, method string, keys roundTrip, flushes *int) func(*handler.Config) {
	t.Helper()
	config := callers.Config{
		Audience: serviceURL,
		Accounts: map[callers.Role][]string{
			callers.Push:  {account("pusher")},
			callers.Flush: {account("flusher")},
			callers.View:  {account("viewer"), "person@example.com"},
		},
		Now: time.Now,
	}
	checker := callers.NewIAM(config)
	if method == "oidc" {
		var err error
		if checker, err = callers.NewOIDC(config, &http.Client{Transport: keys}); err != nil {
			t.Fatal(err)
		}
	}
	return func(c *handler.Config) {
		c.Callers = checker
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "{}") })
		c.Flush = func(context.Context) flush.Report {
			*flushes++
			return flush.Report{ReadTime: receipt}
		}
	}
}

// The table has every route and every caller, so it says completely who may call what.
func TestWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	routes := []struct{ method, target, body, who string }{
		{"POST", "/push", wrapped(record, "1", onTime), "pusher"},
		{"POST", "/push?dry_run=1", wrapped(record, "1", onTime), "pusher"},
		{"POST", "/push/raw", record, "pusher"},
		{"POST", "/flush", "", "flusher"},
		{"GET", "/audit", "", "viewer, person"},
		{"HEAD", "/audit", "", "viewer, person"},
		{"POST", "/audit", "", "flusher"},
		{"GET", "/metrics", "", "viewer, person"},
		{"HEAD", "/metrics", "", "viewer, person"},
		{"GET", "/health", "", "pusher, flusher, viewer, person, stranger, nobody"},
		{"HEAD", "/health", "", "pusher, flusher, viewer, person, stranger, nobody"},
	}
	senders := map[string]string{
		"pusher": account("pusher"), "flusher": account("flusher"), "viewer": account("viewer"),
		"stranger": account("stranger"), "person": "person@example.com", "nobody": "",
	}
	for method, token := range map[string]func(email string) string{"iam": googleChecked, "oidc": googleSigned} {
		for _, route := range routes {
			for sender, email := range senders {
				flushes, audits := 0, &fakeAudit{}
				f := newFixture(t, checkedBy(t, method, googleKeys, &flushes), func(c *handler.Config) { c.Audit = audits })
				r := httptest.NewRequest(route.method, route.target, strings.NewReader(route.body))
				if email != "" {
					r.Header.Set("Authorization", "Bearer "+token(email))
				}
				want := http.StatusForbidden
				switch {
				case strings.Contains(route.who, sender):
					want = http.StatusOK
				case email == "":
					want = http.StatusUnauthorized
				}
				res := f.do(r)
				if res.StatusCode != want {
					t.Errorf("%s: %s %s by %s is answered %d, want %d", method, route.method, route.target, sender, res.StatusCode, want)
				}
				if want != http.StatusOK && len(f.ingest.submissions())+flushes+len(audits.calls) > 0 {
					t.Errorf("%s: %s %s by %s was refused, but was done", method, route.method, route.target, sender)
				}
				line := f.lastLine(t)
				if got, _ := line["caller"].(string); route.target != "/health" && got != email {
					t.Errorf("%s: %s %s by %s is logged as the call of %q", method, route.method, route.target, sender, got)
				}
			}
		}
	}
}

// A route to which nobody has given a role must be open to nobody.
func TestNoRouteIsOpenByOversight(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *handler.Config) { c.Callers = refuseAll{} })
	for _, route := range f.Routes() {
		res := f.do(httptest.NewRequest(route.Method, route.Path, nil))
		if route.Path != "/health" && res.StatusCode != http.StatusForbidden {
			t.Errorf("%s %s is answered %d, want 403", route.Method, route.Path, res.StatusCode)
		}
	}
	if n := len(f.Routes()); n < 9 {
		t.Errorf("only %d routes were looked at", n)
	}
}

type refuseAll struct{}

func (refuseAll) Check(_ *http.Request, role callers.Role) (string, error) {
	return "", &callers.ForbiddenError{Role: role}
}

func TestARefusalHelpsTheOwner(t *testing.T) {
	t.Parallel()
	flushes := 0
	f := newFixture(t, checkedBy(t, "oidc", googleKeys, &flushes))
	for _, tc := range []struct {
		token     string
		code      int
		status    string
		challenge string
		says      []string
	}{
		{"", 401, "UNAUTHENTICATED", "Bearer", []string{"no token", "Authorization: Bearer"}},
		{googleChecked(account("pusher")), 401, "UNAUTHENTICATED", `Bearer error="invalid_token"`, []string{"AUTH=iam"}},
		{googleSigned(account("flusher")), 403, "PERMISSION_DENIED", "", []string{account("flusher"), "PUSH_CALLERS"}},
	} {
		r := post("/push", wrapped(record, "1", onTime))
		if tc.token != "" {
			r.Header.Set("Authorization", "Bearer "+tc.token)
		}
		res := f.do(r)
		message := wantError(t, res, tc.code, tc.status)
		if got := res.Header.Get("WWW-Authenticate"); got != tc.challenge {
			t.Errorf("WWW-Authenticate is %q, want %q", got, tc.challenge)
		}
		line := f.lastLine(t)
		for _, says := range tc.says {
			if !strings.Contains(message, says) {
				t.Errorf("the answer says %q, which lacks %q", message, says)
			}
		}
		if line["level"] != "WARN" || line["error"] != message {
			t.Errorf("the log line is %v, want a warning with %q", line, message)
		}
	}
}

func TestNoTokenIsLogged(t *testing.T) {
	t.Parallel()
	flushes := 0
	f := newFixture(t, checkedBy(t, "oidc", googleKeys, &flushes))
	good := googleSigned(account("pusher"))
	for _, token := range []string{good, good + "x", good + ".x", googleSigned(account("stranger")), strings.Repeat(good, 20)} {
		f.do(post("/push", wrapped(record, "1", onTime), "Authorization", "Bearer "+token))
		f.do(post("/push/raw", "no event", "Authorization", "Bearer "+token))
	}
	logs := f.logs.String()
	for part := range strings.SplitSeq(good, ".") {
		if strings.Contains(logs, part) {
			t.Errorf("the log contains a part of a token:\n%s", logs)
		}
	}
	for _, s := range f.ingest.submissions() {
		for name := range s.Message.Attributes {
			if strings.EqualFold(name, "authorization") {
				t.Error("a token was stored")
			}
		}
	}
}

// With AUTH=iam, if a request comes that Cloud Run has not checked, then the service is
// open to anyone. Only the owner must learn this, from the log. The caller must not,
// since at such a service anyone can forge claims.
func TestOnlyTheOwnerLearnsThatTheServiceIsOpen(t *testing.T) {
	t.Parallel()
	flushes := 0
	f := newFixture(t, checkedBy(t, "iam", nil, &flushes))
	for _, authorization := range []string{"", "Bearer " + googleSigned(account("flusher"))} {
		r := post("/flush", "")
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		res := f.do(r)
		if message := wantError(t, res, 401, "UNAUTHENTICATED"); message != "it is not known who sent this; the log says why" {
			t.Errorf("the answer says %q", message)
		}
		if !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("WWW-Authenticate is %q", res.Header.Get("WWW-Authenticate"))
		}
		if line := f.lastLine(t); line["level"] != "ERROR" || !strings.Contains(fmt.Sprint(line["error"]), "allUsers") {
			t.Errorf("the log line is %v, want an error that says which permission to remove", line)
		}
	}
	if flushes > 0 {
		t.Errorf("%d flushes", flushes)
	}
}

// A page of another site that is open in the owner's browser must not act as the owner.
// This holds for every CallerChecker.
func TestNoRouteTakesAForeignPage(t *testing.T) {
	t.Parallel()
	flushes, audits := 0, &fakeAudit{}
	f := newFixture(t, func(c *handler.Config) {
		c.Callers = takeAll{}
		c.Audit = audits
		c.Flush = func(context.Context) flush.Report { flushes++; return flush.Report{} }
		c.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("metrics were served") })
	})
	for _, route := range f.Routes() {
		if route.Path == "/health" {
			continue
		}
		for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://foreign.example"}} {
			r := httptest.NewRequest(route.Method, route.Path, strings.NewReader(record))
			r.Header.Set(headers[0], headers[1])
			if res := f.do(r); res.StatusCode != http.StatusForbidden {
				t.Errorf("%s %s with %q is answered %d, want 403", route.Method, route.Path, headers, res.StatusCode)
			}
		}
	}
	wantError(t, f.do(post("/push/raw?dry_run=1", record, "Sec-Fetch-Site", "cross-site")), 403, "PERMISSION_DENIED")
	if n := len(f.ingest.submissions()) + flushes + len(audits.calls); n > 0 {
		t.Errorf("%d requests were done", n)
	}
}

type takeAll struct{}

func (takeAll) Check(*http.Request, callers.Role) (string, error) { return "", nil }

// Without checks of callers, a page whose name points to this machine (DNS rebinding)
// must read nothing. A container may have a name of its own for this machine, and may
// push and flush by that name.
func TestAReboundNameReadsNothing(t *testing.T) {
	t.Parallel()
	flushes, audits := 0, &fakeAudit{}
	f := newFixture(t, func(c *handler.Config) {
		c.Callers = callers.Anyone{}
		c.Audit = audits
		c.Flush = func(context.Context) flush.Report { flushes++; return flush.Report{} }
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "{}") })
	})
	on := func(host string, r *http.Request) *http.Response {
		r.Host = host
		return f.do(r)
	}
	for _, path := range []string{"/audit", "/audit?dry_run=1", "/metrics"} {
		message := wantError(t, on("rebound.example.com", httptest.NewRequest(http.MethodGet, path, nil)), 403, "PERMISSION_DENIED")
		if !strings.Contains(message, "ALLOWED_HOSTS") || !strings.Contains(message, "rebound.example.com") {
			t.Errorf("the answer says %q", message)
		}
	}
	if len(audits.calls) > 0 {
		t.Errorf("%d audits", len(audits.calls))
	}
	for _, host := range []string{"127.0.0.1:8080", "localhost:8080"} {
		wantOK(t, on(host, httptest.NewRequest(http.MethodGet, "/audit", nil)))
	}
	wantOK(t, on("host.docker.internal:8080", post("/push", wrapped(record, "1", onTime))))
	wantOK(t, on("host.docker.internal:8080", post("/flush", "")))
}

// With any spelling of the path and any method, nobody can do more than he may. Each
// request is written to a connection of its own, since HTTP clients correct what they
// send.
func TestNoSpellingOfAPathGetsAroundTheChecks(t *testing.T) {
	t.Parallel()
	flushes, audits := 0, &fakeAudit{}
	f := newFixture(t, checkedBy(t, "oidc", googleKeys, &flushes), func(c *handler.Config) { c.Audit = audits })
	server := httptest.NewUnstartedServer(f)
	server.Config.DisableGeneralOptionsHandler = true // service.Service sets this too
	server.Start()
	defer server.Close()
	targets := []string{
		"*", "//", "//flush", "/flush/", "/./flush", "/push/../flush", "/push/raw/../../flush", "/push/%2e%2e/flush", "/push%2f..%2fflush",
		"/%66lush", "/flush%00", "/flush%20", "/flush;x=1", "/flush?x", "/flush#x", "/Flush", "/FLUSH", "/flush.json", `/push\..\flush`,
		"http://127.0.0.1/flush", "http://127.0.0.1//flush", "/health/../flush", "/health/flush", "/health?path=/flush",
		"/flush", "/audit", "/audit/", "//audit", "/%61udit", "/metrics", "/metrics/", "//metrics", "/metrics/../audit", "/", "/api", "/api/windows",
	}
	for _, token := range []string{"", googleSigned(account("pusher")), googleChecked(account("flusher"))} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "FLUSH"} {
			for _, target := range targets {
				connection, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(connection, "%s %s HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: POST\r\nX-Original-URL: /flush\r\nConnection: close\r\nContent-Length: 0\r\n", method, target)
				if token != "" {
					fmt.Fprintf(connection, "Authorization: Bearer %s\r\n", token)
				}
				io.WriteString(connection, "\r\n")
				res, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
				if err != nil {
					t.Fatalf("%s %s: %v", method, target, err)
				}
				health := strings.HasPrefix(target, "/health?") && (method == "GET" || method == "HEAD")
				if health != (res.StatusCode < 400) {
					t.Errorf("%s %s is answered %d", method, target, res.StatusCode)
				}
				res.Body.Close()
				connection.Close()
			}
		}
	}
	if n := flushes + len(audits.calls) + len(f.ingest.submissions()); n > 0 {
		t.Errorf("%d requests were done", n)
	}
}

// The answer must not be 401, which would say that the token is bad: without the keys
// nobody knows that.
func TestWithoutGooglesKeysAPushComesAgain(t *testing.T) {
	t.Parallel()
	flushes := 0
	f := newFixture(t, checkedBy(t, "oidc", func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, &flushes))
	message := wantError(t, f.do(post("/push", wrapped(record, "1", onTime), "Authorization", "Bearer "+googleSigned(account("pusher")))),
		http.StatusServiceUnavailable, "UNAVAILABLE")
	if !strings.Contains(message, "Google's public keys") {
		t.Errorf("the answer says %q", message)
	}
	if line := f.lastLine(t); line["level"] != "WARN" || !strings.Contains(fmt.Sprint(line["error"]), "connection refused") {
		t.Errorf("the log line is %v, want a warning with the cause", line)
	}
	if n := len(f.ingest.submissions()); n != 0 {
		t.Errorf("%d messages were stored", n)
	}
}

// A caller who may not push must not be able to make the server read a body.
func TestTheBodyOfAStrangerIsNotRead(t *testing.T) {
	t.Parallel()
	flushes := 0
	f := newFixture(t, checkedBy(t, "iam", nil, &flushes))
	body := &readCounter{}
	r := httptest.NewRequest(http.MethodPost, "/push", body)
	r.Header.Set("Authorization", "Bearer "+googleChecked(account("stranger")))
	wantError(t, f.do(r), http.StatusForbidden, "PERMISSION_DENIED")
	if body.reads > 0 {
		t.Errorf("%d reads", body.reads)
	}
}

type readCounter struct{ reads int }

func (c *readCounter) Read([]byte) (int, error) {
	c.reads++
	return 0, io.EOF
}
