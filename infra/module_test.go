package infra_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// A module has the parsed blocks of the .tf files, by name.
type module struct {
	sources   map[string][]byte // by file name
	resources map[string]block  // by type and name, as google_pubsub_topic.events
	data      map[string]block
	variables map[string]block
	outputs   map[string]block
	locals    map[string]hclsyntax.Expression
	terraform block
}

// A block is the body of a block and the source of its file.
type block struct {
	*hclsyntax.Body
	source []byte
}

// load parses the .tf files of this directory.
func load(t *testing.T) *module {
	t.Helper()
	names, err := filepath.Glob("*.tf")
	if err != nil || len(names) == 0 {
		t.Fatalf("no .tf files: %v", err)
	}
	m := &module{
		sources: map[string][]byte{}, resources: map[string]block{}, data: map[string]block{},
		variables: map[string]block{}, outputs: map[string]block{}, locals: map[string]hclsyntax.Expression{},
	}
	for _, name := range names {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, diagnostics := hclsyntax.ParseConfig(source, name, hcl.InitialPos)
		if diagnostics.HasErrors() {
			t.Fatal(diagnostics)
		}
		m.sources[name] = source
		for _, b := range file.Body.(*hclsyntax.Body).Blocks {
			m.add(t, b, source)
		}
	}
	return m
}

func (m *module) add(t *testing.T, b *hclsyntax.Block, source []byte) {
	t.Helper()
	body := block{b.Body, source}
	switch b.Type {
	case "resource":
		m.resources[strings.Join(b.Labels, ".")] = body
	case "data":
		m.data[strings.Join(b.Labels, ".")] = body
	case "variable":
		m.variables[b.Labels[0]] = body
	case "output":
		m.outputs[b.Labels[0]] = body
	case "locals":
		for name, attribute := range b.Body.Attributes {
			m.locals[name] = attribute.Expr
		}
	case "terraform":
		m.terraform = body
	case "provider":
	default:
		t.Fatalf("%s: a %s block, which these tests do not know", b.DefRange(), b.Type)
	}
}

// resource returns the body of a resource. The resource must exist.
func (m *module) resource(t *testing.T, name string) block {
	t.Helper()
	b, ok := m.resources[name]
	if !ok {
		t.Fatalf("no resource %s", name)
	}
	return b
}

// ofType returns the resources of a type, by their full names.
func (m *module) ofType(kind string) map[string]block {
	found := map[string]block{}
	for name, b := range m.resources {
		if strings.HasPrefix(name, kind+".") {
			found[name] = b
		}
	}
	return found
}

// blocks returns the nested blocks of a type, including the contents of dynamic blocks.
func (b block) blocks(kind string) []block {
	var found []block
	for _, nested := range b.Blocks {
		if nested.Type == "dynamic" && nested.Labels[0] == kind {
			nested = nested.Body.Blocks[0] // the block content
		} else if nested.Type != kind {
			continue
		}
		found = append(found, block{nested.Body, b.source})
	}
	return found
}

// block returns the block at the path of types. There must be exactly one.
func (b block) block(t *testing.T, path ...string) block {
	t.Helper()
	for i, kind := range path {
		found := b.blocks(kind)
		if len(found) != 1 {
			t.Fatalf("%s: %d blocks %s, want one", b.SrcRange, len(found), strings.Join(path[:i+1], "."))
		}
		b = found[0]
	}
	return b
}

// text returns the source text of an attribute, or "" if the attribute is missing.
func (b block) text(name string) string {
	attribute, ok := b.Attributes[name]
	if !ok {
		return ""
	}
	return string(attribute.Expr.Range().SliceBytes(b.source))
}

// value returns the value of an attribute, with all variables at their defaults. The
// attribute must exist.
func (m *module) value(t *testing.T, b block, name string) cty.Value {
	t.Helper()
	attribute, ok := b.Attributes[name]
	if !ok {
		t.Fatalf("%s: no attribute %s", b.SrcRange, name)
	}
	return m.evaluate(t, attribute.Expr, nil)
}

func (m *module) number(t *testing.T, b block, name string) int {
	t.Helper()
	n, _ := m.value(t, b, name).AsBigFloat().Int64()
	return int(n)
}
