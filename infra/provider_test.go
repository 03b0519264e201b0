package infra_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// With providerSchema, TestProviderSchema rewrites testdata/provider.json; make
// infra-schema uses it.
var providerSchema = flag.String("provider-schema", "", "output of terraform providers schema -json, to cut testdata/provider.json from")

// A provider has the provider's schema of the types that the files use: an extract of the
// output of `terraform providers schema -json`.
type provider struct {
	Version   string               `json:"version"`
	Resources map[string]blockType `json:"resources"`
	Data      map[string]blockType `json:"data"`
}

// A blockType says what a block may contain. An attribute is required, optional or
// computed. A computed attribute cannot be set.
type blockType struct {
	Attributes map[string]string      `json:"attributes"`
	Blocks     map[string]nestedBlock `json:"blocks,omitempty"`
	Min        int                    `json:"min,omitempty"`
	Max        int                    `json:"max,omitempty"` // 0 means any number
}

type nestedBlock = *blockType

const providerFile = "testdata/provider.json"

func loadProvider(t *testing.T) provider {
	t.Helper()
	var p provider
	if err := json.Unmarshal([]byte(readFile(t, providerFile)), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// The provider knows every block, attribute and reference. Every required attribute is set,
// and no computed one is.
func TestProviderSchema(t *testing.T) {
	m := load(t)
	if *providerSchema != "" {
		m.extract(t, *providerSchema)
	}
	p := loadProvider(t)
	if version := m.terraform.block(t, "required_providers").text("google"); !strings.Contains(version, quote("~> "+majorMinor(p.Version))) {
		t.Errorf("required_providers says %s, but %s has version %s", version, providerFile, p.Version)
	}
	for name, b := range m.resources {
		p.check(t, p.Resources, name, b)
	}
	for name, b := range m.data {
		p.check(t, p.Data, name, b)
	}
	for name, source := range m.sources {
		file, _ := hclsyntax.ParseConfig(source, name, hcl.InitialPos)
		for _, reference := range references(file.Body.(*hclsyntax.Body)) {
			p.checkReference(t, m, reference)
		}
	}
}

func (p provider) check(t *testing.T, types map[string]blockType, name string, b block) {
	t.Helper()
	kind, _, _ := strings.Cut(name, ".")
	schema, ok := types[kind]
	if !ok {
		t.Errorf("%s: %s is not in %s; run make infra-schema", name, kind, providerFile)
		return
	}
	body := *b.Body
	body.Attributes, body.Blocks = maps.Clone(body.Attributes), slices.Clone(body.Blocks)
	for _, meta := range []string{"count", "for_each", "depends_on"} {
		delete(body.Attributes, meta)
	}
	body.Blocks = slices.DeleteFunc(body.Blocks, func(b *hclsyntax.Block) bool { return b.Type == "lifecycle" })
	schema.check(t, name, block{&body, b.source})
}

func (s blockType) check(t *testing.T, path string, b block) {
	t.Helper()
	for name, kind := range s.Attributes {
		if _, ok := b.Attributes[name]; kind == "required" && !ok {
			t.Errorf("%s: attribute %s is required", path, name)
		}
	}
	for name := range b.Attributes {
		switch s.Attributes[name] {
		case "":
			t.Errorf("%s: the provider knows no attribute %s", path, name)
		case "computed":
			t.Errorf("%s: attribute %s is computed and cannot be set", path, name)
		}
	}
	for kind, nested := range s.Blocks {
		n := len(b.blocks(kind))
		if n < nested.Min || nested.Max > 0 && n > nested.Max {
			t.Errorf("%s: %d blocks %s, want from %d to %d", path, n, kind, nested.Min, nested.Max)
		}
	}
	for _, found := range b.Blocks {
		kind := found.Type
		if kind == "dynamic" {
			kind = found.Labels[0]
		}
		if s.Blocks[kind] == nil {
			t.Errorf("%s: the provider knows no block %s", path, kind)
		}
	}
	for kind, nested := range s.Blocks {
		for _, b := range b.blocks(kind) {
			nested.check(t, path+"."+kind, b)
		}
	}
}

// references returns all references in the body and its nested blocks.
func references(body *hclsyntax.Body) []hcl.Traversal {
	var found []hcl.Traversal
	for _, attribute := range body.Attributes {
		found = append(found, attribute.Expr.Variables()...)
	}
	for _, b := range body.Blocks {
		found = append(found, references(b.Body)...)
	}
	return found
}

// No unknown data source forces Terraform to replace a resource. If an API is added, a data
// source that depends on the APIs is read only during the apply, so the plan does not know
// its values. A subscription that is replaced would lose the messages that wait in it.
func TestDataSourcesForceNothing(t *testing.T) {
	m := load(t)
	used := 0
	for name, b := range m.resources {
		for argument, attribute := range b.Attributes {
			if !refersToData(attribute.Expr.Variables()) || argument == "depends_on" {
				continue
			}
			used++
			if lifecycle := b.blocks("lifecycle"); len(lifecycle) == 0 || !strings.Contains(lifecycle[0].text("ignore_changes"), argument) {
				t.Errorf("%s: %s uses a data source, and is not in ignore_changes", name, argument)
			}
		}
		for _, nested := range b.Blocks {
			if refersToData(references(nested.Body)) {
				t.Errorf("%s: block %s uses a data source", name, nested.Type)
			}
		}
	}
	for name, local := range m.locals {
		if refersToData(local.Variables()) {
			t.Errorf("local.%s uses a data source", name)
		}
	}
	if used != len(m.data) {
		t.Errorf("%d arguments use %d data sources, want one for each", used, len(m.data))
	}
}

func refersToData(references []hcl.Traversal) bool {
	return slices.ContainsFunc(references, func(r hcl.Traversal) bool { return r.RootName() == "data" })
}

func (p provider) checkReference(t *testing.T, m *module, reference hcl.Traversal) {
	t.Helper()
	types, declared := p.Resources, m.resources
	names := path(reference)
	if names[0] == "data" {
		types, declared, names = p.Data, m.data, names[1:]
	}
	known := true
	switch root := names[0]; {
	case root == "var":
		_, known = m.variables[names[1]]
	case root == "local":
		_, known = m.locals[names[1]]
	case strings.HasPrefix(root, "google_"):
		_, known = declared[root+"."+names[1]]
		if known && len(names) > 2 {
			known = types[root].Attributes[names[2]] != ""
		}
	}
	if !known {
		t.Errorf("%s: there is no %s", reference.SourceRange(), strings.Join(path(reference), "."))
	}
}

// path returns the names in a reference, without indexes.
func path(reference hcl.Traversal) []string {
	var names []string
	for _, step := range reference {
		switch step := step.(type) {
		case hcl.TraverseRoot:
			names = append(names, step.Name)
		case hcl.TraverseAttr:
			names = append(names, step.Name)
		}
	}
	return names
}

// The files are formatted as by terraform fmt.
func TestFormat(t *testing.T) {
	for name, source := range load(t).sources {
		if !bytes.Equal(hclwrite.Format(source), source) {
			t.Errorf("%s is not formatted; run terraform fmt", name)
		}
	}
}

// If Terraform is installed, terraform fmt itself finds nothing to change.
func TestTerraformFormat(t *testing.T) {
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("no terraform in PATH; TestFormat checks the .tf files")
	}
	if out, err := exec.Command(terraform, "fmt", "-check", "-diff", "-recursive", ".").Output(); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, out)
	}
}

func majorMinor(version string) string {
	return version[:strings.LastIndex(version, ".")]
}

// extract writes testdata/provider.json: the part of the provider's schema that the files
// use.
func (m *module) extract(t *testing.T, file string) {
	t.Helper()
	type schema struct{ Block schemaBlock }
	var all struct {
		Providers map[string]struct {
			Resources map[string]schema `json:"resource_schemas"`
			Data      map[string]schema `json:"data_source_schemas"`
		} `json:"provider_schemas"`
	}
	if err := json.Unmarshal([]byte(readFile(t, file)), &all); err != nil {
		t.Fatal(err)
	}
	google, ok := all.Providers["registry.terraform.io/hashicorp/google"]
	if !ok {
		t.Fatalf("%s has no schema of hashicorp/google", file)
	}
	p := provider{Version: lockedVersion(t), Resources: map[string]blockType{}, Data: map[string]blockType{}}
	for name := range m.resources {
		kind, _, _ := strings.Cut(name, ".")
		p.Resources[kind] = google.Resources[kind].Block.reduce()
	}
	for name := range m.data {
		kind, _, _ := strings.Cut(name, ".")
		p.Data[kind] = google.Data[kind].Block.reduce()
	}
	out, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(providerFile, append(out, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// lockedVersion returns the provider's version that terraform init chose.
func lockedVersion(t *testing.T) string {
	t.Helper()
	const name = ".terraform.lock.hcl"
	source := []byte(readFile(t, name))
	file, diagnostics := hclsyntax.ParseConfig(source, name, hcl.InitialPos)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	body := block{file.Body.(*hclsyntax.Body), source}.block(t, "provider")
	return strings.Trim(body.text("version"), `"`)
}

// A schemaBlock is a block in Terraform's output.
type schemaBlock struct {
	Attributes map[string]struct{ Required, Optional, Computed bool }
	Blocks     map[string]struct {
		Block    schemaBlock
		MinItems int `json:"min_items"`
		MaxItems int `json:"max_items"`
	} `json:"block_types"`
}

func (s schemaBlock) reduce() blockType {
	reduced := blockType{Attributes: map[string]string{}, Blocks: map[string]nestedBlock{}}
	for name, attribute := range s.Attributes {
		kind := "computed"
		if attribute.Required {
			kind = "required"
		} else if attribute.Optional {
			kind = "optional"
		}
		reduced.Attributes[name] = kind
	}
	for name, nested := range s.Blocks {
		b := nested.Block.reduce()
		b.Min, b.Max = nested.MinItems, nested.MaxItems
		reduced.Blocks[name] = &b
	}
	return reduced
}
