package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rows returns the cells of each row of a table of CONTRIBUTING.md, which is between the
// comments of the given name.
func rows(t *testing.T, name string) (table [][]string) {
	t.Helper()
	text, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "<!-- "+name+" -->\n")
	block, _, found := strings.Cut(rest, "<!-- /"+name+" -->")
	if !found {
		t.Fatalf("CONTRIBUTING.md has no table between <!-- %s --> and <!-- /%[1]s -->", name)
	}
	const pipe = "\x00" // stands for a | within a cell
	for line := range strings.Lines(strings.ReplaceAll(block, `\|`, pipe)) {
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "| \n"), "|") {
			cells = append(cells, strings.ReplaceAll(strings.TrimSpace(cell), pipe, "|"))
		}
		table = append(table, cells)
	}
	return table[2:] // without the header rows
}

var (
	linkTo   = regexp.MustCompile(`\[([^\]]+)\]\(([^)]+)\)`)
	inCode   = regexp.MustCompile("`([^`]+)`")
	goTest   = regexp.MustCompile("`go test \\./(\\S+) -run '?([\\w|]+)'?`")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// In each row of "Where to change what", the files must declare the names that are said
// to be in them, and the tests must exist.
func TestWhereToChangeWhat(t *testing.T) {
	t.Parallel()
	changes := rows(t, "changes")
	if len(changes) != 7 {
		t.Errorf("%d changes, want 7", len(changes))
	}
	for _, change := range changes {
		if len(change) != 3 {
			t.Fatalf("the row of %q has %d cells, want 3", change[0], len(change))
		}
		links := linkTo.FindAllStringSubmatch(change[1], -1)
		if links == nil {
			t.Errorf("%s: no file to edit", change[0])
		}
		for _, link := range links {
			if leftOut(t, link[2]) {
				continue
			}
			declared := declarations(t, filepath.Join("..", link[2]))
			for _, name := range inCode.FindAllStringSubmatch(link[1], -1) {
				if !declared[name[1]] {
					t.Errorf("%s: %s does not declare %s", change[0], link[2], name[1])
				}
			}
		}
		commands := goTest.FindAllStringSubmatch(change[2], -1)
		if commands == nil || len(commands) != strings.Count(change[2], "go test") {
			t.Errorf("%s: want commands of the form go test ./PACKAGE -run NAME, not %s", change[0], change[2])
		}
		for _, command := range commands {
			if leftOut(t, command[1]) {
				continue
			}
			exist := testsOf(t, command[1])
			for name := range strings.SplitSeq(command[2], "|") {
				if !slices.Contains(exist, name) {
					t.Errorf("%s: ./%s has no test %s", change[0], command[1], name)
				}
			}
		}
	}
}

// declarations returns the names that a file declares outside of functions. It returns
// none if the file is not in Go.
func declarations(t *testing.T, path string) map[string]bool {
	t.Helper()
	if filepath.Ext(path) != ".go" {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		return nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			names[d.Name.Name] = true
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names[s.Name.Name] = true
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names[name.Name] = true
					}
				}
			}
		}
	}
	return names
}

// testsOf returns the names of the tests of a package.
func testsOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range testFunc.FindAllStringSubmatch(string(text), -1) {
			names = append(names, found[1])
		}
	}
	return names
}

// leftOut reports whether the folder of the path is missing because this is a build by
// Cloud Build, to which some folders are not uploaded.
func leftOut(t *testing.T, path string) bool {
	t.Helper()
	folder, _, _ := strings.Cut(path, "/")
	text, err := os.ReadFile("../.gcloudignore")
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(filepath.Join("..", folder))
	return err != nil && slices.Contains(strings.Fields(string(text)), folder)
}

// The map of the folders must have each folder with Go code, no folder that does not
// exist, and at most ten rows.
func TestMapOfTheFolders(t *testing.T) {
	t.Parallel()
	table := rows(t, "folders")
	if len(table) > 10 {
		t.Errorf("the map has %d rows, want at most 10", len(table))
	}
	named := map[string]bool{}
	for _, row := range table {
		for _, link := range linkTo.FindAllStringSubmatch(row[0], -1) {
			if info, err := os.Stat(filepath.Join("..", link[2])); (err != nil || !info.IsDir()) && !leftOut(t, link[2]) {
				t.Errorf("the map names %s, which is no folder", link[2])
			}
			named[link[2]] = true
		}
	}
	err := fs.WalkDir(os.DirFS(".."), ".", func(path string, _ fs.DirEntry, err error) error {
		folder, _, below := strings.Cut(path, "/")
		if below && strings.HasSuffix(path, ".go") && !strings.HasPrefix(folder, ".") && !named[folder] {
			t.Errorf("the map does not have the folder %s, which has Go code", folder)
			named[folder] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The README must be short and must link to every page of docs.
func TestREADME(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines > 200 {
		t.Errorf("README.md has %d lines, want at most 200: move something to a page of its own", lines)
	}
	var linked []string
	for _, link := range linkTo.FindAllStringSubmatch(string(text), -1) {
		file, _, _ := strings.Cut(link[2], "#")
		linked = append(linked, file)
	}
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "adr", "playbooks") {
		if !slices.Contains(linked, "docs/"+page) {
			t.Errorf("README.md does not link to docs/%s", page)
		}
	}
}
