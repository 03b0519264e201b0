package metrics

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The table of docs/logs.md must have each metric with its labels, and no others.
// (Package infra tests that no page names a metric that does not exist.)
func TestEveryMetricIsOnItsPage(t *testing.T) {
	t.Parallel()
	exist := map[string]bool{}
	for _, d := range descriptions(t, New(time.Now)) {
		exist[d.Name+"{"+strings.Join(d.Labels, ",")+"}"] = true
	}
	page, err := os.ReadFile("../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, found := range regexp.MustCompile("(?m)^\\| `(tidemark_[a-z_]+)(?:{([a-z,]+)})?` \\|").FindAllStringSubmatch(string(page), -1) {
		named[found[1]+"{"+found[2]+"}"] = true
	}
	if diff := cmp.Diff(exist, named); diff != "" {
		t.Errorf("metrics, and those of docs/logs.md (-code +page):\n%s", diff)
	}
}
