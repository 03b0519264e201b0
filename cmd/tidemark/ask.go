package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// askTimeout is longer than a server takes to answer anything.
const askTimeout = 2 * time.Minute

// askServer calls a route of a running server and returns the body of its answer.
// A server is given by its base, as http://127.0.0.1:8080, or with the route's
// whole path where it is mounted elsewhere. With any status but 200 it returns the
// body and an error.
func askServer(ctx context.Context, method, server, path string, query url.Values) ([]byte, error) {
	target, err := url.Parse(server)
	if err != nil || target.Host == "" {
		return nil, usageError{fmt.Errorf("--url=%q is not a URL as http://127.0.0.1:8080", server)}
	}
	if target.Path == "" || target.Path == "/" {
		target.Path = path
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
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
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
