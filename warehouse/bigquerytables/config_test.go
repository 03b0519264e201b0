package bigquerytables_test

import (
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// Every name that becomes part of a statement is checked before the first statement is
// built.
func TestNamesThatCannotStandInAStatementAreRefused(t *testing.T) {
	t.Parallel()
	good := place{"127.0.0.1:1", "127.0.0.1:1", "example.com:my-project", nil}.config(bigquerytables.StorageWrite)
	open(t, good)
	for bad, set := range map[string]func(*bigquerytables.Config){
		"p`.x":  func(c *bigquerytables.Config) { c.Project = "p`.x" },
		"":      func(c *bigquerytables.Config) { c.Project = "" },
		"logs`": func(c *bigquerytables.Config) { c.Dataset = "logs`" },
		"raw`":  func(c *bigquerytables.Config) { c.Layout.Raw = "raw`" },
		"dml":   func(c *bigquerytables.Config) { c.Method = "dml" },
	} {
		config := good
		set(&config)
		if _, err := bigquerytables.New(t.Context(), config); err == nil || !strings.Contains(err.Error(), `"`+bad+`"`) {
			t.Errorf("%q: error %v, want one that names the bad name", bad, err)
		}
	}
}
