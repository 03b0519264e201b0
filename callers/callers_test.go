package callers_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-dev/tidemark/callers"
)

const (
	audience = "https://tidemark-abc123-uc.a.run.app"
	pusher   = "pusher@project.iam.gserviceaccount.com"
	flusher  = "flusher@project.iam.gserviceaccount.com"
	viewer   = "viewer@project.iam.gserviceaccount.com"
	both     = "both@project.iam.gserviceaccount.com"
	removed  = "SIGNATURE_REMOVED_BY_GOOGLE"
)

var config = callers.Config{
	Audience: audience,
	Accounts: map[callers.Role][]string{callers.Push: {both, pusher}, callers.Flush: {flusher, both}, callers.View: {viewer}},
	Now:      time.Now,
}

// Each key is created only once, since this takes a good part of a second.
var (
	googleKey = sync.OnceValue(newKey)
	otherKey  = sync.OnceValue(newKey)
)

func newKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

// claims returns the claims of a good token issued now, with changes. A claim whose value
// is nil is removed.
func claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	all := map[string]any{
		"iss": "https://accounts.google.com", "aud": audience, "azp": "113774264463038321964", "sub": "113774264463038321964",
		"email": pusher, "email_verified": true, "iat": now, "exp": now + 3600,
	}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return all
}

func encode(part any) string {
	text, err := json.Marshal(part)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// unsigned returns a token without its third part, the signature.
func unsigned(header, claims any) string { return encode(header) + "." + encode(claims) + "." }

var rs256 = map[string]any{"alg": "RS256", "kid": "current", "typ": "JWT"}

// checked returns a token as Cloud Run passes it on after checking it.
func checked(claims map[string]any) string { return unsigned(rs256, claims) + removed }

// signed returns a token signed as Google signs it.
func signed(key *rsa.PrivateKey, header, claims any) string {
	text := encode(header) + "." + encode(claims)
	hash := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, hash[:])
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// google is an HTTP transport that answers with Google's public keys.
type google struct {
	fetched atomic.Int32
	down    atomic.Bool
	answer  func(*http.Request) (*http.Response, error) // replaces the usual answer if set
	maxAge  time.Duration
	key     atomic.Pointer[rsa.PrivateKey] // its id is "current"
}

func newGoogle() *google {
	g := &google{maxAge: time.Hour}
	g.key.Store(googleKey())
	return g
}

func (g *google) RoundTrip(r *http.Request) (*http.Response, error) {
	g.fetched.Add(1)
	if g.down.Load() {
		return nil, errors.New("connection refused")
	}
	if g.answer != nil {
		return g.answer(r)
	}
	if r.URL.String() != "https://www.googleapis.com/oauth2/v3/certs" {
		return nil, fmt.Errorf("there is nothing at %s", r.URL)
	}
	public := g.key.Load().PublicKey
	body, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kid": "current", "kty": "RSA", "alg": "RS256", "use": "sig",
		"n": base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
	}}})
	if err != nil {
		return nil, err
	}
	header := http.Header{"Cache-Control": {fmt.Sprintf("public, max-age=%d, must-revalidate", int(g.maxAge.Seconds()))}}
	return respond(http.StatusOK, header, string(body)), nil
}

func respond(status int, header http.Header, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: header, Body: io.NopCloser(strings.NewReader(body))}
}

func newOIDC(t testing.TB, g *google) *callers.Checker {
	t.Helper()
	c, err := callers.NewOIDC(config, &http.Client{Transport: g})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// request returns a request with headers, which are given as name, value, name, value.
func request(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/push", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func with(token string) *http.Request { return request("Authorization", "Bearer "+token) }

// wantUnauthenticated checks that the request is refused, that the error contains the
// text says, and that it does not quote the token.
func wantUnauthenticated(t *testing.T, c *callers.Checker, r *http.Request, says string) {
	t.Helper()
	caller, err := c.Check(r, callers.Push)
	refused, ok := errors.AsType[*callers.UnauthenticatedError](err)
	if !ok || refused.NoToken != strings.Contains(says, "no token") || refused.Unchecked != strings.Contains(err.Error(), "as if anyone may invoke") || caller != "" || !strings.Contains(err.Error(), says) {
		t.Errorf("caller %q, error %v; want no caller, and an error with %q", caller, err, says)
		return
	}
	for _, name := range []string{"Authorization", "X-Serverless-Authorization"} {
		for _, value := range r.Header.Values(name) {
			for part := range strings.SplitSeq(strings.TrimPrefix(value, "Bearer "), ".") {
				if len(part) > 20 && part != removed && strings.Contains(err.Error(), part) {
					t.Errorf("the error quotes the token: %v", err)
				}
			}
		}
	}
}

func TestTheListOfARoleDecidesWhoMayCall(t *testing.T) {
	t.Parallel()
	iam, oidc := callers.NewIAM(config), newOIDC(t, newGoogle())
	for email, roles := range map[string][]callers.Role{
		pusher: {callers.Push}, flusher: {callers.Flush}, viewer: {callers.View}, both: {callers.Push, callers.Flush},
		"stranger@project.iam.gserviceaccount.com": nil,
		strings.ToUpper(pusher):                    nil,
		pusher + ".example.com":                    nil,
		"x" + pusher:                               nil,
		pusher + ".":                               nil,
		pusher + "\u200b":                          nil,
		" " + pusher:                               nil,
		pusher + "\x00":                            nil,
		strings.Replace(pusher, "s", "\u017f", 1):  nil, // this letter becomes s if case is ignored
		strings.Replace(pusher, "e", "\u0435", 1):  nil, // this letter looks like e
		strings.Replace(pusher, "@", "+x@", 1):     nil,
		strings.Join([]string{both, pusher}, ","):  nil,
	} {
		for _, role := range []callers.Role{callers.Push, callers.Flush, callers.View} {
			claims := claims(map[string]any{"email": email})
			for name, check := range map[string]func() (string, error){
				"iam":  func() (string, error) { return iam.Check(with(checked(claims)), role) },
				"oidc": func() (string, error) { return oidc.Check(with(signed(googleKey(), rs256, claims)), role) },
			} {
				caller, err := check()
				allowed := false
				for _, r := range roles {
					allowed = allowed || r == role
				}
				if _, forbidden := errors.AsType[*callers.ForbiddenError](err); caller != email || (err == nil) != allowed || (err != nil) != forbidden {
					t.Errorf("%s: %s to %s: caller %q, error %v; want allowed %v", name, email, role, caller, err, allowed)
				}
				for other := range maps.Keys(map[string]int{pusher: 1, flusher: 1, viewer: 1, both: 1}) {
					if err != nil && strings.Contains(err.Error(), other) && !strings.Contains(email, other) {
						t.Errorf("%s: the error for %s names another account: %v", name, email, err)
					}
				}
				if err != nil && (!strings.Contains(err.Error(), strings.Trim(strconv.Quote(email), `"`)) || !strings.Contains(err.Error(), role.Setting())) {
					t.Errorf("%s: the error does not name both %s and %s: %v", name, email, role.Setting(), err)
				}
			}
		}
	}
}

func TestAnEmptyListAllowsNobody(t *testing.T) {
	t.Parallel()
	c := callers.NewIAM(callers.Config{Audience: audience, Now: time.Now})
	if caller, err := c.Check(with(checked(claims(nil))), callers.View); err == nil {
		t.Errorf("%s may view, and must not", caller)
	}
}

// Each case has one claim changed, mostly to a wrong value.
func TestClaimsAreChecked(t *testing.T) {
	t.Parallel()
	iam, oidc := callers.NewIAM(config), newOIDC(t, newGoogle())
	now := time.Now().Unix()
	for name, tc := range map[string]struct {
		changes map[string]any
		says    string // empty if the token is good
	}{
		"good":                         {nil, ""},
		"issuer without scheme":        {map[string]any{"iss": "accounts.google.com"}, ""},
		"not before, past":             {map[string]any{"nbf": now - 60}, ""},
		"clock ahead of ours":          {map[string]any{"iat": now + 30}, ""},
		"no issuer":                    {map[string]any{"iss": nil}, "iss"},
		"other issuer":                 {map[string]any{"iss": "https://accounts.google.com.example.com"}, "issuer"},
		"plain http issuer":            {map[string]any{"iss": "http://accounts.google.com"}, "issuer"},
		"Firebase's issuer":            {map[string]any{"iss": "https://securetoken.google.com/project"}, "issuer"},
		"a service account as issuer":  {map[string]any{"iss": pusher}, "issuer"},
		"no audience":                  {map[string]any{"aud": nil}, "aud"},
		"empty audience":               {map[string]any{"aud": ""}, "aud"},
		"other audience":               {map[string]any{"aud": "https://elsewhere.a.run.app"}, `"https://elsewhere.a.run.app"; want "` + audience + `"`},
		"audience and a path":          {map[string]any{"aud": audience + "/push"}, "AUDIENCE"},
		"audience and a slash":         {map[string]any{"aud": audience + "/"}, "AUDIENCE"},
		"audience in capitals":         {map[string]any{"aud": strings.ToUpper(audience)}, "AUDIENCE"},
		"a user's own token":           {map[string]any{"aud": "32555940559.apps.googleusercontent.com"}, "--impersonate-service-account"},
		"no subject":                   {map[string]any{"sub": nil}, "sub"},
		"empty subject":                {map[string]any{"sub": ""}, "sub"},
		"subject as a number":          {map[string]any{"sub": 113774264463038321}, "sub"},
		"no e-mail address":            {map[string]any{"email": nil}, "--include-email"},
		"e-mail addresses":             {map[string]any{"email": []string{pusher}}, "email"},
		"empty e-mail address":         {map[string]any{"email": ""}, "email"},
		"address not verified":         {map[string]any{"email_verified": false}, "not verified"},
		"address verified, as a text":  {map[string]any{"email_verified": "true"}, "not verified"},
		"address verified, as a one":   {map[string]any{"email_verified": 1}, "not verified"},
		"nothing said of verification": {map[string]any{"email_verified": nil}, "not verified"},
		"keys in another case":         {map[string]any{"email": nil, "Email": pusher}, "email"},
		"no end":                       {map[string]any{"exp": nil}, "exp"},
		"no beginning":                 {map[string]any{"iat": nil}, "iat"},
		"begins as a text":             {map[string]any{"iat": fmt.Sprint(now)}, "iat"},
		"begins in the future":         {map[string]any{"iat": now + 120}, "clock of this server"},
		"not before, in the future":    {map[string]any{"nbf": now + 120}, "clock of this server"},
		"not before, as a text":        {map[string]any{"nbf": "now"}, "nbf"},
		"expired":                      {map[string]any{"exp": now - 120}, "expired"},
		"ends before the epoch":        {map[string]any{"exp": -now}, "exp"},
	} {
		for method, send := range map[string]struct {
			checker *callers.Checker
			token   string
		}{
			"iam":  {iam, checked(claims(tc.changes))},
			"oidc": {oidc, signed(googleKey(), rs256, claims(tc.changes))},
		} {
			t.Run(method+"/"+name, func(t *testing.T) {
				if tc.says != "" {
					wantUnauthenticated(t, send.checker, with(send.token), tc.says)
				} else if caller, err := send.checker.Check(with(send.token), callers.Push); err != nil || caller != pusher {
					t.Errorf("caller %q, error %v", caller, err)
				}
			})
		}
	}
	// These claims are given as text, since encoding them with Go would change them.
	some := `{"iss":"accounts.google.com","sub":"1","email":"` + pusher + `","email_verified":true,`
	for name, claims := range map[string]string{
		"audience in a list":  some + `"aud":["` + audience + `"],"iat":1,"exp":99999999999}`,
		"end overflows":       some + `"aud":"` + audience + `","iat":1,"exp":9223372036854775807}`,
		"beginning overflows": some + `"aud":"` + audience + `","iat":9223372036854775807,"exp":99999999999}`,
		"end is a fraction":   some + `"aud":"` + audience + `","iat":1,"exp":99999999999.5}`,
		"two addresses":       some + `"aud":"` + audience + `","iat":1,"exp":99999999999,"email":null}`,
		"no object":           `["` + pusher + `"]`,
		"null":                `null`,
		"two values":          `{} {}`,
	} {
		for _, c := range []*callers.Checker{iam, oidc} {
			t.Run(name, func(t *testing.T) {
				token := encode(rs256) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "."
				if c == iam {
					token += removed
				} else {
					hash := sha256.Sum256([]byte(strings.TrimSuffix(token, ".")))
					signature, err := rsa.SignPKCS1v15(rand.Reader, googleKey(), crypto.SHA256, hash[:])
					if err != nil {
						t.Fatal(err)
					}
					token += base64.RawURLEncoding.EncodeToString(signature)
				}
				wantUnauthenticated(t, c, with(token), "the token")
			})
		}
	}
}

func TestATokenIsGoodForAMinuteAfterItsEndWhereCloudRunHasCheckedIt(t *testing.T) {
	t.Parallel()
	iam := callers.NewIAM(config)
	synctest.Test(t, func(t *testing.T) {
		token := checked(claims(nil))
		time.Sleep(time.Hour + time.Minute)
		if _, err := iam.Check(with(token), callers.Push); err != nil {
			t.Errorf("a minute after the token's end it must still be good: %v", err)
		}
		time.Sleep(time.Nanosecond)
		wantUnauthenticated(t, iam, with(token), "expired")
	})
}

// The library that verifies signatures does not allow for clocks that differ.
func TestATokenIsNotGoodAfterItsEndWhereItIsVerified(t *testing.T) {
	t.Parallel()
	g := newGoogle()
	synctest.Test(t, func(t *testing.T) {
		c := newOIDC(t, g)
		token := signed(googleKey(), rs256, claims(nil))
		time.Sleep(time.Hour)
		if _, err := c.Check(with(token), callers.Push); err != nil {
			t.Errorf("at the token's end it must still be good: %v", err)
		}
		time.Sleep(time.Second)
		wantUnauthenticated(t, c, with(token), "expired")
	})
}

func TestTheHeaderIsReadStrictly(t *testing.T) {
	t.Parallel()
	iam, oidc := callers.NewIAM(config), newOIDC(t, newGoogle())
	for _, method := range []struct {
		checker *callers.Checker
		good    string
	}{{iam, checked(claims(nil))}, {oidc, signed(googleKey(), rs256, claims(nil))}} {
		c, good := method.checker, method.good
		if _, err := c.Check(request("authorization", "bearer "+good), callers.Push); err != nil {
			t.Errorf("scheme in lower case: %v", err)
		}
		none := "there is no token"
		if c == iam {
			none = "no token, and Cloud Run let the request in"
		}
		wantUnauthenticated(t, c, request(), none)
		for _, value := range []string{"", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", good, "Token " + good, "Bearer\t" + good} {
			wantUnauthenticated(t, c, request("Authorization", value), "not of the form")
		}
		wantUnauthenticated(t, c, request("Authorization", "Bearer "+good, "Authorization", "Bearer "+good), "2 times")
		wantUnauthenticated(t, c, request("Authorization", "Bearer "+good, "Authorization", "", "Authorization", "Bearer "+good), "3 times")
		for _, value := range []string{" " + good, good + " ", good + ", Bearer " + good, good + "=", "a.b.c", "..", "!." + good, good + ".x", "ya29.access-token", strings.ReplaceAll(good, ".", "")} {
			wantUnauthenticated(t, c, with(value), "the token")
		}
		wantUnauthenticated(t, c, with(strings.Repeat("A", 20<<10)+"."+good), "more than any of Google's")
		wantUnauthenticated(t, c, with(strings.Repeat(".", 15<<10)), "three parts")
	}
}

// If a request has both headers, Cloud Run checks one of them and passes the other on
// without looking at it. If Tidemark believed the other header, anyone who may invoke the
// service could claim to be any caller.
func TestACloudRunCallerCannotClaimToBeAnother(t *testing.T) {
	t.Parallel()
	c := callers.NewIAM(config)
	own := checked(claims(map[string]any{"email": "stranger@project.iam.gserviceaccount.com"}))
	forged := checked(claims(nil))
	for _, headers := range [][]string{
		{"Authorization", "Bearer " + forged, "X-Serverless-Authorization", "Bearer " + own},
		{"Authorization", "Bearer " + own, "X-Serverless-Authorization", "Bearer " + forged},
		{"Authorization", "Bearer " + forged, "X-Serverless-Authorization", ""},
		{"Authorization", "", "X-Serverless-Authorization", "Bearer " + forged},
	} {
		wantUnauthenticated(t, c, request(headers...), "send one")
	}
	for _, value := range []string{
		"Bearer " + own + ", Bearer " + forged, "Bearer " + own + " Bearer " + forged, "Bearer " + own + "," + forged, "Bearer  " + own,
		"Basic " + own + ", Bearer " + forged,
	} {
		for _, name := range []string{"Authorization", "X-Serverless-Authorization"} {
			if caller, err := c.Check(request(name, value), callers.Push); err == nil || caller != "" {
				t.Errorf("%s: %.40s...: caller %q, error %v", name, value, caller, err)
			}
		}
	}
	wantUnauthenticated(t, c, request("X-Serverless-Authorization", "Bearer "+own, "X-Serverless-Authorization", "Bearer "+forged), "2 times")
	wantUnauthenticated(t, c, request("Proxy-Authorization", "Bearer "+forged), "no token, and Cloud Run let")
	wantUnauthenticated(t, c, request("X_Serverless_Authorization", "Bearer "+forged, "X-Forwarded-Authorization", "Bearer "+forged), "no token, and Cloud Run let")
	if caller, err := c.Check(request("X-Serverless-Authorization", "Bearer "+forged), callers.Push); err != nil || caller != pusher {
		t.Errorf("only a token, in the other header: caller %q, error %v", caller, err)
	}
}

func TestASignatureThatIsThereWasNotChecked(t *testing.T) {
	t.Parallel()
	c := callers.NewIAM(config)
	good := claims(nil)
	for _, token := range []string{
		signed(googleKey(), rs256, good), unsigned(rs256, good), checked(good) + "A", unsigned(rs256, good) + strings.ToLower(removed),
	} {
		wantUnauthenticated(t, c, with(token), "so Cloud Run has not checked it")
	}
}

func TestOnlyGooglesSignatureCounts(t *testing.T) {
	t.Parallel()
	g := newGoogle()
	c := newOIDC(t, g)
	good := claims(nil)
	header := func(changes map[string]any) map[string]any {
		all := maps.Clone(rs256)
		maps.Copy(all, changes)
		return all
	}
	genuine := signed(googleKey(), rs256, good)
	parts := strings.Split(genuine, ".")

	// A known attack: a token signed symmetrically, with the public key as the secret.
	public, err := x509.MarshalPKIXPublicKey(&googleKey().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	symmetric := unsigned(header(map[string]any{"alg": "HS256"}), good)
	mac := hmac.New(sha256.New, public)
	mac.Write([]byte(strings.TrimSuffix(symmetric, ".")))
	symmetric += base64.RawURLEncoding.EncodeToString(mac.Sum(nil))

	iap, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	elliptical := unsigned(header(map[string]any{"alg": "ES256"}), good)
	hash := sha256.Sum256([]byte(strings.TrimSuffix(elliptical, ".")))
	r, s, err := ecdsa.Sign(rand.Reader, iap, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	elliptical += base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))

	for name, tc := range map[string]struct{ token, says string }{
		"another key":                   {signed(otherKey(), rs256, good), "not good"},
		"another key, id unknown":       {signed(otherKey(), header(map[string]any{"kid": "other"}), good), "not good"},
		"right key, id unknown":         {signed(googleKey(), header(map[string]any{"kid": "other"}), good), "not good"},
		"no key id":                     {signed(googleKey(), map[string]any{"alg": "RS256"}, good), "not good"},
		"claims exchanged":              {parts[0] + "." + encode(claims(map[string]any{"email": flusher})) + "." + parts[2], "not good"},
		"header exchanged":              {encode(header(map[string]any{"x": 1})) + "." + parts[1] + "." + parts[2], "not good"},
		"no signature":                  {parts[0] + "." + parts[1] + ".", "not good"},
		"signature cut":                 {genuine[:len(genuine)-8], "not good"},
		"signature not in base64":       {parts[0] + "." + parts[1] + ".%%%", "not good"},
		"signature removed":             {checked(good), "AUTH=iam"},
		"no algorithm":                  {unsigned(map[string]any{"kid": "current"}, good), "RS256"},
		"algorithm none":                {unsigned(header(map[string]any{"alg": "none"}), good), "RS256"},
		"algorithm None, signed":        {signed(googleKey(), header(map[string]any{"alg": "None"}), good), "RS256"},
		"algorithm HS256":               {symmetric, "RS256"},
		"algorithm ES256":               {elliptical, "RS256"},
		"algorithm ES256, too short":    {unsigned(header(map[string]any{"alg": "ES256"}), good) + "AAAA", "RS256"},
		"algorithm RS512":               {signed(googleKey(), header(map[string]any{"alg": "RS512"}), good), "RS256"},
		"algorithm in another case":     {signed(googleKey(), header(map[string]any{"alg": "rs256"}), good), "RS256"},
		"two algorithms":                {encode(json.RawMessage(`{"alg":"RS256","kid":"current","ALG":"ES256"}`)) + "." + parts[1] + ".AAAA", "RS256"},
		"header null":                   {encode(nil) + "." + parts[1] + "." + parts[2], "RS256"},
		"header no object":              {encode("RS256") + "." + parts[1] + "." + parts[2], "malformed"},
		"forged, and says who may push": {signed(otherKey(), rs256, claims(map[string]any{"aud": "https://elsewhere.a.run.app"})), "not good"},
	} {
		t.Run(name, func(t *testing.T) { wantUnauthenticated(t, c, with(tc.token), tc.says) })
	}
	if n := g.fetched.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times: forged tokens must not make that happen", n)
	}
	if _, err := c.Check(with(genuine), callers.Push); err != nil {
		t.Errorf("the genuine token: %v", err)
	}
	// If Tidemark verifies the signature itself, it ignores Cloud Run's header.
	if _, err := c.Check(request("Authorization", "Bearer "+genuine, "X-Serverless-Authorization", "Bearer "+checked(good)), callers.Push); err != nil {
		t.Errorf("with Cloud Run's header beside it: %v", err)
	}
	wantUnauthenticated(t, c, request("X-Serverless-Authorization", "Bearer "+genuine), "there is no token")
}

func TestKeysAreFetchedAgainWhenTheyExpire(t *testing.T) {
	t.Parallel()
	g := newGoogle()
	otherKey()
	synctest.Test(t, func(t *testing.T) {
		c := newOIDC(t, g)
		pass := func(key *rsa.PrivateKey) error {
			_, err := c.Check(with(signed(key, rs256, claims(nil))), callers.Push)
			return err
		}
		if err := errors.Join(pass(googleKey()), pass(googleKey())); err != nil || g.fetched.Load() != 1 {
			t.Fatalf("%d fetches, error %v; want one fetch and no error", g.fetched.Load(), err)
		}
		g.key.Store(otherKey())
		time.Sleep(time.Hour - time.Second)
		if err := pass(googleKey()); err != nil || g.fetched.Load() != 1 {
			t.Errorf("before the keys expire: %d fetches, error %v", g.fetched.Load(), err)
		}
		time.Sleep(2 * time.Second)
		if err := pass(otherKey()); err != nil || g.fetched.Load() != 2 {
			t.Errorf("after the keys have expired: %d fetches, error %v", g.fetched.Load(), err)
		}
		if err := pass(googleKey()); err == nil {
			t.Error("a token is accepted whose key is no longer Google's")
		}
		g.down.Store(true)
		time.Sleep(time.Hour - time.Second)
		if err := pass(otherKey()); err != nil {
			t.Errorf("the keys that were fetched must be used until they expire: %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, ok := errors.AsType[*callers.KeysError](pass(otherKey())); !ok {
			t.Error("a token is accepted with expired keys, though no others could be fetched")
		}
		g.down.Store(false)
		if err := pass(otherKey()); err != nil {
			t.Errorf("once there are keys again: %v", err)
		}
	})
}

// If the keys cannot be fetched, nobody can tell whether a token is good, so the error
// must not say that it is bad.
func TestWithoutKeysNobodyIsRefusedForGood(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*http.Request) (*http.Response, error){
		"down": func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") },
		"failing": func(*http.Request) (*http.Response, error) {
			return respond(503, nil, `{"keys":[{"kid":"current"}]}`), nil
		},
		"not found":  func(*http.Request) (*http.Response, error) { return respond(404, nil, "{}"), nil },
		"a portal":   func(*http.Request) (*http.Response, error) { return respond(200, nil, "<html>Log in"), nil },
		"no keys":    func(*http.Request) (*http.Response, error) { return respond(200, nil, `{"keys":[]}`), nil },
		"other keys": func(*http.Request) (*http.Response, error) { return respond(200, nil, `{"keys":[{"kid":1}]}`), nil },
		"other JSON": func(*http.Request) (*http.Response, error) { return respond(200, nil, `{"error":"quota"}`), nil },
		"silent":     func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGoogle()
			synctest.Test(t, func(t *testing.T) {
				g.answer = answer
				c := newOIDC(t, g)
				good := signed(googleKey(), rs256, claims(nil))
				caller, err := c.Check(with(good), callers.Push)
				if _, ok := errors.AsType[*callers.KeysError](err); !ok || caller != "" {
					t.Errorf("caller %q, error %v; want an error about the keys", caller, err)
				}
				wantUnauthenticated(t, c, with(unsigned(map[string]any{"alg": "none"}, claims(nil))), "RS256")
				g.answer = nil
				if _, err := c.Check(with(good), callers.Push); err != nil {
					t.Errorf("once the keys are there: %v", err)
				}
			})
		})
	}
}

func TestManyRequestsFetchTheKeysOnce(t *testing.T) {
	t.Parallel()
	g := newGoogle()
	synctest.Test(t, func(t *testing.T) {
		arrived := make(chan struct{})
		g.answer = func(r *http.Request) (*http.Response, error) {
			select {
			case <-arrived:
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
			return newGoogle().RoundTrip(r)
		}
		c := newOIDC(t, g)
		good := signed(googleKey(), rs256, claims(nil))
		results := make(chan error)
		ctx, leave := context.WithCancel(t.Context())
		go func() { _, err := c.Check(with(good).WithContext(ctx), callers.Push); results <- err }()
		synctest.Wait()
		for range 20 {
			go func() { _, err := c.Check(with(good), callers.Push); results <- err }()
		}
		synctest.Wait()
		leave()
		if _, ok := errors.AsType[*callers.KeysError](<-results); !ok {
			t.Error("the canceled request gets no error about missing keys")
		}
		close(arrived)
		for range 20 {
			if err := <-results; err != nil {
				t.Errorf("after the first request was canceled: %v", err)
			}
		}
		if n := g.fetched.Load(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

// These are the headers by which browsers tell which page sends a request. Programs send
// none of them.
func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		method, url string
		headers     []string
		passes      bool
	}{
		{"POST", "http://127.0.0.1:8080/push", nil, true},
		{"POST", "http://host.docker.internal:8080/push", nil, true},
		{"POST", "http://127.0.0.1:8080/push", []string{"Origin", "http://127.0.0.1:8080"}, true},
		{"POST", "http://localhost:8080/push", []string{"Origin", "http://localhost:8080", "Sec-Fetch-Site", "same-origin"}, true},
		{"POST", "http://tidemark.example/push", []string{"Origin", "http://localhost:8080", "Sec-Fetch-Site", "same-origin"}, true}, // through a proxy
		{"POST", "http://[::1]:8080/push", []string{"Origin", "http://[::1]:8080"}, true},
		{"POST", "http://127.0.0.1:8080/push", []string{"Origin", "edge"}, true},         // a message attribute named origin, sent as a header
		{"GET", "http://127.0.0.1:8080/audit", []string{"Sec-Fetch-Site", "none"}, true}, // opened from a bookmark
		{"GET", "http://127.0.0.1:8080/audit", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"}, true},

		{"POST", "http://127.0.0.1:8080/push", []string{"Origin", "https://example.com"}, false},
		{"POST", "http://127.0.0.1:8080/push", []string{"Origin", "null"}, false},
		{"POST", "http://127.0.0.1:8080/push", []string{"Origin", "http://127.0.0.1:9090"}, false},
		{"POST", "http://127.0.0.1:8080/push", []string{"Origin", "edge", "Origin", "https://example.com"}, false},
		{"POST", "http://127.0.0.1:8080/push", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"POST", "http://127.0.0.1:8080/push", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site"}, false},
		{"POST", "http://localhost:8080/push", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://localhost:3000"}, false},
		{"GET", "http://127.0.0.1:8080/audit", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, false},
		{"GET", "http://127.0.0.1:8080/audit", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, false},
		{"HEAD", "http://127.0.0.1:8080/audit", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"GET", "http://192.168.0.7:8080/audit", []string{"Origin", "https://example.com"}, false},

		// The status page may be opened by a link on another site, but must not be shown
		// in a frame.
		{"GET", "http://127.0.0.1:8080/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, true},
		{"GET", "http://127.0.0.1:8080/?column=orders", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, true},
		{"GET", "http://127.0.0.1:8080/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, false},
		{"GET", "http://127.0.0.1:8080/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "document"}, false},
		{"POST", "http://127.0.0.1:8080/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, false},
	} {
		r := httptest.NewRequest(tc.method, tc.url, nil)
		for i := 0; i < len(tc.headers); i += 2 {
			r.Header.Add(tc.headers[i], tc.headers[i+1])
		}
		err := callers.CheckSite(r)
		if _, foreign := errors.AsType[*callers.ForeignPageError](err); (err == nil) != tc.passes || foreign == tc.passes {
			t.Errorf("%s %s with %q: error %v; must it pass: %v", tc.method, tc.url, tc.headers, err, tc.passes)
		}
	}
}

// An attacker may let a name of his own point to 127.0.0.1 (DNS rebinding). For the
// browser, the attacker's page then is a page of this server. Only the host name shows
// that it is not.
func TestAReboundNameReadsAndWritesNothing(t *testing.T) {
	t.Parallel()
	anyone := callers.Anyone{Hosts: []string{"", "tidemark.internal", "Box.Example"}}
	for host, own := range map[string]bool{
		"127.0.0.1:8080": true, "127.0.0.1": true, "192.168.0.7:8080": true, "[::1]:8080": true, "[::1]": true, "[fe80::1]:80": true,
		"localhost:8080": true, "LOCALHOST": true,
		"tidemark.internal:8080": true, "TIDEMARK.internal": true, "box.example": true,
		"rebound.example.com:8080": false, "localhost.example.com:8080": false, "x.tidemark.internal": false,
		"127.0.0.1.example.com": false, "": false, ":8080": false, "0x7f.1": false,
	} {
		for _, tc := range []struct {
			method, origin string
			role           callers.Role
			passes         bool
		}{
			{"GET", "", callers.View, own},
			{"HEAD", "", callers.View, own},
			{"GET", "http://" + host, callers.View, own},
			{"POST", "http://" + host, callers.Push, own},
			{"POST", "http://" + host, callers.Flush, own},
			{"POST", "", callers.Push, true}, // an emulator in a container reaches this machine by a name of the container's
			{"POST", "edge", callers.Push, true},
			{"POST", "", callers.Flush, true},
		} {
			r := httptest.NewRequest(tc.method, "/", nil)
			r.Host = host
			if tc.origin != "" {
				r.Header.Set("Origin", tc.origin)
			}
			caller, err := anyone.Check(r, tc.role)
			if _, foreign := errors.AsType[*callers.ForeignPageError](err); caller != "" || (err == nil) != tc.passes || foreign == tc.passes {
				t.Errorf("%s as %s to %s from %q: caller %q, error %v; must it pass: %v", tc.method, tc.role, host, tc.origin, caller, err, tc.passes)
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for name, check := range map[string]struct {
		checker *callers.Checker
		token   string
	}{
		"iam":  {callers.NewIAM(config), checked(claims(nil))},
		"oidc": {newOIDC(b, newGoogle()), signed(googleKey(), rs256, claims(nil))},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r := with(check.token)
			for b.Loop() {
				if _, err := check.checker.Check(r, callers.Push); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
