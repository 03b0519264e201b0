package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"go.yaml.in/yaml/v4"
)

// A reader reads a YAML document strictly and collects every problem with its line. It
// accepts only plain mappings, sequences and scalars: no aliases, no anchors, no tags, no
// duplicate keys, and no text that other versions of YAML read as a boolean or a number.
type reader struct{ problems []problem }

// A problem is what is wrong on a line of the file.
type problem struct {
	line int
	text string
}

func (r *reader) problem(line int, format string, args ...any) {
	r.problems = append(r.problems, problem{line, fmt.Sprintf(format, args...)})
}

// err returns all problems as one error, in the order of the file. It returns nil if
// there are none.
func (r *reader) err() error {
	slices.SortStableFunc(r.problems, func(a, b problem) int { return a.line - b.line })
	errs := make([]error, len(r.problems))
	for i, p := range r.problems {
		errs[i] = fmt.Errorf("line %d: %s", p.line, p.text)
	}
	return errors.Join(errs...)
}

// document returns the root of the only document in text. After a problem it returns nil.
func (r *reader) document(text []byte) *yaml.Node {
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		r.problem(1, "%v", err)
		return nil
	}
	var first, second yaml.Node
	switch err := loader.Load(&first); {
	case errors.Is(err, io.EOF):
		r.problem(1, "the file is empty; `tidemark init` prints one to start from")
		return nil
	case err != nil:
		r.syntax(err)
		return nil
	}
	switch err := loader.Load(&second); {
	case err == nil:
		r.problem(second.Line, "a second document begins; a pipeline file has one, and each pipeline has a file of its own")
		return nil
	case !errors.Is(err, io.EOF):
		r.syntax(err)
		return nil
	}
	return first.Content[0]
}

var errorPlace = regexp.MustCompile(`^go-yaml load error in \w+ (?:\([^)]*\) )?at (?:L(\d+)\.C\d+(?:-L\d+\.C\d+)?|<unknown position>)(?::| while)? ?`)

// syntax reports an error of the YAML parser, whose messages have their own form for the
// line.
func (r *reader) syntax(err error) {
	line, text := 1, err.Error()
	if place := errorPlace.FindStringSubmatch(text); place != nil {
		_, _ = fmt.Sscan(place[1], &line)
		text = strings.TrimPrefix(text, place[0])
	}
	r.problem(line, "it is not YAML: %s", text)
}

// plain reports a problem for YAML that no part of a pipeline file may use.
func (r *reader) plain(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		r.problem(n.Line, "*%s is an alias; write the value itself", n.Value)
	case n.Anchor != "":
		r.problem(n.Line, "&%s is an anchor; leave it out", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		r.problem(n.Line, "%s is a tag; leave it out, and put text in quotes", n.Tag)
	default:
		return true
	}
	return false
}

// mapping calls, for each key of a mapping, the key's function with the key's value. It
// reports a key that is unknown or that is there twice. The parameter name says what the
// mapping is. The result reports whether the mapping has a key, or has a key that was
// reported as similar to it. If n is no plain mapping, which mapping reports, the result is
// true for every key, so that nobody reports a missing key too.
func (r *reader) mapping(n *yaml.Node, name string, keys []mappingKey) (has func(key string) bool) {
	every := func(string) bool { return true }
	if !r.plain(n) {
		return every
	}
	if n.Kind != yaml.MappingNode {
		r.problem(n.Line, "%s is %s, want keys with values: %s", name, kindOf(n), strings.Join(keyNames(keys), ", "))
		return every
	}
	seen := map[string]int{} // lines of the keys
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !r.plain(key) {
			continue
		}
		if line, twice := seen[key.Value]; twice {
			r.problem(key.Line, "key %s of %s is already on line %d; keep one of them", key.Value, name, line)
			continue
		}
		at := slices.IndexFunc(keys, func(k mappingKey) bool { return k.name == key.Value })
		if at < 0 {
			text, meant := advice(key.Value, "its keys are", keyNames(keys))
			r.problem(key.Line, "%s has no key %q; %s", name, key.Value, text)
			seen[meant] = key.Line
			continue
		}
		seen[key.Value] = key.Line
		keys[at].read(value)
	}
	return func(key string) bool { return seen[key] != 0 }
}

// advice says which of the names a wrong name may stand for. If one name is similar to the
// wrong one, advice also returns that name; otherwise it lists all names, after the words
// of list.
func advice(wrong, list string, names []string) (text, meant string) {
	best := min(3, len(wrong)) // more edits than a typing error has
	for _, name := range names {
		edits := levenshtein.Distance(strings.ToLower(wrong), strings.ToLower(name), nil)
		if edits < best {
			best, meant = edits, name
		}
	}
	if meant != "" {
		return "did you mean " + meant + "?", meant
	}
	return list + " " + strings.Join(names, ", "), ""
}

// A mappingKey is a key that a mapping may have, with the function that reads its value.
type mappingKey struct {
	name string
	read func(*yaml.Node)
}

func keyNames(keys []mappingKey) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return names
}

// items calls item for each item of a sequence.
func (r *reader) items(n *yaml.Node, name string, item func(*yaml.Node)) {
	if !r.plain(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		r.problem(n.Line, "%s is %s, want a list: each item on a line that begins with -", name, kindOf(n))
		return
	}
	for _, child := range n.Content {
		item(child)
	}
}

// notText matches words that some version of YAML reads as a boolean or as null.
var notText = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null)$`)

// text reads a text. It refuses an unquoted value that some version of YAML does not read
// as text.
func (r *reader) text(n *yaml.Node, name string, into *string) {
	if !r.scalar(n, name, "text") {
		return
	}
	quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	if !quoted && (n.Tag != "!!str" || notText.MatchString(n.Value)) {
		r.problem(n.Line, "%s is %s, which YAML may take for something other than text; write %q, in quotes", name, n.Value, n.Value)
		return
	}
	*into = n.Value
}

// scalarText reads text or a number as it is written, for a value with a syntax of its
// own.
func (r *reader) scalarText(n *yaml.Node, name string, into *string) {
	if r.scalar(n, name, "a value") {
		*into = n.Value
	}
}

// boolean reads true or false.
func (r *reader) boolean(n *yaml.Node, name string, into *bool) {
	if !r.scalar(n, name, "true or false") {
		return
	}
	if n.Tag != "!!bool" || n.Value != "true" && n.Value != "false" {
		r.problem(n.Line, "%s is %s, want true or false", name, n.Value)
		return
	}
	*into = n.Value == "true"
}

func (r *reader) scalar(n *yaml.Node, name, want string) bool {
	switch {
	case !r.plain(n):
		return false
	case n.Kind != yaml.ScalarNode:
		r.problem(n.Line, "%s is %s, want %s", name, kindOf(n), want)
		return false
	case n.Tag == "!!null":
		r.problem(n.Line, "%s has no value; write one or leave the key out", name)
		return false
	}
	return true
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "empty"
	}
	return fmt.Sprintf("%q", n.Value)
}
