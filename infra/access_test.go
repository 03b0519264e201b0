package infra_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// grants lists who may do what on which resource. The list is complete: whoever adds a
// grant, or widens a role or a resource, must change this list too.
var grants = []string{
	"pusher: roles/run.invoker on service tidemark",
	"scheduler: roles/run.invoker on service tidemark",
	"viewer: roles/run.invoker on service tidemark",

	"runtime: its own role on table raw",
	"runtime: its own role on table windowed_traffic_log",
	"runtime: its own role on table dead_letter",
	"runtime: roles/bigquery.metadataViewer on the dataset",
	"runtime: roles/bigquery.jobUser on the project",
	"runtime: roles/datastore.user on the project if " +
		`"resource.name == \"projects/${var.project}/databases/${google_firestore_database.counters.name}\""`,

	"Pub/Sub: roles/iam.serviceAccountTokenCreator on account pusher",
	"people: roles/iam.serviceAccountTokenCreator on account viewer",

	"builder: roles/storage.objectViewer on bucket builds",
	"builder: roles/artifactregistry.writer on repository images",
	"builder: roles/logging.logWriter on the project",
}

func TestGrants(t *testing.T) {
	m := load(t)
	var found []string
	for name, b := range m.resources {
		kind, _, _ := strings.Cut(name, ".")
		switch {
		case strings.HasSuffix(kind, "_iam_member"):
			found = append(found, grantsOf(t, kind, b)...)
		case strings.HasSuffix(kind, "_iam_custom_role"): // TestRuntimeRole
		case strings.Contains(kind, "_iam_"), strings.HasSuffix(kind, "_access"):
			t.Errorf("%s: want a grant to a single member: a binding or a policy would remove the grants of others", name)
		case strings.Contains(kind, "service_account_key"):
			t.Errorf("%s: no account has a key", name)
		}
	}
	slices.Sort(found)
	want := slices.Sorted(slices.Values(grants))
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
}

// The service's own role has exactly the permissions that tidemark check looks for on a
// table: with fewer, a push fails; more are not needed. Terraform creates the tables and
// views. Another role, which reads no data, lets the service run queries.
func TestRuntimeRole(t *testing.T) {
	m := load(t)
	roles := m.ofType("google_project_iam_custom_role")
	role, ok := roles["google_project_iam_custom_role.runtime"]
	if !ok || len(roles) != 1 {
		t.Fatalf("custom roles %v, want the runtime's alone", slices.Collect(maps.Keys(roles)))
	}
	var got []string
	for _, permission := range m.value(t, role, "permissions").AsValueSlice() {
		got = append(got, permission.AsString())
	}
	if diff := cmp.Diff(bigquerytables.TablePermissions(), got); diff != "" {
		t.Errorf("permissions (-check +role):\n%s", diff)
	}
	for _, permission := range got {
		if strings.HasSuffix(permission, ".create") || strings.HasSuffix(permission, ".update") || strings.HasSuffix(permission, ".delete") {
			t.Errorf("the service may do %s: only Terraform creates, changes and deletes tables and views", permission)
		}
	}
	if !slices.Contains(grants, "runtime: roles/bigquery.jobUser on the project") {
		t.Error("the service may not run queries")
	}
	// The id of a deleted role cannot be used again for 37 days, so each account gets a role
	// with a new id.
	id := m.evaluateWith(t, role.Attributes["role_id"].Expr, map[string]cty.Value{"name": cty.StringVal("my-long-name-of-20-ch")}, map[string]cty.Value{
		"google_service_account": cty.ObjectVal(map[string]cty.Value{"runtime": cty.ObjectVal(map[string]cty.Value{"unique_id": cty.StringVal("123456789012345678901")})}),
	}).AsString()
	if !regexp.MustCompile(`^[a-zA-Z0-9_.]{3,64}$`).MatchString(id) || !strings.HasSuffix(id, "123456789012345678901") {
		t.Errorf("role_id is %s, want letters, digits, _ and ., at most 64, and the account's unique id at the end", id)
	}
}

// grantsOf returns the grants of the resource: one, or one for each item of its for_each.
func grantsOf(t *testing.T, kind string, b block) []string {
	t.Helper()
	items := []string{"people"}
	if each, ok := b.Attributes["for_each"]; !ok {
		items = []string{""}
	} else if object, ok := each.Expr.(*hclsyntax.ObjectConsExpr); ok {
		items = nil
		for _, item := range object.Items {
			items = append(items, string(item.ValueExpr.Range().SliceBytes(b.source)))
		}
	} else if b.text("for_each") != `setunion(var.viewers, var.deployer == "" ? [] : [var.deployer])` {
		t.Fatalf("%s: for_each is %s, which this test cannot read", b.SrcRange, b.text("for_each"))
	}
	// What the grant can be on, the narrowest first.
	targets := []struct{ attribute, prefix, suffix, what string }{
		{"table_id", "google_bigquery_table.", ".table_id", "table "},
		{"dataset_id", "local.dataset_id", "", "the dataset"},
		{"service_account_id", "google_service_account.", ".name", "account "},
		{"name", "google_cloud_run_v2_service.", ".name", "service "},
		{"bucket", "google_storage_bucket.", ".name", "bucket "},
		{"repository", "google_artifact_registry_repository.", ".name", "repository "},
		{"project", "var.project", "", "the project"},
	}
	var found []string
	for _, item := range items {
		expand := func(text string) string { return strings.ReplaceAll(text, "each.value", item) }
		on := "something else"
		for _, target := range targets {
			text := expand(b.text(target.attribute))
			if text != "" && strings.HasPrefix(text, target.prefix) && strings.HasSuffix(text, target.suffix) {
				on = target.what + strings.TrimSuffix(strings.TrimPrefix(text, target.prefix), target.suffix)
				break
			}
		}
		role := strings.Trim(b.text("role"), `"`)
		if role == "google_project_iam_custom_role.runtime.name" {
			role = "its own role"
		}
		grant := grantee(expand(b.text("member"))) + ": " + role + " on " + on
		for _, condition := range b.blocks("condition") {
			grant += " if " + condition.text("expression")
		}
		if !strings.Contains(kind, targetKind(on)) {
			t.Errorf("%s grants on %s", kind, on)
		}
		found = append(found, grant)
	}
	return found
}

// targetKind returns a part of the Terraform type of a grant on this target.
func targetKind(on string) string {
	for word, kind := range map[string]string{
		"table ": "_bigquery_table_", "the dataset": "_bigquery_dataset_", "account ": "_service_account_", "service ": "_cloud_run_v2_service_",
		"bucket ": "_storage_bucket_", "repository ": "_artifact_registry_repository_", "the project": "_project_",
	} {
		if strings.HasPrefix(on, word) {
			return kind
		}
	}
	return "nothing"
}

func grantee(member string) string {
	if account, ok := strings.CutPrefix(member, "google_service_account."); ok {
		return strings.TrimSuffix(account, ".member")
	}
	switch member {
	case `"serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"`:
		return "Pub/Sub"
	}
	return member
}

// A caller needs a token whose audience is this service.
func TestCallers(t *testing.T) {
	m := load(t)
	service := m.resource(t, "google_cloud_run_v2_service.tidemark")
	environment := m.environment(t)
	compare(t, "AUTH", environment["AUTH"], `"iam"`)
	compare(t, "invoker_iam_disabled", m.value(t, service, "invoker_iam_disabled"), cty.False)
	compare(t, "custom_audiences", service.text("custom_audiences"), "[local.audience]")
	compare(t, "AUDIENCE", environment["AUDIENCE"], "local.audience")

	push := m.resource(t, "google_pubsub_subscription.push").block(t, "push_config")
	flush := m.resource(t, "google_cloud_scheduler_job.flush").block(t, "http_target")
	for _, c := range []struct {
		calls           block
		address, target string
		setting, route  string
	}{
		{push, push.text("push_endpoint"), "google_service_account.pusher.email", "PUSH_CALLERS", "/push"},
		{flush, flush.text("uri"), "google_service_account.scheduler.email", "FLUSH_CALLERS", "/flush"},
	} {
		token := c.calls.block(t, "oidc_token")
		compare(t, c.setting, environment[c.setting], c.target)
		compare(t, c.route+" is called by", token.text("service_account_email"), c.target)
		compare(t, c.route+" audience", token.text("audience"), "local.audience")
		compare(t, c.route+" address", c.address, `"${google_cloud_run_v2_service.tidemark.uri}`+c.route+`"`)
	}
	compare(t, "method of /flush", m.value(t, flush, "http_method"), cty.StringVal("POST"))
	compare(t, "VIEW_CALLERS", environment["VIEW_CALLERS"], "google_service_account.viewer.email")
	compare(t, "service_account", service.block(t, "template").text("service_account"), "google_service_account.runtime.email")
}

// Of the storage here, only a bucket could be made public by an ACL.
func TestBucketIsPrivate(t *testing.T) {
	m := load(t)
	for name, bucket := range m.ofType("google_storage_bucket") {
		t.Run(name, func(t *testing.T) {
			compare(t, "public_access_prevention", m.value(t, bucket, "public_access_prevention"), cty.StringVal("enforced"))
			compare(t, "uniform_bucket_level_access", m.value(t, bucket, "uniform_bucket_level_access"), cty.True)
		})
	}
}
