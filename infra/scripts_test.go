package infra_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A stage is a directory with a copy of the scripts, and with stubs of the commands that the
// scripts call. A stub records each call, and its answers depend on the test.
type stage struct {
	dir string
	env []string
}

// stub answers by the first case that matches its call. Environment variables of the script
// change some answers.
const stub = `#!/bin/sh
echo "$(basename "$0") $*" >> "$STAGE/calls"
case "$(basename "$0") $*" in
*"config get-value account") echo ann@example.com ;;
*"artifacts docker images describe"*) echo sha256:new ;;
*"run services describe"*) echo "${RUNNING:-us-central1-docker.pkg.dev/p/tidemark/tidemark@sha256:new}" ;;
"gcloud builds submit"*) exit "${BUILD:-0}" ;;
*"infra apply"*) exit "${APPLY:-0}" ;;
*"infra console")
	read -r expression
	case $expression in
	var.pipeline_file) printf '\nWarning: something\n\n"%s"\n' "${FILE:-}" ;;
	*) echo '"EMIT=early EVENT_TIME=publish"' ;;
	esac ;;
"go run "*)
	echo "in $(basename "$PWD") with EMIT=$EMIT EVENT_TIME=$EVENT_TIME" >> "$STAGE/calls"
	exit "${CHECK:-0}" ;;
"gcloud auth print-identity-token"*) echo token ;;
"git describe"*) echo v1 ;;
*"output -raw project") echo p-roject ;;
*"output -raw url") echo https://tidemark.run.app ;;
*"output -raw repository") echo us-central1-docker.pkg.dev/p/tidemark ;;
*"output -raw closes_after") echo -180 ;;
*"output -raw pipeline_file") echo "${FILE:-}" ;;
"gcloud pubsub topics publish"*) echo 7700 ;;
*"output -raw "*) echo "the-$4" ;;
*"state list") [ -f "$STAGE/destroyed" ] || echo google_bigquery_table.raw google_bigquery_dataset.logs[0] google_pubsub_topic.events[0] google_firestore_database.counters | tr ' ' '\n' ;;
*" destroy "*) touch "$STAGE/destroyed" ;;
"curl -s -w"*) printf '%s' "${STRANGER:-403}" ;;
"curl -sf"*) printf '%s\n' "${AUDIT:-{\"waiting\":[],\"lower\":[],\"higher\":[],\"more\":false\}}" ;;
"bq "*is_final*) echo "${FINAL:-true}" ;;
"bq "*"COUNT(DISTINCT event_id)"*) echo "${STORED:-5}" ;;
"bq "*FORMAT_TIMESTAMP*) echo 2026-03-14T09:26:00Z ;;
esac
`

func newStage(t *testing.T, env ...string) *stage {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash in PATH to run the scripts")
	}
	s := &stage{dir: t.TempDir()}
	for _, dir := range []string{"bin", "scripts", "infra"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, script := range scripts(t) {
		s.write(t, filepath.Join("scripts", filepath.Base(script)), readFile(t, script))
	}
	for _, command := range []string{"terraform", "gcloud", "bq", "curl", "git", "go"} {
		s.write(t, filepath.Join("bin", command), stub)
	}
	s.env = append([]string{
		"PATH=" + filepath.Join(s.dir, "bin") + ":" + filepath.Dir(bash) + ":/usr/bin:/bin", "STAGE=" + s.dir, "POLL_SECONDS=0",
	}, env...)
	return s
}

func scripts(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("../scripts/*.sh")
	if err != nil || len(found) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	return found
}

func (s *stage) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

const record = "infra/deploy.auto.tfvars.json"

const recordOfOld = `{
  "project": "p-roject",
  "region": "us-central1",
  "deployer": "user:ann@example.com",
  "image": "us-central1-docker.pkg.dev/p/tidemark/tidemark@sha256:old"
}
`

// run runs a script. It returns the script's output, whether the script succeeded, and its
// calls.
func (s *stage) run(t *testing.T, script string, env ...string) (output string, ok bool, calls []string) {
	t.Helper()
	cmd := exec.Command("bash", filepath.Join(s.dir, "scripts", script))
	cmd.Env = append(slices.Clone(s.env), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil, strings.Split(strings.TrimSpace(s.read(t, "calls")), "\n")
}

// inOrder checks that there are calls that begin with the wanted texts, in this order.
// Other calls may be between them.
func inOrder(t *testing.T, calls []string, want ...string) {
	t.Helper()
	i := 0
	for _, call := range calls {
		if i < len(want) && strings.HasPrefix(call, want[i]) {
			i++
		}
	}
	if i < len(want) {
		t.Errorf("no call %q in its place among:\n%s", want[i], strings.Join(calls, "\n"))
	}
}

func TestDeploy(t *testing.T) {
	s := newStage(t)
	out, ok, calls := s.run(t, "deploy.sh", "PROJECT=p-roject", "REGION=us-central1")
	if !ok {
		t.Fatal(out)
	}
	inOrder(t, calls,
		"terraform -chdir=infra init",
		"gcloud services enable cloudresourcemanager.googleapis.com --project=p-roject",
		"terraform -chdir=infra apply -target=",
		"gcloud builds submit . --project=p-roject --config=cloudbuild.yaml --substitutions=_IMAGE=us-central1-docker.pkg.dev/p/tidemark/tidemark:v1 --service-account=the-builder --gcs-source-staging-dir=the-build_bucket/source",
		"gcloud artifacts docker images describe",
		"terraform -chdir=infra apply",
	)
	compare(t, "record", s.read(t, record), strings.Replace(recordOfOld, "sha256:old", "sha256:new", 1))
	if strings.Contains(strings.Join(calls, "\n"), "run services update") {
		t.Error("a service that runs the image is updated to it")
	}
	if strings.Contains(strings.Join(calls, "\n"), "go run") {
		t.Error("the script checks a pipeline file, although the deployment has no pipeline file")
	}
}

// Nothing is created from a pipeline file that tidemark check refuses.
func TestDeployChecksThePipelineFile(t *testing.T) {
	for _, check := range []string{"0", "2"} {
		s := newStage(t, "FILE=orders.yaml", "CHECK="+check)
		s.write(t, record, recordOfOld)
		out, ok, calls := s.run(t, "deploy.sh")
		checked := []string{
			"go run ../cmd/tidemark check --backend local --pipeline-file orders.yaml",
			"in infra with EMIT=early EVENT_TIME=publish",
		}
		if check == "0" {
			inOrder(t, calls, append(checked, "terraform -chdir=infra apply -target=", "terraform -chdir=infra apply")...)
			continue
		}
		inOrder(t, calls, checked...)
		if ok || !strings.Contains(out, "the pipeline file is wrong") || strings.Contains(strings.Join(calls, "\n"), " apply") {
			t.Errorf("success %v, says:\n%s\nafter %q", ok, out, calls)
		}
	}
}

func TestDeployAgain(t *testing.T) {
	s := newStage(t, "YES=1", "RUNNING=us-central1-docker.pkg.dev/p/tidemark/tidemark@sha256:old")
	s.write(t, record, recordOfOld)
	out, ok, calls := s.run(t, "deploy.sh")
	if !ok {
		t.Fatal(out)
	}
	inOrder(t, calls,
		"terraform -chdir=infra apply -input=false -auto-approve",
		"gcloud run services update the-service --project=p-roject --region=us-central1 --image=us-central1-docker.pkg.dev/p/tidemark/tidemark@sha256:new")
}

func TestDeployRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		record string
		env    []string
		want   string
	}{
		"without a project":   {"", nil, "usage: make deploy PROJECT="},
		"another project":     {recordOfOld, []string{"PROJECT=other"}, "is deployed to project p-roject"},
		"another region":      {recordOfOld, []string{"REGION=europe-west1"}, "is deployed to region us-central1"},
		"an image that fails": {recordOfOld, []string{"BUILD=1"}, "the build failed"},
		"what is new":         {recordOfOld, []string{"APPLY=1"}, "run make deploy again"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			if test.record != "" {
				s.write(t, record, test.record)
			}
			out, ok, calls := s.run(t, "deploy.sh", test.env...)
			if ok || !strings.Contains(out, test.want) {
				t.Errorf("success %v, says:\n%s\nwant failure and %q", ok, out, test.want)
			}
			if slices.Contains(calls, "terraform -chdir=infra apply") {
				t.Error("it applied everything in spite of that")
			}
			compare(t, "record", s.read(t, record), test.record)
		})
	}
}

func TestSmoke(t *testing.T) {
	for name, test := range map[string]struct {
		env  string
		want string // of its output; empty for success
	}{
		"all is well":       {"STRANGER=<html>Forbidden</html>\n403", ""},
		"open to strangers": {"STRANGER={}\n200", "want 401 or 403"},
		"closed too late":   {"STRANGER=" + strangerAnswer(t), "gets through to the service"},
		"never final":       {"FINAL=false", "a window is not final"},
		"the audit differs": {`AUDIT={"waiting":[],"lower":[{}],"higher":[],"more":false}`, "the audit finds a difference"},
		"the audit is cut":  {`AUDIT={"waiting":[],"lower":[],"higher":[],"more":true}`, "the audit finds a difference"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, test.env)
			s.write(t, record, recordOfOld)
			out, ok, calls := s.run(t, "smoke.sh")
			if ok != (test.want == "") || !strings.Contains(out, test.want) {
				t.Fatalf("success %v, says:\n%s\nwant %q", ok, out, test.want)
			}
			if ok {
				inOrder(t, calls, "curl -s -w", "gcloud pubsub topics publish the-topic", "bq ",
					"gcloud auth print-identity-token --quiet --impersonate-service-account=the-viewer --audiences=the-audience --include-email",
					"curl -sf -H Authorization: Bearer token https://tidemark.run.app/audit?from=2026-03-14T09:26:00Z")
			}
		})
	}
}

// strangerAnswer returns the service's answer to a flush without a token, if Cloud Run lets
// the request through. The status follows on a line of its own.
func strangerAnswer(t *testing.T) string {
	t.Helper()
	s := newService(t, "K_SERVICE=tidemark", "BACKEND=gcp", "GOOGLE_CLOUD_PROJECT=my-project", "AUDIENCE=a", "PUSH_CALLERS=p@x", "FLUSH_CALLERS=f@x")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/flush", nil))
	return fmt.Sprintf("%s\n%d", w.Body, w.Code)
}

// With a pipeline file, the user gives the event. It is followed by its message id.
func TestSmokeWithAPipelineFile(t *testing.T) {
	s := newStage(t, "FILE=orders.yaml", "STORED=1")
	s.write(t, record, recordOfOld)
	if out, ok, calls := s.run(t, "smoke.sh"); ok || !strings.Contains(out, "usage: make smoke EVENT=") || strings.Contains(strings.Join(calls, "\n"), "publish") {
		t.Errorf("success %v, says:\n%s\nafter %q", ok, out, calls)
	}
	out, ok, calls := s.run(t, "smoke.sh", `EVENT={"order": 1}`, "ATTRIBUTES=a=b")
	if !ok {
		t.Fatal(out)
	}
	inOrder(t, calls,
		`gcloud pubsub topics publish the-topic --project=p-roject --format=value(messageIds[0]) --attribute=a=b --message={"order": 1}`,
		"bq --project_id=p-roject --headless --quiet --format=csv query --nouse_legacy_sql SELECT COUNT(DISTINCT event_id) FROM `the-raw` WHERE message_id = '7700'",
		"curl -sf -H Authorization: Bearer token https://tidemark.run.app/audit?from=2026-03-14T09:26:00Z")
}

func TestSmokeWithoutDeployment(t *testing.T) {
	if out, ok, _ := newStage(t).run(t, "smoke.sh"); ok || !strings.Contains(out, "nothing is deployed") {
		t.Errorf("success %v, says:\n%s", ok, out)
	}
}

func TestDestroy(t *testing.T) {
	s := newStage(t, "YES=1")
	s.write(t, record, recordOfOld)
	out, ok, calls := s.run(t, "destroy.sh")
	if !ok {
		t.Fatal(out)
	}
	inOrder(t, calls,
		"terraform -chdir=infra apply -input=false -auto-approve -var deletion_protection=false -target=google_bigquery_table.raw -target=google_bigquery_dataset.logs[0] -target=google_firestore_database.counters",
		"terraform -chdir=infra destroy -input=false -auto-approve -var deletion_protection=false")
	compare(t, "record", s.read(t, record), "")
}

func TestDestroyAsks(t *testing.T) {
	s := newStage(t)
	s.write(t, record, recordOfOld)
	out, ok, calls := s.run(t, "destroy.sh") // whose standard input is empty
	if ok || !strings.Contains(out, "not confirmed") || len(calls) != 1 || calls[0] != "" {
		t.Errorf("success %v, says:\n%s\nafter %q", ok, out, calls)
	}
}

// Every output that a script reads exists.
func TestOutputs(t *testing.T) {
	m := load(t)
	used := 0
	for _, script := range scripts(t) {
		for _, found := range regexp.MustCompile(`\$\(output (\w+)\)`).FindAllStringSubmatch(readFile(t, script), -1) {
			used++
			if _, ok := m.outputs[found[1]]; !ok {
				t.Errorf("%s reads the output %s, which does not exist", script, found[1])
			}
		}
	}
	if used == 0 {
		t.Error("no script reads an output: the pattern of this test is wrong")
	}
	for name, output := range m.outputs {
		if m.value(t, output, "description").AsString() == "" {
			t.Errorf("output %s has no description", name)
		}
	}
}

func TestShellcheck(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("no shellcheck in PATH")
	}
	cmd := exec.Command(shellcheck, append([]string{"-x", "-P", "SCRIPTDIR/.."}, scripts(t)...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
