package handler

import (
	"net/http"

	"github.com/go-chi/chi/v5"
)

// A Route is a method and a path that the handler serves.
type Route struct{ Method, Path string }

// Routes returns all routes.
func (h *Handler) Routes() []Route {
	var routes []Route
	_ = chi.Walk(h.router, func(method, path string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routes = append(routes, Route{method, path})
		return nil
	})
	return routes
}
