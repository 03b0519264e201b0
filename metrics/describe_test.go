package metrics

import (
	"slices"
	"strings"
	"testing"
)

// A description says what one metric is.
type description struct {
	Name   string
	Type   string   // counter, gauge or histogram
	Labels []string // names, sorted
	Help   string   // meaning, unit, and what to do about it if there is something to do
}

// descriptions returns Tidemark's own metrics, sorted by name.
func descriptions(t *testing.T, m *Metrics) []description {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var descriptions []description
	for _, family := range families { // sorted by name
		if !strings.HasPrefix(family.GetName(), prefix) {
			continue
		}
		var labels []string
		for _, pair := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		slices.Sort(labels)
		descriptions = append(descriptions, description{
			Name:   family.GetName(),
			Type:   strings.ToLower(family.GetType().String()),
			Labels: labels,
			Help:   family.GetHelp(),
		})
	}
	return descriptions
}
