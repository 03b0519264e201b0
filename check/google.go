package check

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/oauth2/v2"
	"google.golang.org/api/option"
	"google.golang.org/api/transport"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/settings"
)

// google checks BigQuery and Firestore.
func (c *checker) google(ctx context.Context) []Finding {
	useBigQuery, useFirestore := true, true
	var findings []Finding
	if s := c.settings; s.BigQueryEmulator == "" || s.FirestoreEmulator == "" {
		finding, found := c.credentials(ctx)
		findings = append(findings, finding)
		// Without credentials Google's services cannot be asked.
		useBigQuery = found || s.BigQueryEmulator != ""
		useFirestore = found || s.FirestoreEmulator != ""
	}
	var bigQuery, firestore []Finding
	var wg sync.WaitGroup
	if useBigQuery {
		wg.Go(func() { bigQuery = c.bigQuery(ctx) })
	}
	if useFirestore {
		wg.Go(func() { firestore = c.firestore(ctx) })
	}
	wg.Wait()
	return append(append(findings, bigQuery...), firestore...)
}

// An account is the owner of the credentials that were found.
type account struct {
	member string // as in a grant, user:a@example.com; empty if it is not known
}

func (a account) String() string { return cmp.Or(a.member, "this account") }

// grantee returns the account as a statement or a command names it.
func (a account) grantee() string { return cmp.Or(a.member, "MEMBER") }

const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// findAccount finds the credentials that the clients of Google's services use, and the
// account of the credentials.
func findAccount(ctx context.Context) (account, error) {
	ctx, cancel := context.WithTimeout(ctx, settings.StepTimeout)
	defer cancel()
	found, err := transport.Creds(ctx, option.WithScopes(cloudPlatform))
	if err != nil {
		return account{}, err
	}
	var file struct {
		Email        string `json:"client_email"`
		Impersonates string `json:"service_account_impersonation_url"`
	}
	_ = json.Unmarshal(found.JSON, &file) // on Google's machines there is no file
	if file.Email != "" {
		return account{"serviceAccount:" + file.Email}, nil
	}
	if _, name, ok := strings.Cut(file.Impersonates, "/serviceAccounts/"); ok {
		name, _, _ = strings.Cut(name, ":")
		return account{"serviceAccount:" + name}, nil
	}
	users, err := oauth2.NewService(ctx, option.WithTokenSource(found.TokenSource))
	if err != nil {
		return account{}, err
	}
	// A token does not always tell its account.
	user, err := users.Userinfo.Get().Context(ctx).Do()
	if err != nil || user.Email == "" {
		return account{}, nil
	}
	if strings.HasSuffix(user.Email, ".gserviceaccount.com") {
		return account{"serviceAccount:" + user.Email}, nil
	}
	return account{"user:" + user.Email}, nil
}

func (c *checker) credentials(ctx context.Context) (finding Finding, found bool) {
	var err error
	if c.account, err = c.who(ctx); err != nil {
		return problem([]string{"gcloud auth application-default login"}, "credentials: none that can be used: %s", oneLine(err)), false
	}
	if c.account.member == "" {
		return ok("credentials: found; whose they are they do not tell, and permissions below are that account's"), true
	}
	return ok("credentials of %s: permissions below are that account's", c.account), true
}

func (c *checker) grantOnProject(role string) string {
	return "gcloud projects add-iam-policy-binding " + c.settings.Project + " --member=" + c.account.grantee() + " --role=" + role
}

// undetermined returns the finding for a check that could not be carried out. The finding
// is a warning: perhaps nothing is wrong.
func (c *checker) undetermined(what string, err error) Finding {
	return warning(c.afterError(err), "%s could not be found out: %s", what, brief(err))
}

// failed returns the finding for a service or an object that does not respond as expected.
func (c *checker) failed(what string, err error) Finding {
	return problem(c.afterError(err), "%s: %s", what, brief(err))
}

// afterError returns what to do after an error of one of Google's services.
func (c *checker) afterError(err error) []string {
	if service := disabledService(err); service != "" {
		return []string{"gcloud services enable " + service + " --project=" + c.settings.Project}
	}
	switch code(err) {
	case codes.Unauthenticated:
		return []string{"gcloud auth application-default login"}
	case codes.PermissionDenied:
		return []string{"check as the project's owner, or as the account of the service: gcloud auth application-default login --impersonate-service-account=ACCOUNT"}
	}
	return []string{"see whether this machine reaches the service, then check again"}
}

// disabledService returns the service that is not enabled in the project, if the error
// says so, or else an empty string.
func disabledService(err error) string {
	const reason = "SERVICE_DISABLED"
	if rest, found := errors.AsType[*googleapi.Error](err); found {
		for _, detail := range rest.Details {
			info, _ := detail.(map[string]any)
			metadata, _ := info["metadata"].(map[string]any)
			if service, _ := metadata["service"].(string); info["reason"] == reason {
				return service
			}
		}
		return ""
	}
	if api, found := apierror.FromError(err); found && api.Reason() == reason {
		return api.Metadata()["service"]
	}
	return ""
}

// isDenied reports whether an error says that the account lacks a permission. (A service
// that is not enabled in the project denies every call. Such an error is not meant.)
func isDenied(err error) bool {
	return code(err) == codes.PermissionDenied && disabledService(err) == ""
}

// code returns the status code of an error, from the REST or the gRPC APIs.
func code(err error) codes.Code {
	rest, found := errors.AsType[*googleapi.Error](err)
	if !found {
		return status.Code(err)
	}
	switch rest.Code {
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusNotFound:
		return codes.NotFound
	}
	return codes.Unknown
}

// brief returns the text of an error on one line, without the details at its end.
func brief(err error) string {
	if rest, found := errors.AsType[*googleapi.Error](err); found && rest.Message != "" {
		return fmt.Sprintf("%s (%d)", strings.Join(strings.Fields(rest.Message), " "), rest.Code)
	}
	return oneLine(err)
}
