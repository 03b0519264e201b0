// Package callers decides who may call which route. It reads the Google identity token
// of the request. Pub/Sub and Cloud Scheduler send the token of a service account; a
// user sends a token with curl.
//
// # Roles
//
// A route needs one [Role], and each role has a list of accounts. Roles are separate: an
// account that may push cannot flush, and neither role can read. An account with two
// roles is in two lists. An empty list allows nobody.
//
// # Who checks the token
//
// With [NewOIDC] this package checks the token: the signature must be Google's.
//
// With [NewIAM] Cloud Run checks the token. Cloud Run lets a request through if its
// token is valid and its account may invoke the service. It replaces the token's
// signature by the word SIGNATURE_REMOVED_BY_GOOGLE, so that no container can use the
// token elsewhere. Then this package can read only the claims, and these can be trusted
// only if Cloud Run has checked this very token. Hence these rules:
//
//   - Cloud Run takes a token from Authorization or from X-Serverless-Authorization. If a
//     request has both, Cloud Run checks only the latter, and passes Authorization on
//     unchanged (https://cloud.google.com/run/docs/authenticating/service-to-service).
//     Any account that may invoke the service could then write any claims into
//     Authorization. So a request with both headers is refused. If there is one header,
//     its token is the token that let the request in. This relies on Cloud Run to pass on
//     the header that it has checked, as it does
//     (https://cloud.google.com/iap/docs/enabling-cloud-run, known limitations).
//   - If a request has no token, or its token still has a signature, Cloud Run has not
//     checked it: the service is open to everyone. The request is refused, and the log,
//     not the answer, says why ([UnauthenticatedError.Unchecked]). This shows that the
//     service is open, but does not protect it: on an open service anyone can write
//     SIGNATURE_REMOVED_BY_GOOGLE too. So AUTH=iam is for a service that requires
//     authentication, and AUTH=oidc for a service that does not.
//
// # Claims
//
// In both cases the claims must say: the issuer is Google; the audience is one string,
// equal to the configured audience; the token is valid now; it has a subject; and the
// e-mail address is verified. The audience matters on Cloud Run too, since Cloud Run
// takes tokens for any of the service's names. Addresses must be equal letter by letter
// too: the address of a service account has no capitals, and a refusal names the address.
package callers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// A Role is something that a caller may be allowed to do.
type Role string

// The roles.
const (
	Push  Role = "push"  // send messages, also with dry_run
	Flush Role = "flush" // write windows, by a flush or by a repair
	View  Role = "view"  // read: audits, metrics, the dashboard
)

// Setting returns the name of the setting that lists the accounts of a role.
func (r Role) Setting() string { return strings.ToUpper(string(r)) + "_CALLERS" }

// An UnauthenticatedError says why a request does not prove who sent it. Its text is for
// the sender. The text quotes no part of a token except proved claims.
type UnauthenticatedError struct {
	// NoToken is whether the request had no token at all.
	NoToken bool
	// Unchecked is whether the request shows that Cloud Run checks no tokens. The text
	// is then only for the owner, who must act on it: it would show an attacker how to
	// get in.
	Unchecked bool
	reason    string
}

func (e *UnauthenticatedError) Error() string { return e.reason }

func unauthenticated(format string, args ...any) error {
	return &UnauthenticatedError{reason: fmt.Sprintf(format, args...)}
}

// A ForbiddenError says that an account is known but does not have the role.
type ForbiddenError struct {
	Caller string
	Role   Role
}

func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("%s may not %s: %s does not name it", strictjson.Quote(e.Caller), e.Role, e.Role.Setting())
}

// A ForeignPageError says that a web page of another site sent the request, or may have
// sent it, through the browser of a user who may call.
type ForeignPageError struct{ Err error }

func (e *ForeignPageError) Error() string {
	return "a web page of another site may have sent this: " + e.Err.Error()
}
func (e *ForeignPageError) Unwrap() error { return e.Err }

// A KeysError says that Google's public keys could not be fetched, so nothing is known
// about the caller. The same request may pass later.
type KeysError struct{ Err error }

func (e *KeysError) Error() string { return "get Google's public keys: " + e.Err.Error() }
func (e *KeysError) Unwrap() error { return e.Err }

// Config is what a [Checker] checks tokens against. Every field is required.
type Config struct {
	Audience string            // of all tokens
	Accounts map[Role][]string // e-mail addresses
	Now      func() time.Time
}

// A Checker checks callers. It is safe for concurrent use.
type Checker struct {
	config Config
	proof  proof
}

// A proof says how a token is proved to be Google's.
type proof interface {
	// header returns the name of the header that has the token.
	header(http.Header) (string, error)
	// verify returns nil if the token is Google's. It does not check the claims.
	verify(context.Context, token) error
}

// NewIAM returns a checker for a service on Cloud Run that requires authentication.
func NewIAM(c Config) *Checker { return &Checker{config: c, proof: cloudRun{}} }

// NewOIDC returns a checker that verifies Google's signature. It fetches Google's keys
// with client when a token first needs them, and again after they expire.
func NewOIDC(c Config, client *http.Client) (*Checker, error) {
	keys, err := newGoogleKeys(client)
	if err != nil {
		return nil, err
	}
	return &Checker{config: c, proof: keys}, nil
}

// Check returns the account that sent the request, if the account has the role. The error
// is an [*UnauthenticatedError], a [*KeysError], or a [*ForbiddenError]. With the last one
// Check returns the account too. Check does not read the body.
func (c *Checker) Check(r *http.Request, role Role) (caller string, err error) {
	name, err := c.proof.header(r.Header)
	if err != nil {
		return "", err
	}
	text, err := bearer(r.Header, name)
	if err != nil {
		return "", err
	}
	t, err := parse(text)
	if err != nil {
		return "", err
	}
	// The proof comes first, so that no error quotes the claims of a forged token.
	if err := c.proof.verify(r.Context(), t); err != nil {
		return "", err
	}
	caller, err = t.account(c.config.Audience, c.config.Now())
	if err != nil {
		return "", err
	}
	if !slices.Contains(c.config.Accounts[role], caller) {
		return caller, &ForbiddenError{Caller: caller, Role: role}
	}
	return caller, nil
}
