package handler

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

const dryRunParameter = "dry_run"

// parameters returns the parameters of the request's query. An unknown name is an error,
// because it may be a typing error: if dry_run were ignored, a trial would be stored, and
// if from were ignored, an audit of an hour would read all history.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if slices.Contains(known, name) {
			continue
		}
		want := "it takes none"
		if len(known) > 0 {
			want = "want " + strings.Join(known, ", ")
		}
		return nil, refuse(errInvalid, fmt.Errorf("%s has no parameter %s; %s", r.URL.Path, strictjson.Quote(name), want))
	}
	return query, nil
}

// pushParameters returns the parameters of a push. It ignores unknown names, since the
// address in a subscription may have parameters for other programs. But a name that is
// nearly dry_run is an error.
func pushParameters(r *http.Request) (url.Values, error) {
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if name != dryRunParameter && isNearlyDryRun(name) {
			return nil, refuse(errInvalid, fmt.Errorf("%s has no parameter %s; do you mean %s?", r.URL.Path, strictjson.Quote(name), dryRunParameter))
		}
	}
	return query, nil
}

func parseQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(errInvalid, fmt.Errorf("the query cannot be read: %w", err))
	}
	return query, nil
}

// isNearlyDryRun reports whether the sender of a name probably meant dry_run. Only the
// letters of the name count: they begin with dry, contain dryrun, or differ from dryrun by
// at most two typing errors.
func isNearlyDryRun(name string) bool {
	const want = "dryrun"
	letters := strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
	return strings.HasPrefix(letters, "dry") || strings.Contains(letters, want) || len(letters) <= len(want)+2 && distance(letters, want) <= 2
}

// distance returns how many bytes must be inserted, deleted or replaced to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // from a prefix of a to each prefix of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// dryRun reads the parameter dry_run. A value that is not clearly yes or no is an error: a
// wrong guess would store a trial, or lose an event.
func dryRun(query url.Values) (bool, error) {
	values := query[dryRunParameter]
	switch len(values) {
	case 0:
		return false, nil
	case 1:
		if yes, err := strconv.ParseBool(values[0]); err == nil {
			return yes, nil
		}
	}
	return false, refuse(errInvalid, fmt.Errorf("dry_run is %s; want it once, as 1 or 0, true or false", clip(fmt.Sprintf("%q", values), 100)))
}
