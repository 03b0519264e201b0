package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

// askTimeout is longer than a server takes to answer anything.
const askTimeout = 2 * time.Minute

// askServer calls a route of a running server and returns the body of its answer.
// A server is given by its base, as http://127.0.0.1:8080, or with the route's
// whole path where it is mounted elsewhere; the token, if any, goes with the call.
// With any status but 200 it returns the body and an error.
func askServer(ctx context.Context, token, method, server, route string, query url.Values) ([]byte, error) {
	target, err := routeURL(server, route)
	if err != nil {
		return nil, usageError{err}
	}
	if err := delivery.CheckToken(target.String(), token); err != nil {
		return nil, usageError{fmt.Errorf("--url: %w", err)}
	}
	if len(query) > 0 {
		all := target.Query()
		maps.Copy(all, query)
		target.RawQuery = all.Encode()
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return nil, err
	}
	delivery.Authorize(request, token)
	// A redirect would make a GET of a POST, and may lead the token out of TLS.
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s gives no answer: %w", target, delivery.Explain(err, target.String()))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", target, err)
	}
	if response.StatusCode != http.StatusOK {
		return body, fmt.Errorf("%s answered %s", target, response.Status)
	}
	return body, nil
}

// routeURL returns where a server's route is, or refuses the URL of another
// route: one that did something else would answer 200 as well.
func routeURL(server, route string) (*url.URL, error) {
	target, err := url.Parse(server)
	if err != nil || target.Host == "" {
		return nil, fmt.Errorf("--url=%q is not a URL as http://127.0.0.1:8080", server)
	}
	if target.Path == "" || target.Path == "/" {
		target.Path = route
	}
	switch last := "/" + path.Base(target.Path); last {
	case "/push", "/raw", "/flush", "/audit", "/health", "/metrics":
		if last != route {
			return nil, fmt.Errorf("--url=%q is another route than %s; give the server alone, as http://127.0.0.1:8080", server, route)
		}
	}
	return target, nil
}

// withAnswer adds to an error what the server said to it.
func withAnswer(err error, answer []byte) error {
	if text := strings.TrimSpace(string(answer)); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}
