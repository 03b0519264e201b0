package infra_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/windowstore/firestorecounters"
)

// environment returns the source text of the service's environment variables.
func (m *module) environment(t *testing.T) map[string]string {
	t.Helper()
	run := m.resource(t, "google_cloud_run_v2_service.tidemark")
	found := map[string]string{}
	for _, item := range m.environmentItems(t) {
		found[string(item.KeyExpr.Range().SliceBytes(run.source))] = string(item.ValueExpr.Range().SliceBytes(run.source))
	}
	return found
}

// environmentItems returns the service's own environment variables, which override
// var.settings.
func (m *module) environmentItems(t *testing.T) []hclsyntax.ObjectConsItem {
	t.Helper()
	call, ok := m.locals["environment"].(*hclsyntax.FunctionCallExpr)
	if !ok || call.Name != "merge" || len(call.Args) != 3 || m.textOf(call.Args[0]) != "var.settings" {
		t.Fatal("local.environment is not a merge of var.settings with the service's own and PIPELINE_FILE")
	}
	object, ok := call.Args[1].(*hclsyntax.ObjectConsExpr)
	if !ok {
		t.Fatal("the second part of local.environment is no object") // then var.settings would override it
	}
	return object.Items
}

// notForCloudRun are the settings that no deployment sets.
var notForCloudRun = []string{
	"PORT", "HOST", // Cloud Run sets them
	"DATA_DIR",      // for BACKEND=local
	"ALLOWED_HOSTS", // for AUTH=none
	"FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST",
}

// Every environment variable is a setting or Go's own. Either run.tf or var.settings can set
// each setting, but never both.
func TestEnvironment(t *testing.T) {
	m := load(t)
	known := []string{"GOMEMLIMIT"}
	for _, setting := range settings.Table() {
		if !slices.Contains(notForCloudRun, setting.Name) {
			known = append(known, setting.Name)
		}
	}
	slices.Sort(known)

	set := append(slices.Collect(maps.Keys(m.environment(t))), m.allowedSettings(t)...)
	set = append(set, "PIPELINE_FILE") // only with a file: TestServiceTakesItsEnvironment
	slices.Sort(set)
	if diff := cmp.Diff(known, set); diff != "" {
		t.Errorf("settings of the service, and those that run.tf and var.settings set (-service +infra):\n%s", diff)
	}
}

// allowedSettings returns the names that the validation of var.settings allows.
func (m *module) allowedSettings(t *testing.T) []string {
	t.Helper()
	var names []string
	_ = hclsyntax.VisitAll(m.variables["settings"].blocks("validation")[0].Attributes["condition"].Expr, func(node hclsyntax.Node) hcl.Diagnostics {
		if list, ok := node.(*hclsyntax.TupleConsExpr); ok {
			for _, e := range list.Exprs {
				value, _ := e.Value(nil)
				names = append(names, value.AsString())
			}
		}
		return nil
	})
	if len(names) == 0 {
		t.Fatal("the validation of var.settings has no list")
	}
	return names
}

// With the variables at their defaults, these settings have the service's own defaults.
func TestDefaults(t *testing.T) {
	m := load(t)
	defaults := map[string]string{}
	for _, setting := range settings.Table() {
		defaults[setting.Name] = setting.Default
	}
	for _, item := range m.environmentItems(t) {
		name := string(item.KeyExpr.Range().SliceBytes(m.sources["run.tf"]))
		if !slices.Contains([]string{"PIPELINE", "WINDOW_DURATION", "ALLOWED_LATENESS", "COUNTER_RETENTION", "BIGQUERY_LOCATION", "FLUSH_TIMEOUT"}, name) {
			continue
		}
		got := m.evaluate(t, item.ValueExpr, nil).AsString()
		if !equalText(got, defaults[name]) {
			t.Errorf("%s is %s, the service's default %s", name, got, defaults[name])
		}
	}
}

// equalText reports whether two values of a setting are equal. 60s and 1m are equal.
func equalText(a, b string) bool {
	x, errX := durations.Parse(a)
	y, errY := durations.Parse(b)
	return a == b || errX == nil && errY == nil && x == y
}

// The service accepts every value that run.tf sets, and run.tf sets everything that the
// service requires on Cloud Run. The service gets a pipeline file as it is.
func TestServiceTakesItsEnvironment(t *testing.T) {
	m := load(t)
	for name, given := range deployments(t) {
		t.Run(name, func(t *testing.T) {
			s := m.deployed(t, given)
			environment := m.environmentOf(t, given)
			path, ok := given["pipeline_file"]
			if text, found := environment["PIPELINE_FILE"]; found != ok {
				t.Errorf("PIPELINE_FILE is set: %v, want %v", found, ok)
			} else if ok {
				compare(t, "PIPELINE_FILE", text, readFile(t, path.AsString())+"\n")
			}
			closes := m.evaluate(t, m.outputs["closes_after"].Attributes["value"].Expr, given)
			compare(t, "closes_after", closes, cty.NumberIntVal(int64((s.WindowDuration+s.AllowedLateness+10*time.Second)/time.Second)))
		})
	}
}

// deployedTo returns the variables of a deployment to a project that exists.
func deployedTo(given map[string]cty.Value) map[string]cty.Value {
	all := map[string]cty.Value{"project": cty.StringVal("my-project-123")}
	maps.Copy(all, given)
	return all
}

// environmentOf returns the environment of the service in a deployment.
func (m *module) environmentOf(t *testing.T, given map[string]cty.Value) map[string]string {
	t.Helper()
	account := func(name string) cty.Value {
		return cty.ObjectVal(map[string]cty.Value{"email": cty.StringVal(name + "@my-project-123.iam.gserviceaccount.com")})
	}
	environment := map[string]string{"K_SERVICE": "tidemark", "PORT": "8080"} // which Cloud Run sets
	for name, value := range m.evaluateWith(t, m.locals["environment"], deployedTo(given), map[string]cty.Value{
		"google_service_account": cty.ObjectVal(map[string]cty.Value{
			"pusher": account("tidemark-pusher"), "scheduler": account("tidemark-scheduler"), "viewer": account("tidemark-viewer"),
		}),
	}).AsValueMap() {
		environment[name] = value.AsString()
	}
	return environment
}

// deployed returns the settings of the service in a deployment.
func (m *module) deployed(t *testing.T, given map[string]cty.Value) settings.Settings {
	t.Helper()
	environment := m.environmentOf(t, given)
	s, err := settings.Load(nil, func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// GOMEMLIMIT is below the instance's memory, so that Go collects garbage before the memory
// is full. The rest is for the program's code, which is in memory too.
func TestMemoryLimit(t *testing.T) {
	m := load(t)
	container := m.resource(t, "google_cloud_run_v2_service.tidemark").block(t, "template", "containers")
	memory := m.value(t, container.block(t, "resources"), "limits").GetAttr("memory").AsString()
	limit := strings.Trim(m.environment(t)["GOMEMLIMIT"], `"`)
	has, uses := mebibytes(t, memory, "Mi", "Gi"), mebibytes(t, limit, "MiB", "GiB")
	if uses < has*80/100 || uses > has*92/100 {
		t.Errorf("GOMEMLIMIT is %s of %s, want 80 to 92 %% of it", limit, memory)
	}
	commands := 0
	for path, text := range documents(t) {
		for command := range strings.SplitSeq(strings.ReplaceAll(text, "\\\n", ""), "\n") {
			if !strings.Contains(command, "--set-env-vars=") {
				continue
			}
			commands++
			if !strings.Contains(command, "--memory="+memory+" ") || !strings.Contains(command, "GOMEMLIMIT="+limit+",") {
				t.Errorf("%s: want --memory=%s and GOMEMLIMIT=%s in %s", path, memory, limit, command)
			}
		}
	}
	if commands != 2 {
		t.Errorf("%d commands deploy the service, want the lab's and the one for a function", commands)
	}
}

// mebibytes returns the mebibytes of a whole number with one of two units.
func mebibytes(t *testing.T, text, mebi, gibi string) int {
	t.Helper()
	digits, factor := strings.TrimSuffix(text, mebi), 1
	if strings.HasSuffix(text, gibi) {
		digits, factor = strings.TrimSuffix(text, gibi), 1024
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	return n * factor
}

// Redelivery loses nothing. No policy moves messages elsewhere, a message expires before its
// counter does, and Pub/Sub waits for a slow answer.
func TestSubscription(t *testing.T) {
	m := load(t)
	if subscriptions := m.ofType("google_pubsub_subscription"); len(subscriptions) != 1 {
		t.Errorf("%d subscriptions, want one: another one would deliver everything again", len(subscriptions))
	}
	push := m.resource(t, "google_pubsub_subscription.push")
	compare(t, "dead_letter_policy blocks", len(push.blocks("dead_letter_policy")), 0)
	compare(t, "ack_deadline_seconds", m.number(t, push, "ack_deadline_seconds"), 60)
	compare(t, "expiration_policy.ttl", m.value(t, push.block(t, "expiration_policy"), "ttl"), cty.StringVal(""))
	compare(t, "message_retention_duration", push.text("message_retention_duration"), `"${var.message_retention_hours * 3600}s"`)
	compare(t, "COUNTER_RETENTION", m.environment(t)["COUNTER_RETENTION"], `"${var.counter_retention_hours}h"`)
	compare(t, "no_wrapper blocks", len(push.block(t, "push_config").blocks("no_wrapper")), 0)
	retry := push.block(t, "retry_policy")
	if shortest, longest := m.seconds(t, retry, "minimum_backoff"), m.seconds(t, retry, "maximum_backoff"); shortest > longest || longest > time.Minute {
		t.Errorf("messages come again after %v to %v, want at most a minute", shortest, longest)
	}
}

// Whatever runs inside a time limit ends within the limit, with a margin for the network.
func TestEachTimeLimitLeavesRoomForWhatIsInsideIt(t *testing.T) {
	m := load(t)
	job := m.resource(t, "google_cloud_scheduler_job.flush")
	push := m.resource(t, "google_pubsub_subscription.push")
	template := m.resource(t, "google_cloud_run_v2_service.tidemark").block(t, "template")
	startup := template.block(t, "containers").block(t, "startup_probe")
	flush, err := time.ParseDuration(strings.Trim(m.environment(t)["FLUSH_TIMEOUT"], `"`))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Duration(m.number(t, startup, "period_seconds")*m.number(t, startup, "failure_threshold")) * time.Second
	ack := time.Duration(m.number(t, push, "ack_deadline_seconds")) * time.Second
	attempt, request := m.seconds(t, job, "attempt_deadline"), m.seconds(t, template, "timeout")
	hours := func(variable string) time.Duration {
		n, _ := m.value(t, m.variables[variable], "default").AsBigFloat().Int64()
		return time.Duration(n) * time.Hour
	}
	const sigkill = 10 * time.Second // after SIGTERM, on Cloud Run
	for _, tc := range []struct {
		inside                string
		takes, margin, within time.Duration
		limit                 string
	}{
		{"the longest commit interval and two writes", settings.MaxCommitInterval + 2*settings.StepTimeout, 0, settings.PushTimeout, "a push"},
		{"a push to an instance that is still starting", start + settings.PushTimeout, time.Second, ack, "the ack deadline"},
		{"the headers of a request", settings.ReadHeaderTimeout, time.Second, settings.ReadTimeout, "the whole request"},
		{"a request that arrives slowly", settings.ReadTimeout, 0, ack, "the ack deadline"},

		{"a flush", flush, 5 * time.Second, attempt, "an attempt of the scheduler's job"},
		{"an attempt of the scheduler's job", attempt, 0, time.Minute, "the time to the next"},
		{"a flush by an instance that is still starting", start + flush, 5 * time.Second, request, "a request on Cloud Run"},
		{"the longest flush", settings.MaxFlushTimeout, 5 * time.Second, request, "a request on Cloud Run"},
		{"the longest flush", settings.MaxFlushTimeout, 5 * time.Second, settings.WriteTimeout, "its answer"},
		{"a push", settings.PushTimeout, 5 * time.Second, settings.WriteTimeout, "its answer"},
		{"a request on Cloud Run", request, 0, settings.WriteTimeout, "its answer"},

		{"storing what was accepted", settings.ShutdownGrace, time.Second, settings.ShutdownTimeout, "the shutdown of the server"},
		{"the shutdown of the server, and of the stores", settings.ShutdownTimeout + settings.CloseTimeout, 500 * time.Millisecond, sigkill, "the time to SIGKILL"},

		{"the retention of messages", hours("message_retention_hours"), 24 * time.Hour, hours("counter_retention_hours"), "the retention of counters"},
	} {
		if tc.takes+tc.margin > tc.within {
			t.Errorf("%s: %v, and %v of margin: more than the %v of %s", tc.inside, tc.takes, tc.margin, tc.within, tc.limit)
		}
	}
	compare(t, "schedule", m.value(t, job, "schedule"), cty.StringVal("* * * * *"))
	compare(t, "retry_count", m.number(t, job.block(t, "retry_config"), "retry_count"), 3)
}

func (m *module) seconds(t *testing.T, b block, name string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(m.value(t, b, name).AsString())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Fields without indexes here are those that the code wants without indexes. The others keep
// Firestore's own indexes. The TTL is on the field that the code names.
func TestFirestoreFields(t *testing.T) {
	m := load(t)
	fields := m.resource(t, "google_firestore_field.counters")
	want := map[string]bool{} // whether it is the TTL field
	for _, f := range firestorecounters.ShardFields() {
		if f.Index == firestorecounters.IndexExempt || f.TTL {
			want[f.Name] = f.TTL
		}
	}
	got := map[string]bool{}
	for name, v := range m.value(t, fields, "for_each").AsValueMap() {
		got[name] = v.GetAttr("ttl").True()
	}
	compare(t, "fields", got, want)
	compare(t, "collection", m.value(t, fields, "collection"), cty.StringVal(firestorecounters.ShardsCollection))
	compare(t, "field", fields.text("field"), "each.key")
	compare(t, "database", fields.text("database"), "google_firestore_database.counters.name")
	if index := fields.block(t, "index_config"); len(index.Attributes)+len(index.Blocks) > 0 {
		t.Error("index_config is not empty, so the fields have indexes")
	}
	for _, b := range fields.Blocks {
		if b.Type == "dynamic" && b.Labels[0] == "ttl_config" {
			compare(t, "ttl_config for", block{b.Body, fields.source}.text("for_each"), "each.value.ttl ? [1] : []")
			return
		}
	}
	t.Error("no ttl_config")
}

// By default an idle service costs nothing: no instance is kept, and no instance has a
// processor between requests.
func TestService(t *testing.T) {
	m := load(t)
	service := m.resource(t, "google_cloud_run_v2_service.tidemark")
	template := service.block(t, "template")
	container := template.block(t, "containers")
	compare(t, "execution_environment", m.value(t, template, "execution_environment"), cty.StringVal("EXECUTION_ENVIRONMENT_GEN2"))
	compare(t, "min_instance_count", m.number(t, template.block(t, "scaling"), "min_instance_count"), 0)
	compare(t, "max_instance_count", template.block(t, "scaling").text("max_instance_count"), "var.max_instances")
	compare(t, "max_instance_request_concurrency", template.text("max_instance_request_concurrency"), "var.concurrency")
	cpuIdle := container.block(t, "resources").Attributes["cpu_idle"].Expr
	compare(t, "cpu_idle", m.evaluate(t, cpuIdle, nil), cty.True)
	compare(t, "cpu_idle, billed by instance", m.evaluate(t, cpuIdle, map[string]cty.Value{"billing": cty.StringVal("instance")}), cty.False)
	for _, probe := range []string{"startup_probe", "liveness_probe"} {
		compare(t, probe, m.value(t, container.block(t, probe, "http_get"), "path"), cty.StringVal("/health"))
	}
	env := container.block(t, "env")
	compare(t, "env", env.text("name")+" = "+env.text("value"), "env.key = env.value")
	ignored := service.block(t, "lifecycle").text("ignore_changes")
	if !strings.Contains(ignored, "template[0].containers[0].image") {
		t.Errorf("ignore_changes is %s: an apply would roll the image back", ignored)
	}
	// gcloud run services update sets a label on the revision.
	if !strings.Contains(ignored, "template[0].labels") {
		t.Errorf("ignore_changes is %s: each apply after a roll-out would create a revision", ignored)
	}
}

// One variable protects everything that holds data, and nothing else does: make destroy
// turns only this variable off.
func TestDeletionProtection(t *testing.T) {
	m := load(t)
	database := m.resource(t, "google_firestore_database.counters")
	compare(t, "delete_protection_state", database.text("delete_protection_state"),
		`var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"`)
	compare(t, "deletion_policy", m.value(t, database, "deletion_policy"), cty.StringVal("DELETE"))
	compare(t, "deletion_policy of the fields", m.resource(t, "google_firestore_field.counters").text("deletion_policy"), quote("ABANDON"))
	compare(t, "delete_contents_on_destroy", m.resource(t, "google_bigquery_dataset.logs").text("delete_contents_on_destroy"), "!var.deletion_protection")
	compare(t, "default", m.evaluate(t, m.variables["deletion_protection"].Attributes["default"].Expr, nil), cty.True)
	for name, b := range m.resources {
		if got := b.text("deletion_protection"); got != "" && got != "false" && got != "var.deletion_protection" {
			t.Errorf("%s: deletion_protection is %s", name, got)
		}
		for _, lifecycle := range b.blocks("lifecycle") {
			if lifecycle.text("prevent_destroy") != "" {
				t.Errorf("%s has prevent_destroy, which make destroy cannot turn off", name)
			}
		}
	}
}
