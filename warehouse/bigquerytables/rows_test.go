package bigquerytables

import (
	"fmt"
	"testing"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// Each request has as many rows as fit.
func TestCut(t *testing.T) {
	t.Parallel()
	const maxRows = 3
	for _, tc := range []struct {
		sizes []int
		want  string // the rows of each request
	}{
		{[]int{1}, "[1]"},
		{[]int{1, 1, 1}, "[3]"},
		{[]int{1, 1, 1, 1}, "[3 1]"},
		{[]int{1, 1, 1, 1, 1, 1}, "[3 3]"},
		{[]int{maxRequest - 1, 1, 1}, "[2 1]"},
		{[]int{maxRequest, 1}, "[1 1]"},
		{[]int{1, maxRequest}, "[1 1]"},
		{[]int{1, maxRequest + 1, 1, 1}, "[1 1 2]"},
		{[]int{maxRequest / 2, maxRequest / 2, 1}, "[2 1]"},
	} {
		var got []int
		next := 0
		for _, r := range cut(make([]warehouse.Row, len(tc.sizes)), maxRows, func(i int) int { return tc.sizes[i] }) {
			if r.first != next {
				t.Errorf("%v: a request begins at row %d, want %d", tc.sizes, r.first, next)
			}
			got = append(got, len(r.rows))
			next += len(r.rows)
		}
		if fmt.Sprint(got) != tc.want {
			t.Errorf("rows of %v bytes are cut to %v, want %s", tc.sizes, got, tc.want)
		}
	}
}
