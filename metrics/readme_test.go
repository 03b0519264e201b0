package metrics

import (
	"os"
	"regexp"
	"testing"
	"time"
)

func TestEveryMetricOfTheREADMEExists(t *testing.T) {
	t.Parallel()
	descriptions, err := New(time.Now).Descriptions()
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for _, d := range descriptions {
		exists[d.Name] = true
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("tidemark_[a-z_]+[a-z]").FindAllString(string(readme), -1)
	if len(named) < 5 {
		t.Fatalf("the README names %q", named)
	}
	for _, name := range named {
		if !exists[name] {
			t.Errorf("the README names %s, which does not exist", name)
		}
	}
}
