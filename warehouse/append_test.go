package warehouse_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// table stores rows and refuses those in bad, naming them or not.
type table struct {
	bad    map[string]bool
	naming bool
	sure   bool             // refusals are certain
	down   map[string]error // errors that are no refusal, by row

	stored  []string
	appends int
}

func (t *table) append(_ context.Context, rows []string) error {
	t.appends++
	refusal := &warehouse.RefusedError{Certain: t.sure, Err: errors.New("invalid argument")}
	refused := false
	for i, row := range rows {
		if err := t.down[row]; err != nil {
			return err
		}
		if t.bad[row] {
			refused = true
			if t.naming {
				if refusal.Rows == nil {
					refusal.Rows = map[int]error{}
				}
				refusal.Rows[i] = errors.New("out of range")
			}
		}
	}
	if refused {
		return refusal
	}
	t.stored = append(t.stored, rows...)
	return nil
}

func TestAppendEach(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	const stored, rejected, failed = "stored", "rejected", "failed"
	cases := []struct {
		name    string
		table   table
		rows    []string
		want    []string
		appends int
	}{
		{"no rows are no append", table{}, nil, []string{}, 0},
		{"all pass in one append", table{}, []string{"a", "b"}, []string{stored, stored}, 1},
		{"a row alone is rejected if that is certain", table{bad: map[string]bool{"a": true}, naming: true, sure: true}, []string{"a"}, []string{rejected}, 1},
		{"all rows are rejected if that is certain", table{bad: map[string]bool{"a": true, "b": true}, naming: true, sure: true}, []string{"a", "b"}, []string{rejected, rejected}, 1},
		{"a row alone is not rejected else", table{bad: map[string]bool{"a": true}, naming: true}, []string{"a"}, []string{failed}, 1},
		{"a named row is rejected and its mates pass", table{bad: map[string]bool{"b": true}, naming: true},
			[]string{"a", "b", "c"}, []string{stored, rejected, stored}, 2},
		{"an unnamed row is found", table{bad: map[string]bool{"b": true}},
			[]string{"a", "b", "c"}, []string{stored, rejected, stored}, 5},
		{"an unnamed row that nothing is stored after is left", table{bad: map[string]bool{"b": true}},
			[]string{"a", "b"}, []string{stored, failed}, 3},
		{"every row named is the table's fault", table{bad: map[string]bool{"a": true, "b": true}, naming: true},
			[]string{"a", "b"}, []string{failed, failed}, 1},
		{"every row refused one by one is the table's fault", table{bad: map[string]bool{"a": true, "b": true}},
			[]string{"a", "b"}, []string{failed, failed}, 3},
		{"a lone row has no mates", table{bad: map[string]bool{"a": true}, naming: true},
			[]string{"a"}, []string{failed}, 1},
		{"a passing failure concerns all", table{down: map[string]error{"b": away}},
			[]string{"a", "b"}, []string{failed, failed}, 1},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, err := range warehouse.AppendEach(t.Context(), tc.rows, tc.table.append) {
				switch {
				case err == nil:
					got = append(got, stored)
				case errors.Is(err, warehouse.ErrRejected):
					got = append(got, rejected)
				default:
					got = append(got, failed)
				}
			}
			if !slices.Equal(got, tc.want) || tc.table.appends != tc.appends {
				t.Errorf("outcomes %q after %d appends, want %q after %d", got, tc.table.appends, tc.want, tc.appends)
			}
			for i, row := range tc.rows {
				if slices.Contains(tc.table.stored, row) != (tc.want[i] == stored) {
					t.Errorf("row %s is stored: %v, outcome %s", row, slices.Contains(tc.table.stored, row), tc.want[i])
				}
			}
		})
	}
}

// The table is mended while the rows of an unnamed refusal are tried one by one.
func TestAppendEachRejectsNothingThatATableAtFaultRefused(t *testing.T) {
	t.Parallel()
	calls := 0
	outcomes := warehouse.AppendEach(t.Context(), []string{"a", "b"}, func(context.Context, []string) error {
		if calls++; calls <= 2 { // the whole, and the first alone
			return &warehouse.RefusedError{Err: errors.New("no column ip")}
		}
		return nil
	})
	if outcomes[0] != nil || outcomes[1] != nil {
		t.Errorf("outcomes %v", outcomes)
	}
}

// A refused row whose mates then fail for a passing reason has not been shown to
// be the one at fault.
func TestAppendEachRejectsNothingWhenTheMatesWereNotStored(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	calls := 0
	outcomes := warehouse.AppendEach(t.Context(), []string{"bad", "good"}, func(context.Context, []string) error {
		if calls++; calls == 1 {
			return &warehouse.RefusedError{Rows: map[int]error{0: errors.New("out of range")}}
		}
		return away
	})
	if outcomes[0] == nil || errors.Is(outcomes[0], warehouse.ErrRejected) || !errors.Is(outcomes[1], away) {
		t.Errorf("outcomes %v", outcomes)
	}
}
