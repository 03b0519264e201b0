package callers

import (
	"context"
	"net/http"
)

const (
	serverlessAuthorization = "X-Serverless-Authorization"

	// signatureRemoved replaces the signature of a token that Cloud Run has checked.
	signatureRemoved = "SIGNATURE_REMOVED_BY_GOOGLE"
)

const openDoor = ", as if anyone may invoke the service; then anyone could call as any account: " +
	"require authentication (take roles/run.invoker from allUsers, and leave the invoker check on), or set AUTH=oidc"

// cloudRun relies on Cloud Run's check; the package comment has the rules.
type cloudRun struct{}

func (cloudRun) header(headers http.Header) (string, error) {
	own, serverless := headers.Values(authorization) != nil, headers.Values(serverlessAuthorization) != nil
	switch {
	case !own && !serverless:
		return "", &UnauthenticatedError{NoToken: true, Unchecked: true, reason: "there is no token, and Cloud Run let the request in" + openDoor}
	case !serverless:
		return authorization, nil
	case own:
		return "", unauthenticated("the request has a header %s and a header %s, and Cloud Run checks only one of them; send one", authorization, serverlessAuthorization)
	}
	return serverlessAuthorization, nil
}

func (cloudRun) verify(_ context.Context, t token) error {
	if t.signature != signatureRemoved {
		return &UnauthenticatedError{Unchecked: true, reason: "the token still has its signature, so Cloud Run has not checked it" + openDoor}
	}
	return nil
}
