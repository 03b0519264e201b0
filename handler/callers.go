package handler

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/tidemark-dev/tidemark/callers"
)

// A CallerChecker checks who sent a request, and whether that account may do what the
// request asks for. [callers.Checker] is an implementation and has the contract.
type CallerChecker interface {
	Check(r *http.Request, role callers.Role) (caller string, err error)
}

// only returns e for callers that have the role. It refuses every other caller, and every
// request that a page of another site sends, and does not read their bodies.
func (h *Handler) only(role callers.Role, e endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, line *requestLine) error {
		if err := callers.CheckSite(r); err != nil {
			return err
		}
		caller, err := h.cfg.Callers.Check(r, role)
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

// challenge tells an unknown client what to send, in the form of RFC 6750. It names an
// error only if the client sent a token.
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
