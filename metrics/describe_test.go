package metrics

import (
	"slices"
	"strings"
	"testing"
)

// A description is everything that a metric says about itself.
type description struct {
	Name   string
	Type   string   // counter, gauge or histogram
	Labels []string // names, sorted
	Help   string   // the meaning, the unit, and what to do about it, if anything
}

// descriptions returns Tidemark's own metrics, sorted by name.
func descriptions(t *testing.T, m *Metrics) []description {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var descriptions []description
	for _, family := range families { // Gather sorts them by name
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
