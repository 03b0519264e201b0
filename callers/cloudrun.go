package callers

import (
	"context"
	"net/http"
)

const (
	serverlessAuthorization = "X-Serverless-Authorization"

	// signatureRemoved is what Cloud Run puts in the place of the signature of a
	// token that it has checked.
	signatureRemoved = "SIGNATURE_REMOVED_BY_GOOGLE"
)

// cloudRun takes Cloud Run's word; the package comment has the rules.
type cloudRun struct{}

func (cloudRun) header(headers http.Header) (string, error) {
	if headers.Values(serverlessAuthorization) == nil {
		return authorization, nil
	}
	if headers.Values(authorization) != nil {
		return "", unauthenticated("there are a header %s and a header %s, of which Cloud Run checks only one; send one", authorization, serverlessAuthorization)
	}
	return serverlessAuthorization, nil
}

func (cloudRun) verify(_ context.Context, t token) error {
	if t.signature != signatureRemoved {
		return unauthenticated("the token still has its signature, so Cloud Run has not checked it, as if anyone may invoke the service: " +
			"have it require authentication (take roles/run.invoker from allUsers), or set AUTH=oidc")
	}
	return nil
}
