// Package callers decides who may call which route, by the Google identity token
// that a request carries: Pub/Sub and Cloud Scheduler send the token of a service
// account, and a person sends one with curl.
//
// # Roles
//
// A route needs one [Role], and each role has a list of the accounts that have
// it. Roles are apart: who pushes cannot flush, neither can read, and an account
// that is to do two things is in two lists. An empty list is nobody.
//
// # Who has checked the token
//
// With [NewOIDC] this package has: the signature must be Google's.
//
// With [NewIAM] it was Cloud Run, which lets a request through if its token is
// good and its account may invoke the service, and replaces the token's signature
// by the word SIGNATURE_REMOVED_BY_GOOGLE, so that no container can use the token
// elsewhere. Only the claims are left to read. They are worth what Cloud Run's
// check is worth, hence these rules:
//
//   - Cloud Run takes a token from Authorization or from X-Serverless-Authorization,
//     and of both checks the latter only and passes Authorization on as it came
//     (https://cloud.google.com/run/docs/authenticating/service-to-service). Anyone
//     who may invoke the service at all could write claims of his choice into the
//     header that was not checked. So a request with both is refused, whichever was
//     checked: the one token that is there is the one that let the request in. This
//     leans on Cloud Run passing on the header that it has checked, as it does
//     (https://cloud.google.com/iap/docs/enabling-cloud-run, known limitations).
//   - A request without a token, or with a signature that is still there, has not
//     been checked by Cloud Run: the service is open to everyone. It is refused, and
//     the log, not the answer, says why ([UnauthenticatedError.Unchecked]). That
//     shows an open door but does not close it, since on an open service anyone can
//     write the word as well. So AUTH=iam is for a service that requires
//     authentication, and AUTH=oidc for one that does not.
//
// # Claims
//
// In both cases the issuer must be Google, the audience must be the configured one
// to the letter, as one string, the token must be in its time and of somebody, and
// the e-mail address must be verified. The audience matters under Cloud Run too, which takes
// tokens for any of the service's names. Addresses are compared to the letter as
// well: those of service accounts have no capitals, and a refusal says which
// address came.
package callers

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// A Role is something that a caller may be allowed to do.
type Role string

// The roles.
const (
	Push  Role = "push"  // hand in messages, also on trial
	Flush Role = "flush" // have windows written, by a flush or by a repair
	View  Role = "view"  // read: audits, metrics, the dashboard
)

// Setting returns the name of the setting that lists the accounts of a role.
func (r Role) Setting() string { return strings.ToUpper(string(r)) + "_CALLERS" }

// An UnauthenticatedError says why a request does not prove who sent it. Its text
// is for the sender, and quotes no part of a token but claims that are proved.
type UnauthenticatedError struct {
	// NoToken is whether the request had no token at all.
	NoToken bool
	// Unchecked is whether the request shows that Cloud Run checks no tokens, which
	// the owner must learn. The text is then for the owner alone: to anyone else it
	// would say how to get in.
	Unchecked bool
	reason    string
}

func (e *UnauthenticatedError) Error() string { return e.reason }

func unauthenticated(format string, args ...any) error {
	return &UnauthenticatedError{reason: fmt.Sprintf(format, args...)}
}

// A ForbiddenError says that an account is known and may not do this.
type ForbiddenError struct {
	Caller string
	Role   Role
}

func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("%s may not %s: %s does not name it", strictjson.Quote(e.Caller), e.Role, e.Role.Setting())
}

// A ForeignPageError says that a web page of somebody else's sent the request, or may
// have, through the browser of somebody who may call.
type ForeignPageError struct{ Err error }

func (e *ForeignPageError) Error() string {
	return "a web page of another site may have sent this: " + e.Err.Error()
}
func (e *ForeignPageError) Unwrap() error { return e.Err }

// A KeysError says that Google's public keys could not be had, so that nothing is
// known about the caller. The same request may well pass later.
type KeysError struct{ Err error }

func (e *KeysError) Error() string { return "get Google's public keys: " + e.Err.Error() }
func (e *KeysError) Unwrap() error { return e.Err }

// Config is what a [Checker] checks tokens against. Every field is required.
type Config struct {
	Audience string            // of the tokens
	Accounts map[Role][]string // e-mail addresses
	Now      func() time.Time
}

// A Checker checks callers. It is safe for concurrent use.
type Checker struct {
	config Config
	proof  proof
}

// A proof is how it is known that a token is Google's.
type proof interface {
	// header returns the name of the request's header that has the token.
	header(http.Header) (string, error)
	// verify returns nil if the token is Google's. Its claims are the caller's to
	// check.
	verify(context.Context, token) error
}

// NewIAM returns a checker for a service on Cloud Run that requires authentication.
func NewIAM(c Config) *Checker { return &Checker{config: c, proof: cloudRun{}} }

// NewOIDC returns a checker that verifies Google's signature. It fetches Google's
// keys with client when a token first needs them, and again when they expire.
func NewOIDC(c Config, client *http.Client) (*Checker, error) {
	keys, err := newGoogleKeys(client)
	if err != nil {
		return nil, err
	}
	return &Checker{config: c, proof: keys}, nil
}

// Check returns the account that sent the request, if it has the role. The error is
// an [*UnauthenticatedError], a [*ForbiddenError], beside which the account is
// returned too, or a [*KeysError].
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
	// First, so that nothing is said about the claims of a forged token.
	if err := c.proof.verify(r.Context(), t); err != nil {
		return "", err
	}
	caller, err = t.account(c.config.Audience, c.config.Now())
	if err != nil {
		return "", err
	}
	for _, allowed := range c.config.Accounts[role] {
		if caller == allowed {
			return caller, nil
		}
	}
	return caller, &ForbiddenError{Caller: caller, Role: role}
}
