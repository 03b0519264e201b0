package delivery

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// TokenVariable is the environment variable of the identity token that commands
// send to a server that checks its callers. There is no flag of it: arguments are
// there for every user of the machine to see.
const TokenVariable = "TIDEMARK_TOKEN"

// Authorize adds the token to the request. An empty one is none.
func Authorize(r *http.Request, token string) {
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
}

// CheckToken tells whether the token may be sent to a URL: over TLS, or to this
// machine itself, for otherwise whoever listens on the way could use it. It does
// not quote the token.
func CheckToken(raw, token string) error {
	if token == "" {
		return nil
	}
	for _, char := range []byte(token) {
		if char <= ' ' || char >= 0x7f {
			return errors.New(TokenVariable + " is not a token: it has a space, a line break or another character that no token has")
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "https" || u.Hostname() == "localhost" || ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%q is neither https nor this machine: %s would go over the network in clear; unset it, or use https", raw, TokenVariable)
}
