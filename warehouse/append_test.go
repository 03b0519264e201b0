package warehouse_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// table stores rows, and refuses an append that has rows in bad.
type table struct {
	bad    map[string]bool
	naming bool
	most   int              // how many rows a refusal names at most; 0 for no limit
	sure   bool             // whether refusals are certain
	down   map[string]error // other errors than refusals, by row

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
			if t.naming && (t.most == 0 || len(refusal.Rows) < t.most) {
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
		{"a row that is certainly at fault is rejected at its first refusal", table{bad: map[string]bool{"a": true}, naming: true, sure: true},
			[]string{"a"}, []string{rejected}, 1},
		{"rows that are certainly at fault leave their mates to be stored", table{bad: map[string]bool{"a": true, "c": true}, naming: true, sure: true},
			[]string{"a", "b", "c"}, []string{rejected, stored, rejected}, 2},
		{"a named row alone is rejected at its second refusal", table{bad: map[string]bool{"a": true}, naming: true},
			[]string{"a"}, []string{rejected}, 2},
		{"so are all rows if all are named", table{bad: map[string]bool{"a": true, "b": true}, naming: true},
			[]string{"a", "b"}, []string{rejected, rejected}, 2},
		{"a named row is rejected and its mates pass", table{bad: map[string]bool{"b": true}, naming: true},
			[]string{"a", "b", "c"}, []string{stored, rejected, stored}, 3},
		{"of named rows some may be named later", table{bad: map[string]bool{"a": true, "c": true, "d": true}, naming: true, most: 1},
			[]string{"a", "b", "c", "d"}, []string{rejected, stored, rejected, rejected}, 7},
		{"an unnamed row is found", table{bad: map[string]bool{"b": true}},
			[]string{"a", "b", "c"}, []string{stored, rejected, stored}, 5},
		{"an unnamed row that nothing is stored after is left", table{bad: map[string]bool{"b": true}},
			[]string{"a", "b"}, []string{stored, failed}, 3},
		{"an unnamed row alone is left", table{bad: map[string]bool{"a": true}},
			[]string{"a"}, []string{failed}, 1},
		{"every row refused and none named may be the table's fault", table{bad: map[string]bool{"a": true, "b": true}},
			[]string{"a", "b"}, []string{failed, failed}, 3},
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

// The table was at fault, and was repaired before it was compared with the schema. So the
// refusal looks as if the rows were at fault.
func TestAppendEachRejectsNothingThatATableAtFaultRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		named    map[int]error // the rows that each refusal names
		refusals int
	}{
		"a row alone":                          {map[int]error{0: errors.New("out of range")}, 1},
		"every row":                            {map[int]error{0: errors.New("out of range"), 1: errors.New("out of range")}, 1},
		"one row, which its mate passes":       {map[int]error{1: errors.New("out of range")}, 1},
		"none is named, and one is tried then": {nil, 2},
	} {
		calls := 0
		rows := []string{"a", "b"}
		if name == "a row alone" {
			rows = rows[:1]
		}
		outcomes := warehouse.AppendEach(t.Context(), rows, func(context.Context, []string) error {
			if calls++; calls <= tc.refusals {
				return &warehouse.RefusedError{Rows: tc.named, Err: errors.New("invalid argument")}
			}
			return nil
		})
		for i, err := range outcomes {
			if err != nil {
				t.Errorf("%s: row %d: %v, want it stored", name, i, err)
			}
		}
	}
}

// If the second append of a refused row fails in passing, or because the table turns out
// to be at fault, the row is not rejected: its message comes again later.
func TestAppendEachRejectsNothingThatIsNotRefusedAgain(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for _, then := range []error{away, &warehouse.TableError{Table: "raw", Err: away}} {
		calls := 0
		outcomes := warehouse.AppendEach(t.Context(), []string{"bad", "good"}, func(context.Context, []string) error {
			if calls++; calls == 1 {
				return &warehouse.RefusedError{Rows: map[int]error{0: errors.New("out of range")}}
			}
			return then
		})
		for i, err := range outcomes {
			if !errors.Is(err, away) || errors.Is(err, warehouse.ErrRejected) {
				t.Errorf("row %d: %v, want %v", i, err, then)
			}
		}
	}
}

// A refusal that names a row which is not in the append is treated as one that names no
// row.
func TestAppendEachEndsWhateverIsNamed(t *testing.T) {
	t.Parallel()
	outcomes := warehouse.AppendEach(t.Context(), []string{"a", "b"}, func(context.Context, []string) error {
		return &warehouse.RefusedError{Rows: map[int]error{7: errors.New("out of range")}}
	})
	for i, err := range outcomes {
		if err == nil || errors.Is(err, warehouse.ErrRejected) {
			t.Errorf("row %d: %v, want an error that passes", i, err)
		}
	}
}
