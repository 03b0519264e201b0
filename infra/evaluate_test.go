package infra_test

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	yaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// evaluate returns the value of an expression. Variables that are not given have their
// defaults. The expression may use the functions that the files use, and attributes of
// resources that the files set.
func (m *module) evaluate(t *testing.T, e hclsyntax.Expression, given map[string]cty.Value) cty.Value {
	t.Helper()
	return m.evaluateWith(t, e, given, map[string]cty.Value{})
}

// evaluateWith is evaluate with others: resources and locals, by the first part of their
// names, such as "local".
func (m *module) evaluateWith(t *testing.T, e hclsyntax.Expression, given, others map[string]cty.Value) cty.Value {
	t.Helper()
	value, diagnostics := m.try(t, e, given, others)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	return value
}

// try is evaluateWith for an expression that may have no value.
func (m *module) try(t *testing.T, e hclsyntax.Expression, given, others map[string]cty.Value) (cty.Value, hcl.Diagnostics) {
	t.Helper()
	values := map[string]cty.Value{}
	for name, variable := range m.variables {
		values[name] = cty.StringVal("a-" + name)
		if fallback, ok := variable.Attributes["default"]; ok {
			value, diagnostics := fallback.Expr.Value(nil)
			if diagnostics.HasErrors() {
				t.Fatal(diagnostics)
			}
			values[name] = value
		}
	}
	maps.Copy(values, given)
	known := maps.Clone(others)
	known["var"] = cty.ObjectVal(values)
	known["path"] = cty.ObjectVal(map[string]cty.Value{"module": cty.StringVal(".")})
	return (&scope{module: m, known: known}).value(e)
}

// A scope has the values of the names that expressions use. It evaluates what is missing:
// other locals, and attributes of resources.
type scope struct {
	*module
	known map[string]cty.Value // by the first part of the name
}

func (s *scope) value(e hclsyntax.Expression) (cty.Value, hcl.Diagnostics) {
	for _, reference := range e.Variables() {
		names := path(reference)
		var needs hclsyntax.Expression
		switch {
		case len(names) < 2:
		case names[0] == "local":
			needs = s.locals[names[1]]
		case len(names) > 2:
			if resource, ok := s.resources[names[0]+"."+names[1]]; ok && resource.Attributes[names[2]] != nil {
				needs = resource.Attributes[names[2]].Expr
			}
		}
		if _, diagnostics := reference.TraverseAbs(&hcl.EvalContext{Variables: s.known}); needs == nil || !diagnostics.HasErrors() {
			continue
		}
		value, diagnostics := s.value(needs)
		if diagnostics.HasErrors() {
			return value, diagnostics
		}
		s.set(reference, names, value)
	}
	return e.Value(&hcl.EvalContext{Variables: s.known, Functions: functions})
}

// set sets the value of a local, or of an attribute of a resource.
func (s *scope) set(reference hcl.Traversal, names []string, value cty.Value) {
	if len(names) > 2 && names[0] != "local" {
		value = cty.ObjectVal(map[string]cty.Value{names[2]: value})
		if _, ok := reference[2].(hcl.TraverseIndex); ok { // a resource with a count
			value = cty.TupleVal([]cty.Value{value})
		}
	}
	all := map[string]cty.Value{}
	if found, ok := s.known[names[0]]; ok {
		all = found.AsValueMap()
	}
	all[names[1]] = value
	s.known[names[0]] = cty.ObjectVal(all)
}

// functions are the Terraform functions that the files use.
var functions = map[string]function.Function{
	"can":          tryfunc.CanFunc,
	"ceil":         stdlib.CeilFunc,
	"chomp":        stdlib.ChompFunc,
	"coalesce":     stdlib.CoalesceFunc,
	"concat":       stdlib.ConcatFunc,
	"contains":     stdlib.ContainsFunc,
	"file":         readFileFunc,
	"floor":        stdlib.FloorFunc,
	"join":         stdlib.JoinFunc,
	"jsondecode":   stdlib.JSONDecodeFunc,
	"jsonencode":   stdlib.JSONEncodeFunc,
	"keys":         stdlib.KeysFunc,
	"length":       lengthFunc,
	"lookup":       stdlib.LookupFunc,
	"merge":        stdlib.MergeFunc,
	"regex":        stdlib.RegexFunc,
	"regexall":     stdlib.RegexAllFunc,
	"replace":      stdlib.ReplaceFunc,
	"setsubtract":  setSubtract,
	"slice":        stdlib.SliceFunc,
	"tostring":     stdlib.MakeToFunc(cty.String),
	"templatefile": templateFileFunc,
	"try":          tryfunc.TryFunc,
	"yamldecode":   yaml.YAMLDecodeFunc, // Terraform's own
	"startswith": function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}, {Name: "prefix", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(strings.HasPrefix(args[0].AsString(), args[1].AsString())), nil
		},
	}),
	"sum": function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			sum := cty.Zero
			for _, v := range args[0].AsValueSlice() {
				sum = sum.Add(v)
			}
			return sum, nil
		},
	}),
	"alltrue": function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for _, v := range args[0].AsValueSlice() {
				if v.False() {
					return cty.False, nil
				}
			}
			return cty.True, nil
		},
	}),
}

// readFileFunc is Terraform's file. As with terraform -chdir=infra, paths are relative to
// this directory.
var readFileFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "path", Type: cty.String}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		text, err := os.ReadFile(args[0].AsString())
		return cty.StringVal(string(text)), err
	},
})

// lengthFunc also takes a string, as Terraform's length does.
var lengthFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if args[0].Type() == cty.String {
			return stdlib.Strlen(args[0])
		}
		return stdlib.Length(args[0])
	},
})

// setSubtract also takes lists and tuples, as Terraform's setsubtract does.
var setSubtract = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "a", Type: cty.DynamicPseudoType}, {Name: "b", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Set(cty.String)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		remove := map[string]bool{}
		for _, v := range args[1].AsValueSlice() {
			remove[v.AsString()] = true
		}
		var left []cty.Value
		for _, v := range args[0].AsValueSlice() {
			if !remove[v.AsString()] {
				left = append(left, v)
			}
		}
		if len(left) == 0 {
			return cty.SetValEmpty(cty.String), nil
		}
		return cty.SetVal(left), nil
	},
})

// templateFileFunc is Terraform's templatefile, for templates that call no function.
var templateFileFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "vars", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		text, err := os.ReadFile(args[0].AsString())
		if err != nil {
			return cty.NilVal, err
		}
		template, diagnostics := hclsyntax.ParseTemplate(text, args[0].AsString(), hcl.InitialPos)
		if diagnostics.HasErrors() {
			return cty.NilVal, errors.New(diagnostics.Error())
		}
		value, diagnostics := template.Value(&hcl.EvalContext{Variables: args[1].AsValueMap()})
		if diagnostics.HasErrors() {
			return cty.NilVal, errors.New(diagnostics.Error())
		}
		return value, nil
	},
})

// If Terraform is installed, it reads a pipeline file as these tests do.
func TestTerraformReadsPipelineFiles(t *testing.T) {
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("no terraform in PATH; TestTables reads the files as Terraform should")
	}
	// Without resources, Terraform needs no provider.
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "infra", "schema"), os.DirFS("schema")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "pipeline"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"infra/pipeline.tf": "pipeline.tf", "infra/variables.tf": "variables.tf", "pipeline/lab.yaml": "../pipeline/lab.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(readFile(t, from)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const expression = "jsonencode([local.pipeline_name, local.window_duration, local.allowed_lateness, local.closes_after, local.names, local.count, local.raw_columns])"
	e, diagnostics := hclsyntax.ParseExpression([]byte(expression), "", hcl.InitialPos)
	if diagnostics.HasErrors() {
		t.Fatal(diagnostics)
	}
	for name, given := range deployments(t) {
		file := ""
		if path, ok := given["pipeline_file"]; ok {
			if file, err = filepath.Abs(path.AsString()); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(terraform, "-chdir="+filepath.Join(dir, "infra"), "console", "-no-color",
			"-var", "project=my-project-123", "-var", "region=us-central1", "-var", "pipeline_file="+file)
		cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1")
		cmd.Stdin = strings.NewReader(expression)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		got, err := strconv.Unquote(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		compare(t, name, got, load(t).evaluate(t, e, given).AsString())
	}
}
