package check

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/api/cloudresourcemanager/v1"
	"google.golang.org/api/option"

	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// permissions are the permissions of an account on the project.
type permissions struct {
	may map[string]bool
	err error // why the permissions are not known
}

// The permissions to look for on the project. The first two can be granted on a project,
// but not on a dataset or a table.
const (
	runJobs        = "bigquery.jobs.create"
	createDatasets = "bigquery.datasets.create"
	createTables   = "bigquery.tables.create"
)

// onProject asks which of these permissions the account has on the project. The account
// may have more permissions on a dataset or a table; the answer does not include those.
func (c *checker) onProject(ctx context.Context) permissions {
	ctx, cancel := context.WithTimeout(ctx, settings.StepTimeout)
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
		Permissions: []string{runJobs, createDatasets, createTables},
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
	config := service.BigQueryConfig(s)
	if c.bigQueryHost != "" {
		config.RESTHost = c.bigQueryHost
	}
	if c.storageHost != "" {
		config.GRPCHost = c.storageHost
	}
	tables, err := bigquerytables.New(ctx, config)
	if err != nil {
		return []Finding{c.failed("BigQuery", err)}
	}
	defer tables.Close()
	var findings []Finding
	check := &bigQueryCheck{checker: c, tables: tables, emulated: s.BigQueryEmulator != "", stream: s.RawMethod == "storage_write"}
	if check.emulated {
		findings = append(findings, warning(nil, "BigQuery emulator at %s: permissions are not checked, for an emulator asks for none", s.BigQueryEmulator))
	} else {
		check.project = c.onProject(ctx)
		findings = append(findings, check.queries())
	}
	return append(findings, check.objects(ctx)...)
}

// A bigQueryCheck runs the checks of one dataset.
type bigQueryCheck struct {
	*checker
	tables   *bigquerytables.Warehouse
	project  permissions
	emulated bool
	stream   bool // rows are appended through a stream
}

// queries checks that the account may run queries. Audits need queries, and so do flushes
// of windows whose counters have expired.
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

// objects checks the dataset, its tables and its views.
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

// missingDataset returns the finding for a dataset that does not exist. An account that
// creates a dataset may also create tables in it.
func (c *bigQueryCheck) missingDataset(o bigquerytables.Object) Finding {
	s := c.settings
	do := []string{"bq --project_id=" + s.Project + " --location=" + s.BigQueryLocation + " mk --dataset " + s.Dataset}
	switch {
	case c.emulated, c.project.may[createDatasets]:
		return ok("%s: will be created by the first push, in %s, with its tables and views", title(o), s.BigQueryLocation)
	case c.project.err != nil:
		return warning(do, "%s: it does not exist, and whether %s may create it is not known", title(o), c.account)
	}
	return problem(append(do, "or: "+c.grantOnProject("roles/bigquery.user")), "%s: it does not exist, and %s may not create it (%s)", title(o), c.account, createDatasets)
}

// missing returns the finding for a table or view that does not exist. The first push or
// flush that needs a table creates all tables and views. If the views are still missing
// later, the flush that publishes counts creates them.
func (c *bigQueryCheck) missing(o bigquerytables.Object) Finding {
	if c.emulated || c.project.may[createTables] {
		return ok("%s: will be created by the first push or flush that needs it", title(o))
	}
	// The project's permissions do not show a grant on the dataset.
	return warning([]string{"GRANT `roles/bigquery.dataEditor` ON SCHEMA `" + c.settings.Project + "." + c.settings.Dataset + "` TO \"" + c.account.grantee() + "\"; -- if there is no such grant"},
		"%s: it does not exist; the first push or flush that needs it creates it, if %s may create tables in the dataset, which is not known (%s)", title(o), c.account, createTables)
}

// object checks a dataset, table or view that exists.
func (c *bigQueryCheck) object(ctx context.Context, o bigquerytables.Object) []Finding {
	var findings []Finding
	for _, f := range o.Faults {
		findings = append(findings, problem(f.Fix, "%s: %s", title(o), f.What))
	}
	if o.Kind == bigquerytables.BaseTable && len(o.Faults) > 0 {
		last := &findings[len(findings)-1]
		last.Do = append(slices.Clone(last.Do), "-- or, where the table is another program's, leave it alone and choose another DATASET")
	}
	for _, f := range o.Differences {
		findings = append(findings, warning(f.Fix, "%s: %s", title(o), f.What))
	}
	if findings == nil {
		findings = append(findings, ok("%s: as this version creates it", title(o)))
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

// onTable checks the account's permissions on a table.
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

// openStream checks that the API that appends rows responds.
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
