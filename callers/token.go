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
	// maxToken is many times the size of Google's tokens, which have about a
	// thousand bytes.
	maxToken = 16 << 10

	// leeway is how far apart the clocks here and at Google may be, and how long a
	// request that Cloud Run has let in may have waited for an instance to start.
	// (The library that verifies signatures allows none after a token's end.)
	leeway = time.Minute
)

const authorization = "Authorization"

// bearer returns the token of the header of that name.
func bearer(headers http.Header, name string) (string, error) {
	values := headers.Values(name)
	switch len(values) {
	case 0:
		return "", &UnauthenticatedError{NoToken: true, reason: "there is no token: send a Google identity token, as the header Authorization: Bearer TOKEN"}
	case 1:
	default: // whoever checked before us may have looked at another one
		return "", unauthenticated("header %s is there %d times; send it once", name, len(values))
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

// A token is a JSON web token, of which nothing is proved yet.
type token struct {
	text      string
	signature string
	algorithm string
	claims    map[string]json.RawMessage
}

// parse takes a token apart. Its errors do not quote it.
func parse(text string) (token, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return token{}, unauthenticated("the token is not an identity token, which has three parts (an access token does not say who you are)")
	}
	// Read as the library that verifies the signature reads it, so that both see
	// the same algorithm.
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
		return token{}, unauthenticated("the token is malformed: its claims are no JSON object")
	}
	return token{text: text, signature: parts[2], algorithm: header.Algorithm, claims: claims}, nil
}

// account checks the claims of a token that is Google's, and returns the account
// that it is of.
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

// googleClient is how the ids of OAuth clients end. Google gives a person's own
// token to one, and not to an audience of his choice.
const googleClient = ".apps.googleusercontent.com"

func (t token) checkAudience(want string) error {
	got, err := t.textOf("aud")
	switch {
	case err != nil:
		return err
	case got == want:
		return nil
	case strings.HasSuffix(got, googleClient):
		return unauthenticated("the token is a person's own, for the audience %s; want one for %s, which is AUDIENCE: gcloud makes it for a service account, "+
			"with --impersonate-service-account, --audiences and --include-email", strictjson.Quote(got), strictjson.Quote(want))
	}
	return unauthenticated("the token is for the audience %s; want %s, which is AUDIENCE", strictjson.Quote(got), strictjson.Quote(want))
}

// checkTimes checks that now is within the token's time.
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
			continue // Google does not write it
		}
		begins, err := t.timeOf(claim)
		if err != nil {
			return err
		}
		if begins.After(now.Add(leeway)) {
			return unauthenticated("the token is good from %s on, and it is %s by the clock of this server", clock(begins), clock(now))
		}
	}
	return nil
}

// textOf returns a claim that must be one text, and not empty.
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

// maxSeconds keeps times far from overflow.
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
