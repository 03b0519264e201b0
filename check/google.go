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

// google checks BigQuery and Firestore, as far as the settings use them.
func (c *checker) google(ctx context.Context) []Finding {
	s := c.settings
	useBigQuery, useFirestore := s.Backend == "gcp", s.Counters == "firestore"
	var findings []Finding
	if useBigQuery && s.BigQueryEmulator == "" || useFirestore && s.FirestoreEmulator == "" {
		finding, found := c.credentials(ctx)
		findings = append(findings, finding)
		// Without them nothing can be asked of Google.
		useBigQuery = useBigQuery && (found || s.BigQueryEmulator != "")
		useFirestore = useFirestore && (found || s.FirestoreEmulator != "")
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

// An account is whose credentials were found.
type account struct {
	member string // as in a grant, user:a@example.com; empty where it is not known
}

func (a account) String() string { return cmp.Or(a.member, "this account") }

// grantee is the account in a statement or a command.
func (a account) grantee() string { return cmp.Or(a.member, "MEMBER") }

const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// findAccount finds the credentials that the clients of Google's services find, and
// whose they are.
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
	_ = json.Unmarshal(found.JSON, &file) // there is none on Google's machines
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
	// A token need not tell whose it is.
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

// undetermined is the finding of a check that could not be made. It is no problem,
// since nothing may be wrong.
func (c *checker) undetermined(what string, err error) Finding {
	return warning(c.afterError(err), "%s could not be found out: %s", what, brief(err))
}

// failed is the finding of something that does not answer as it must.
func (c *checker) failed(what string, err error) Finding {
	return problem(c.afterError(err), "%s: %s", what, brief(err))
}

// afterError returns what to do about an error of one of Google's services.
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

// disabledService returns the service that an error says the project does not use,
// empty where it does not say so.
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

// isDenied reports whether an error says that the account may not. (A service that
// the project does not use denies everything to everyone.)
func isDenied(err error) bool {
	return code(err) == codes.PermissionDenied && disabledService(err) == ""
}

// code returns the status of an error of either kind of API.
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

// brief returns the text of an error in one line, without the details that follow it.
func brief(err error) string {
	if rest, found := errors.AsType[*googleapi.Error](err); found && rest.Message != "" {
		return fmt.Sprintf("%s (%d)", strings.Join(strings.Fields(rest.Message), " "), rest.Code)
	}
	return oneLine(err)
}
