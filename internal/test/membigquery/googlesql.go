package membigquery

import (
	"fmt"
	"regexp"
	"strings"
)

// quoted returns an identifier in SQLite's quotes.
func quoted(name string) string { return `"` + name + `"` }

// replacements are the parts of GoogleSQL that are written differently in SQLite.
var replacements = []struct {
	from *regexp.Regexp
	to   string
}{
	{regexp.MustCompile("`[^`.]+\\.([^`.]+)\\.([^`.]+)`"), `"$1"."$2"`},
	{regexp.MustCompile(`IN UNNEST\(@(\w+)\)`), `IN (SELECT value FROM json_each(@$1))`},
	{regexp.MustCompile(`COUNT\(DISTINCT (\w+)\) OVER \(PARTITION BY ([^)]*)\)`),
		`(DENSE_RANK() OVER (PARTITION BY $2 ORDER BY $1) + DENSE_RANK() OVER (PARTITION BY $2 ORDER BY $1 DESC) - 1)`},
	{regexp.MustCompile(`\bLOGICAL_OR\(`), `MAX(`},
	{regexp.MustCompile(`\bIF\(`), `iif(`},
}

// translate translates a query from GoogleSQL to SQLite's SQL.
func translate(query string) (string, error) {
	for _, r := range replacements {
		query = r.from.ReplaceAllString(query, r.to)
	}
	return unqualify(query)
}

// unqualify rewrites a query with QUALIFY, which SQLite does not have. The new query
// selects from a subquery that has the condition as a column.
func unqualify(query string) (string, error) {
	query, err := innermostFirst(query)
	if err != nil {
		return "", err
	}
	at := topLevel(query, "QUALIFY")
	if at < 0 {
		return query, nil
	}
	from, end := topLevel(query, "FROM"), topLevel(query, "ORDER BY")
	if end < 0 {
		end = len(query)
	}
	if !strings.HasPrefix(query, "SELECT ") || from < 0 || from > at || at > end {
		return "", fmt.Errorf("want SELECT, FROM, QUALIFY and ORDER BY in this order: %s", query)
	}
	return query[:from] + "FROM (SELECT *, (" + strings.TrimSpace(query[at+len("QUALIFY"):end]) + ") AS qualified\n" +
		query[from:at] + ") WHERE qualified\n" + query[end:], nil
}

// shuffled adds a random order to a query, after the order that the query itself asks
// for. BigQuery promises no other order either, so a test must not rely on one.
func shuffled(query string) string {
	end := topLevel(query, "LIMIT")
	if end < 0 {
		end = len(query)
	}
	order := " ORDER BY RANDOM()\n"
	if topLevel(query, "ORDER BY") >= 0 {
		order = ", RANDOM()\n"
	}
	return strings.TrimSpace(query[:end]) + order + query[end:]
}

// innermostFirst unqualifies each query in parentheses, from the inside outwards.
func innermostFirst(query string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(query); {
		if query[i] != '(' {
			b.WriteByte(query[i])
			i++
			continue
		}
		inner, ok := parenthesis(query[i:])
		if !ok {
			return "", fmt.Errorf("no parenthesis closes %s", query[i:])
		}
		i += len(inner) + 2
		translated, err := innermostFirst(inner)
		if strings.HasPrefix(strings.TrimSpace(inner), "SELECT ") {
			translated, err = unqualify(strings.TrimSpace(inner))
		}
		if err != nil {
			return "", err
		}
		b.WriteString("(" + translated + ")")
	}
	return b.String(), nil
}

// parenthesis returns the text in the parentheses that begin with the first character.
func parenthesis(text string) (inner string, ok bool) {
	depth := 0
	for i, c := range text {
		switch c {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return text[1:i], true
			}
		}
	}
	return "", false
}

// topLevel returns the index of the keyword outside of all parentheses, or -1.
func topLevel(query, keyword string) int {
	depth := 0
	for i, c := range query {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case depth == 0 && strings.HasPrefix(query[i:], keyword+" ") && (i == 0 || strings.ContainsAny(query[i-1:i], " \n)")):
			return i
		}
	}
	return -1
}
