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

// askTimeout is longer than a server takes for any answer.
const askTimeout = 2 * time.Minute

// askServer calls a route of a running server and returns the body of the answer. The
// server is given by its base URL, as http://127.0.0.1:8080. If the route is mounted at
// another path, the server is given by the whole URL of the route. The token, if any, is
// sent with the call. If the status is not 200, askServer returns the body and an error.
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
	// A redirect would turn a POST into a GET, and could send the token without TLS.
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

// routeURL returns the URL of a server's route. It refuses the URL of another route: that
// route could do something else and also answer 200.
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

// withAnswer adds the body of the server's answer to an error.
func withAnswer(err error, answer []byte) error {
	if text := strings.TrimSpace(string(answer)); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}
