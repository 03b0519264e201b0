package tidemark

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/api/cloudresourcemanager/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/oauth2/v2"
	"google.golang.org/api/option"
	"google.golang.org/api/transport"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/firestoredocs"
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
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
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

// permissions are what an account may do on the project.
type permissions struct {
	may map[string]bool
	err error // they could not be found out
}

// The permissions that are looked for on the project. The first two are granted on
// nothing less.
const (
	runJobs      = "bigquery.jobs.create"
	makeDatasets = "bigquery.datasets.create"
	makeTables   = "bigquery.tables.create"
)

// onProject asks which of its permissions the account has on the project. It may
// have others on what is in the project, which this does not say.
func (c *checker) onProject(ctx context.Context) permissions {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var options []option.ClientOption
	if c.projectsURL != "" {
		options = append(options, option.WithEndpoint(c.projectsURL), option.WithoutAuthentication())
	}
	service, err := cloudresourcemanager.NewService(ctx, options...)
	if err != nil {
		return permissions{err: err}
	}
	answer, err := service.Projects.TestIamPermissions(c.settings.Project, &cloudresourcemanager.TestIamPermissionsRequest{
		Permissions: []string{runJobs, makeDatasets, makeTables},
	}).Context(ctx).Do()
	if err != nil {
		return permissions{err: err}
	}
	p := permissions{may: map[string]bool{}}
	for _, name := range answer.Permissions {
		p.may[name] = true
	}
	return p
}

// bigQuery checks the tables in BigQuery.
func (c *checker) bigQuery(ctx context.Context) []Finding {
	s := c.settings
	var findings []Finding
	mixed := s.RawMethod == "storage_write" && (s.BigQueryEmulator == "") != (s.BigQueryStorageEmulator == "")
	if mixed {
		findings = append(findings, problem([]string{"set both of them, or neither"},
			"BIGQUERY_EMULATOR_HOST=%s, BIGQUERY_STORAGE_EMULATOR_HOST=%s: one is an emulator and the other the service", s.BigQueryEmulator, s.BigQueryStorageEmulator))
	}
	config := bigQueryConfig(s)
	if c.bigQueryHost != "" {
		config.RESTHost = c.bigQueryHost
	}
	if c.storageHost != "" {
		config.GRPCHost = c.storageHost
	}
	tables, err := bigquerytables.New(ctx, config)
	if err != nil {
		return append(findings, c.failed("BigQuery", err))
	}
	defer tables.Close()
	check := &bigQueryCheck{checker: c, tables: tables, emulated: s.BigQueryEmulator != "", stream: s.RawMethod == "storage_write" && !mixed}
	if check.emulated {
		findings = append(findings, warning(nil, "BigQuery emulator at %s: permissions are not checked, for an emulator asks for none", s.BigQueryEmulator))
	} else {
		check.project = c.onProject(ctx)
		findings = append(findings, check.queries())
	}
	return append(findings, check.objects(ctx)...)
}

// A bigQueryCheck is the checks of one dataset.
type bigQueryCheck struct {
	*checker
	tables   *bigquerytables.Tables
	project  permissions
	emulated bool
	stream   bool // rows are appended by one
}

// queries checks that queries can be run: those of audits, and of flushes of windows
// whose counters have expired.
func (c *bigQueryCheck) queries() Finding {
	project := c.settings.Project
	switch {
	case c.project.err != nil:
		return c.undetermined("project "+project+": what "+c.account.String()+" may do there", c.project.err)
	case !c.project.may[runJobs]:
		return problem([]string{c.grantOnProject("roles/bigquery.jobUser")}, "project %s: %s may not run queries (%s)", project, c.account, runJobs)
	}
	return ok("project %s: %s may run queries", project, c.account)
}

func (c *checker) grantOnProject(role string) string {
	return "gcloud projects add-iam-policy-binding " + c.settings.Project + " --member=" + c.account.grantee() + " --role=" + role
}

// objects checks dataset, tables and views.
func (c *bigQueryCheck) objects(ctx context.Context) []Finding {
	objects := c.tables.Inspect(ctx)
	dataset := objects[0]
	if dataset.Missing {
		return []Finding{c.missingDataset(dataset)}
	}
	var findings []Finding
	for _, o := range objects {
		switch {
		case o.Missing:
			findings = append(findings, c.missing(o))
		case o.Err != nil && isDenied(o.Err):
			f := c.undetermined(title(o), o.Err)
			f.Do = []string{"GRANT `roles/bigquery.metadataViewer` ON SCHEMA `" + dataset.ID + "` TO \"" + c.account.grantee() + "\";"}
			findings = append(findings, f)
		case o.Err != nil:
			findings = append(findings, c.failed(title(o), o.Err))
		default:
			findings = append(findings, c.object(ctx, o)...)
		}
	}
	return findings
}

func title(o bigquerytables.Object) string { return string(o.Kind) + " " + o.ID }

// missingDataset is the finding of a dataset that is not there. Who makes it may
// make tables in it.
func (c *bigQueryCheck) missingDataset(o bigquerytables.Object) Finding {
	s := c.settings
	do := []string{"bq --project_id=" + s.Project + " --location=" + s.BigQueryLocation + " mk --dataset " + s.Dataset}
	switch {
	case c.emulated, c.project.may[makeDatasets]:
		return ok("%s: will be made by the first push, in %s, with its tables and views", title(o), s.BigQueryLocation)
	case c.project.err != nil:
		return warning(do, "%s: it does not exist, and whether %s may make it is not known", title(o), c.account)
	}
	return problem(append(do, "or: "+c.grantOnProject("roles/bigquery.user")), "%s: it does not exist, and %s may not make it (%s)", title(o), c.account, makeDatasets)
}

// missing is the finding of a table or view that is not there. A table is made by what
// needs it, and the views along with it, or else by the flush that publishes counts.
func (c *bigQueryCheck) missing(o bigquerytables.Object) Finding {
	if c.emulated || c.project.may[makeTables] {
		return ok("%s: will be made by the first push or flush that needs it", title(o))
	}
	// A grant on the dataset does not show on the project.
	return warning([]string{"GRANT `roles/bigquery.dataEditor` ON SCHEMA `" + c.settings.Project + "." + c.settings.Dataset + "` TO \"" + c.account.grantee() + "\"; -- if there is no such grant"},
		"%s: it does not exist; the first push or flush that needs it makes it, if %s may make tables in the dataset, which is not known (%s)", title(o), c.account, makeTables)
}

// object checks a dataset, table or view that is there.
func (c *bigQueryCheck) object(ctx context.Context, o bigquerytables.Object) []Finding {
	var findings []Finding
	for _, f := range o.Faults {
		findings = append(findings, problem(f.Mend, "%s: %s", title(o), f.What))
	}
	if o.Kind == bigquerytables.BaseTable && len(o.Faults) > 0 {
		last := &findings[len(findings)-1]
		last.Do = append(slices.Clone(last.Do), "-- or, where the table is another program's, leave it alone and choose another DATASET")
	}
	for _, f := range o.Differences {
		findings = append(findings, warning(f.Mend, "%s: %s", title(o), f.What))
	}
	if findings == nil {
		findings = append(findings, ok("%s: as this version makes it", title(o)))
	}
	if o.Kind != bigquerytables.BaseTable {
		return findings
	}
	if !c.emulated {
		findings = append(findings, c.onTable(ctx, o))
	}
	if o.Name == c.settings.Tables.Raw && c.stream && len(o.Faults) == 0 {
		findings = append(findings, c.openStream(ctx, o))
	}
	return findings
}

// onTable checks what the account may do on a table.
func (c *bigQueryCheck) onTable(ctx context.Context, o bigquerytables.Object) Finding {
	lacking, err := c.tables.Lacking(ctx, o.Name)
	switch {
	case err != nil:
		return c.undetermined(title(o)+": what "+c.account.String()+" may do there", err)
	case len(lacking) > 0:
		return problem([]string{"GRANT `roles/bigquery.dataEditor` ON TABLE `" + o.ID + "` TO \"" + c.account.grantee() + "\";"},
			"%s: %s lacks %s", title(o), c.account, strings.Join(lacking, ", "))
	}
	return ok("%s: %s may append to it and read it", title(o), c.account)
}

// openStream checks that the API answers by which rows are appended.
func (c *bigQueryCheck) openStream(ctx context.Context, o bigquerytables.Object) Finding {
	err := c.tables.OpenStream(ctx, o.Name)
	switch {
	case isDenied(err):
		return c.undetermined("Storage Write API: whether the stream of "+o.ID+" opens", err)
	case err != nil:
		return c.failed("Storage Write API", err)
	}
	return ok("Storage Write API: the stream of %s opens", o.ID)
}

// firestore checks the counters in Firestore.
func (c *checker) firestore(ctx context.Context) []Finding {
	s := c.settings
	config := firestoreConfig(s)
	if c.firestoreHost != "" {
		config.EmulatorHost = c.firestoreHost
	}
	if s.FirestoreEmulator != "" {
		return append([]Finding{warning(nil, "Firestore emulator at %s: TTL and index exemptions are not checked, for an emulator has neither", s.FirestoreEmulator)},
			c.documents(ctx, config)...)
	}
	adminConfig := config
	if c.adminHost != "" {
		adminConfig.EmulatorHost = c.adminHost
	}
	admin, err := firestoredocs.OpenAdmin(ctx, adminConfig)
	if err != nil {
		return []Finding{c.failed("Firestore", err)}
	}
	defer admin.Close()
	database, state, usable := c.database(ctx, admin)
	if !usable {
		return []Finding{database}
	}
	findings := append([]Finding{database}, c.documents(ctx, config)...)
	return append(findings, c.fields(ctx, admin, state)...)
}

func (c *checker) databaseTitle() string {
	return "Firestore database " + c.settings.FirestoreDatabase + " of project " + c.settings.Project
}

// database checks that the database is there. It is not usable where it is certain
// that nothing can be kept in it.
func (c *checker) database(ctx context.Context, admin *firestoredocs.Admin) (f Finding, state firestoredocs.DatabaseState, usable bool) {
	state, err := admin.Database(ctx)
	switch {
	case status.Code(err) == codes.NotFound:
		return c.missingDatabase(), state, false
	case isDenied(err):
		return c.undetermined(c.databaseTitle()+": how it is set up", err), state, true
	case err != nil:
		return c.failed(c.databaseTitle(), err), state, disabledService(err) == ""
	case !state.Native:
		return problem([]string{
			c.makeDatabase("tidemark"),
			"FIRESTORE_DATABASE=tidemark",
		}, "%s: it is in Datastore mode, want native mode", c.databaseTitle()), state, false
	}
	return ok("%s: in native mode", c.databaseTitle()), state, true
}

func (c *checker) missingDatabase() Finding {
	return problem([]string{c.makeDatabase(c.settings.FirestoreDatabase), "-- REGION is where the service runs, as us-central1"}, "%s: it does not exist", c.databaseTitle())
}

func (c *checker) makeDatabase(name string) string {
	return "gcloud firestore databases create --project=" + c.settings.Project + " --database=" + shellQuote(name) + " --location=REGION --type=firestore-native"
}

// documents checks that documents can be read and written, and that the pipeline's
// record fits.
func (c *checker) documents(ctx context.Context, config firestoredocs.Config) []Finding {
	counters, err := openFirestore(ctx, c.settings, config)
	if err != nil {
		return []Finding{c.failed(c.databaseTitle(), err)}
	}
	defer counters.Close()
	record, readable := c.record(ctx, counters)
	if !readable {
		return []Finding{record}
	}
	return []Finding{record, c.write(ctx, counters)}
}

func (c *checker) record(ctx context.Context, counters firestoreCounters) (f Finding, readable bool) {
	recorded, err := counters.Recorded(ctx)
	if mismatch, found := errors.AsType[*windowstore.MeaningError](err); found {
		return meaningProblem(mismatch), true
	}
	switch {
	case status.Code(err) == codes.NotFound:
		return c.missingDatabase(), false
	case isDenied(err):
		return problem([]string{c.grantOnProject("roles/datastore.user")}, "%s: %s may not read it", c.databaseTitle(), c.account), false
	case err != nil:
		return c.failed(c.databaseTitle(), err), false
	case !recorded:
		return ok("pipeline %q: will be recorded by the first push", c.settings.Pipeline), true
	}
	return ok("pipeline %q: on record with these settings", c.settings.Pipeline), true
}

func (c *checker) write(ctx context.Context, counters firestoreCounters) Finding {
	err := counters.database.TryWrite(ctx, c.settings.Pipeline)
	switch {
	case isDenied(err):
		return problem([]string{c.grantOnProject("roles/datastore.user")}, "%s: %s may read it and not write it", c.databaseTitle(), c.account)
	case err != nil:
		return c.failed(c.databaseTitle(), err)
	case c.settings.FirestoreEmulator != "":
		return ok("%s: documents can be read and written", c.databaseTitle())
	}
	return ok("%s: %s may read and write documents", c.databaseTitle(), c.account)
}

// fields checks the indexes and the TTL of the shards. A problem is only an index that
// a query needs and lacks, or a TTL that deletes what is still to be counted. Without
// TTL, what is settled stays. An index too many makes writes slower: at two entries a
// batch and one batch a second, a document of one window takes five hours to reach the
// 40,000 that it can have, and then only that one commit is refused.
func (c *checker) fields(ctx context.Context, admin *firestoredocs.Admin, database firestoredocs.DatabaseState) []Finding {
	group := "collection group " + firestoredocs.ShardsCollection
	states, err := admin.Fields(ctx)
	switch {
	case isDenied(err):
		return []Finding{c.undetermined(group+": whether its TTL and index exemptions are set", err)}
	case err != nil:
		return []Finding{c.failed(group, err)}
	}
	var findings []Finding
	if database.Enterprise {
		findings = append(findings, warning([]string{"use a database of the Standard edition, or index by hand: " + strings.Join(needed(states), ", ")},
			"%s: the database is of the Enterprise edition, which indexes nothing by itself; indexes are not checked", group))
	}
	for _, f := range states {
		findings = append(findings, c.ttl(group, f)...)
		if !database.Enterprise {
			findings = append(findings, c.index(group, f)...)
		}
	}
	return findings
}

func needed(states []firestoredocs.FieldState) []string {
	var names []string
	for _, f := range states {
		if f.Index == firestoredocs.IndexNeeded {
			names = append(names, f.Name)
		}
	}
	return names
}

func (c *checker) ttl(group string, f firestoredocs.FieldState) []Finding {
	update := c.updateField("fields ttls", f.Name)
	switch {
	case f.TTL && f.TTLSet:
		return []Finding{ok("%s: documents expire by %s", group, f.Name)}
	case f.TTL:
		return []Finding{warning([]string{update + " --enable-ttl"}, "%s: documents do not expire by %s, so that settled counters stay for ever", group, f.Name)}
	case f.TTLSet:
		return []Finding{problem([]string{update + " --disable-ttl"}, "%s: documents expire by %s, so that counters are deleted that are still to be counted", group, f.Name)}
	}
	return nil
}

func (c *checker) index(group string, f firestoredocs.FieldState) []Finding {
	update := c.updateField("indexes fields", f.Name)
	switch {
	case f.Index == firestoredocs.IndexNeeded && !f.Ascending:
		return []Finding{problem([]string{update + " --index=order=ASCENDING"}, "%s: %s has no ascending index, without which no flush finds a window", group, f.Name)}
	case f.Index == firestoredocs.IndexNeeded:
		return []Finding{ok("%s: %s is indexed", group, f.Name)}
	case f.Index == firestoredocs.IndexExempt && f.Indexed:
		return []Finding{warning([]string{update + " --disable-indexes"}, "%s: %s is indexed, so that each write is slower and takes more storage", group, f.Name)}
	case f.Index == firestoredocs.IndexExempt:
		return []Finding{ok("%s: %s is exempt from indexes", group, f.Name)}
	}
	return nil
}

func (c *checker) updateField(command, field string) string {
	return "gcloud firestore " + command + " update " + shellQuote(field) + " --project=" + c.settings.Project +
		" --database=" + shellQuote(c.settings.FirestoreDatabase) + " --collection-group=" + firestoredocs.ShardsCollection
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
