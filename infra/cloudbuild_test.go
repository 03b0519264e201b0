package infra_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// A build has the parts of cloudbuild.yaml that the tests read.
type build struct {
	Substitutions map[string]string
	Options       struct {
		SubstitutionOption string `yaml:"substitutionOption"`
	}
	Steps []struct {
		ID, Name, Script string
		Args             []string
	}
}

// The build tests the source before it builds the image, and pushes this image. If a
// service is named, the build rolls the pushed image out to it by the image's digest.
func TestCloudBuild(t *testing.T) {
	var b build
	if err := yaml.Unmarshal([]byte(readFile(t, "../cloudbuild.yaml")), &b); err != nil {
		t.Fatal(err)
	}
	if len(b.Steps) != 4 || !slices.Equal(b.Steps[0].Args, []string{"make", "test"}) {
		t.Fatalf("steps %+v, want make test and three scripts", b.Steps)
	}
	const pushed = "europe-docker.pkg.dev/p/tidemark/tidemark@sha256:0123"
	for service, want := range map[string][]string{
		"":     nil,
		"mine": {"gcloud run services update mine --project=p-roject --region=europe-west1 --image=" + pushed},
	} {
		dir := t.TempDir()
		for _, command := range []string{"docker", "gcloud"} {
			stub := "#!/bin/sh\necho \"$(basename \"$0\") $*\" >> calls\n[ \"$1\" != inspect ] || echo " + pushed + "\n"
			if err := os.WriteFile(filepath.Join(dir, command), []byte(stub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range b.Steps[1:] {
			cmd := exec.Command("sh", "-c", strings.ReplaceAll(step.Script, "/workspace/", dir+"/"))
			cmd.Dir = dir
			cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "_IMAGE=europe-docker.pkg.dev/p/tidemark/tidemark:v1", "PROJECT_ID=p-roject", "_REGION=europe-west1", "_SERVICE=" + service}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("step %s: %v\n%s", step.ID, err, out)
			}
		}
		calls, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil {
			t.Fatal(err)
		}
		want = append([]string{
			"docker build --build-arg VERSION=v1 --tag europe-docker.pkg.dev/p/tidemark/tidemark:v1 .",
			"docker push europe-docker.pkg.dev/p/tidemark/tidemark:v1",
			"docker inspect --format={{index .RepoDigests 0}} europe-docker.pkg.dev/p/tidemark/tidemark:v1",
		}, want...)
		if got := strings.Split(strings.TrimSpace(string(calls)), "\n"); !slices.Equal(got, want) {
			t.Errorf("with service %q:\n%s\nwant\n%s", service, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	// https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values
	if b.Options.SubstitutionOption != "ALLOW_LOOSE" {
		t.Error("a build is refused for a substitution that only a script reads")
	}
	if b.Substitutions["_SERVICE"] != "" {
		t.Error("a build rolls out by default, but the build account of make deploy may not roll out")
	}
}
