package callers

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

const (
	// maxToken is many times the size of Google's tokens. These have about a thousand
	// bytes.
	maxToken = 16 << 10

	// leeway is how far the clocks here and at Google may differ. It is also how long a
	// request that Cloud Run has let in may have waited for an instance to start. (The
	// library that verifies signatures allows no time after a token's end.)
	leeway = time.Minute
)

const authorization = "Authorization"

// bearer returns the token in the named header.
func bearer(headers http.Header, name string) (string, error) {
	values := headers.Values(name)
	switch len(values) {
	case 0:
		return "", &UnauthenticatedError{NoToken: true, reason: "there is no token: send a Google identity token, as the header Authorization: Bearer TOKEN"}
	case 1:
	default: // Cloud Run may have checked another one
		return "", unauthenticated("the request has the header %s %d times; send it once", name, len(values))
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer") || text == "":
		return "", unauthenticated("header %s is not of the form Bearer TOKEN", name)
	case len(text) > maxToken:
		return "", unauthenticated("the token has %d bytes, more than any of Google's", len(text))
	}
	return text, nil
}

// A token is a JSON web token. Nothing in it is proved yet.
type token struct {
	text      string
	signature string
	algorithm string
	claims    map[string]json.RawMessage
}

// parse splits a token into its parts. Its errors do not quote the token.
func parse(text string) (token, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return token{}, unauthenticated("the token is not an identity token, which has three parts (an access token does not say who you are)")
	}
	// The library that verifies the signature decodes the header in the same way, so both
	// see the same algorithm.
	var header struct {
		Algorithm string `json:"alg"`
	}
	if raw, err := base64.RawURLEncoding.DecodeString(parts[0]); err != nil || json.Unmarshal(raw, &header) != nil {
		return token{}, unauthenticated("the token is malformed: its header is not JSON in base64")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return token{}, unauthenticated("the token is malformed: its claims are not in base64")
	}
	claims, err := strictjson.Object(raw)
	if err != nil {
		return token{}, unauthenticated("the token is malformed: its claims are not a JSON object")
	}
	return token{text: text, signature: parts[2], algorithm: header.Algorithm, claims: claims}, nil
}

// account checks the claims of a token that is Google's, and returns the token's account.
func (t token) account(audience string, now time.Time) (string, error) {
	if issuer, err := t.textOf("iss"); err != nil {
		return "", err
	} else if issuer != "https://accounts.google.com" && issuer != "accounts.google.com" {
		return "", unauthenticated("the token's issuer is %s; want a Google identity token", strictjson.Quote(issuer))
	}
	if err := t.checkAudience(audience); err != nil {
		return "", err
	}
	if err := t.checkTimes(now); err != nil {
		return "", err
	}
	if _, err := t.textOf("sub"); err != nil {
		return "", err
	}
	email, err := t.textOf("email")
	if err != nil {
		return "", err
	}
	if string(t.claims["email_verified"]) != "true" {
		return "", unauthenticated("the token's e-mail address is not verified")
	}
	return email, nil
}

// googleClient is the end of every id of an OAuth client. Google issues a user's own token
// for a client, and not for an audience that the user chooses.
const googleClient = ".apps.googleusercontent.com"

func (t token) checkAudience(want string) error {
	got, err := t.textOf("aud")
	switch {
	case err != nil:
		return err
	case got == want:
		return nil
	case strings.HasSuffix(got, googleClient):
		return unauthenticated("the token is a user's own, for the audience %s; want a token for %s, which is AUDIENCE: gcloud creates it for a service account, "+
			"with --impersonate-service-account, --audiences and --include-email", strictjson.Quote(got), strictjson.Quote(want))
	}
	return unauthenticated("the token is for the audience %s; want %s, which is AUDIENCE", strictjson.Quote(got), strictjson.Quote(want))
}

// checkTimes checks that the token is valid now.
func (t token) checkTimes(now time.Time) error {
	expires, err := t.timeOf("exp")
	if err != nil {
		return err
	}
	if now.After(expires.Add(leeway)) {
		return unauthenticated("the token expired at %s, and it is %s", clock(expires), clock(now))
	}
	for _, claim := range []string{"iat", "nbf"} {
		if _, given := t.claims[claim]; claim == "nbf" && !given {
			continue // Google's tokens have no nbf
		}
		begins, err := t.timeOf(claim)
		if err != nil {
			return err
		}
		if begins.After(now.Add(leeway)) {
			return unauthenticated("the token is valid from %s on, and it is %s by the clock of this server", clock(begins), clock(now))
		}
	}
	return nil
}

// textOf returns a claim that must be one text that is not empty.
func (t token) textOf(claim string) (string, error) {
	text, err := strictjson.String(t.claims[claim])
	if err != nil || text == "" {
		hint := ""
		if claim == "email" {
			hint = " (gcloud writes it with --include-email)"
		}
		return "", unauthenticated("the token's claim %s is missing, or is not one text%s", claim, hint)
	}
	return text, nil
}

// maxSeconds keeps times far below an overflow.
const maxSeconds = 1 << 40

// timeOf returns a claim that must be a whole number of seconds since the epoch.
func (t token) timeOf(claim string) (time.Time, error) {
	seconds, err := strconv.ParseInt(string(t.claims[claim]), 10, 64)
	if err == nil && (seconds <= 0 || seconds > maxSeconds) {
		err = errors.New("out of range")
	}
	if err != nil {
		return time.Time{}, unauthenticated("the token's claim %s is missing, or is not a number of seconds", claim)
	}
	return time.Unix(seconds, 0), nil
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
