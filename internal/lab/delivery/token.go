package delivery

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
)

// TokenVariable is the environment variable with the identity token that commands send to a
// server that checks its callers. There is no flag for the token, because every user of the
// machine can see the arguments of a process.
const TokenVariable = "TIDEMARK_TOKEN"

// Authorize adds the token to the request, unless the token is empty.
func Authorize(r *http.Request, token string) {
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
}

// CheckToken returns an error if the token must not be sent to the URL. It may be sent only
// over TLS or to this machine, because otherwise somebody on the network could read and use
// it. The error does not quote the token.
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
	return fmt.Errorf("%q is neither https nor this machine: %s would go over the network unencrypted; unset it, or use https", raw, TokenVariable)
}
