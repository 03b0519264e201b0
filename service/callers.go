package service

import (
	"fmt"
	"net/http"
	"time"

	"github.com/tidemark-dev/tidemark/callers"
	"github.com/tidemark-dev/tidemark/handler"
	"github.com/tidemark-dev/tidemark/settings"
)

// newCallers returns the checker of callers for the setting AUTH.
func newCallers(s settings.Settings) (handler.CallerChecker, error) {
	config := callers.Config{
		Audience: s.Audience,
		Accounts: map[callers.Role][]string{callers.Push: s.PushCallers, callers.Flush: s.FlushCallers, callers.View: s.ViewCallers},
		Now:      time.Now,
	}
	switch s.Auth {
	case "none":
		return callers.Anyone{Hosts: append([]string{s.Host}, s.AllowedHosts...)}, nil
	case "iam":
		return callers.NewIAM(config), nil
	case "oidc":
		return callers.NewOIDC(config, http.DefaultClient)
	}
	return nil, fmt.Errorf("AUTH=%q is not known", s.Auth) // settings.Load refuses other values
}
