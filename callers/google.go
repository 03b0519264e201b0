package callers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"
)

// googleKeys verifies signatures with Google's public keys.
type googleKeys struct{ validator *idtoken.Validator }

func newGoogleKeys(client *http.Client) (googleKeys, error) {
	fetching := &http.Client{Transport: &keyFetcher{client: client}}
	validator, err := idtoken.NewValidator(context.Background(), option.WithHTTPClient(fetching))
	if err != nil {
		return googleKeys{}, fmt.Errorf("create the validator of Google's tokens: %w", err)
	}
	return googleKeys{validator}, nil
}

// header returns Authorization always. A token in X-Serverless-Authorization is for Cloud
// Run only.
func (googleKeys) header(http.Header) (string, error) { return authorization, nil }

func (k googleKeys) verify(ctx context.Context, t token) error {
	switch {
	case t.signature == signatureRemoved: // anyone can write this, so the text must not suggest to trust it
		return unauthenticated("the token's signature is removed. Cloud Run removes it for a service that requires authentication: " +
			"if this service does, set AUTH=iam; if anyone may invoke the service, the token is forged")
	case t.algorithm != "RS256": // the library also takes ES256, which IAP signs with
		return unauthenticated("the token is not signed with RS256, as Google's identity tokens are")
	}
	_, err := k.validator.Validate(ctx, t.text, "") // the audience is checked with the other claims
	if keys, ok := errors.AsType[*KeysError](err); ok {
		return keys
	}
	if err != nil {
		return unauthenticated("the token is not good: %v", err)
	}
	return nil
}

const (
	keysTimeout = 5 * time.Second // leaves a push most of its time
	maxKeys     = 1 << 20         // bytes; Google's are about two thousand
)

// A keyFetcher is the transport that the validator fetches Google's keys with. The
// validator fetches when it needs keys and has none that are still valid. Requests at the
// same time share one fetch. The fetch goes on even if the request that started it ends.
// Every error is a [*KeysError].
type keyFetcher struct {
	client *http.Client
	shared singleflight.Group
}

// A keySet is an answer that has keys.
type keySet struct {
	header http.Header
	body   []byte
}

// RoundTrip implements [http.RoundTripper].
func (f *keyFetcher) RoundTrip(r *http.Request) (*http.Response, error) {
	url, ctx := r.URL.String(), r.Context()
	fetch := f.shared.DoChan(url, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysTimeout)
		defer cancel()
		return f.fetch(ctx, url)
	})
	select {
	case <-ctx.Done():
		return nil, &KeysError{ctx.Err()}
	case fetched := <-fetch:
		if fetched.Err != nil {
			return nil, &KeysError{fetched.Err}
		}
		set := fetched.Val.(keySet)
		return &http.Response{StatusCode: http.StatusOK, Header: set.header, Body: io.NopCloser(bytes.NewReader(set.body)), Request: r}, nil
	}
}

func (f *keyFetcher) fetch(ctx context.Context, url string) (keySet, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return keySet{}, err
	}
	response, err := f.client.Do(request)
	if err != nil {
		return keySet{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxKeys))
	if err != nil {
		return keySet{}, err
	}
	var keys struct {
		Keys []struct{ Kid string }
	}
	// If the answer has no keys, the error is about the answer and not about the token.
	if err := json.Unmarshal(body, &keys); response.StatusCode != http.StatusOK || err != nil || len(keys.Keys) == 0 {
		return keySet{}, fmt.Errorf("%s answered %s and %d keys", url, response.Status, len(keys.Keys))
	}
	return keySet{response.Header, body}, nil
}
