package handler

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/tidemark-dev/tidemark/callers"
)

// A CallerChecker tells who sent a request, and whether that account may do what
// it asks. [callers.Checker] is one.
type CallerChecker interface {
	// Check returns the account, if it has the role. The errors are those of
	// package callers, beside [*callers.ForbiddenError] with the account. It does
	// not read the body.
	Check(r *http.Request, role callers.Role) (caller string, err error)
}

// only returns the endpoint for callers that have the role, and for no page of another
// site. It has nothing done for others, and their bodies are not read.
func (h *Handler) only(role callers.Role, e endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, line *requestLine) error {
		if err := callers.CheckSite(r); err != nil {
			return err
		}
		caller, err := h.callers.Check(r, role)
		if caller != "" {
			line.add(slog.String("caller", clip(caller, maxLogged)))
		}
		if err != nil {
			challenge(w, err)
			return err
		}
		return e(w, r, line)
	}
}

// challenge tells a client that was not recognized what to send, as RFC 6750 has
// it: an error is named only where there was a token.
func challenge(w http.ResponseWriter, err error) {
	unknown, ok := errors.AsType[*callers.UnauthenticatedError](err)
	if !ok {
		return
	}
	value := "Bearer"
	if !unknown.NoToken {
		value += ` error="invalid_token"`
	}
	w.Header().Set("WWW-Authenticate", value)
}
