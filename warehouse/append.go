package warehouse

import (
	"context"
	"errors"
	"fmt"
)

// ErrRejected is wrapped by what [AppendEach] says of a row that the warehouse
// refuses for its own value, while others of the same append were stored.
var ErrRejected = errors.New("the warehouse refuses the row for its own value")

// AppendEach appends the rows by the given method of a [Warehouse], without
// letting a row that is refused take the others down, and returns one outcome
// per row: nil if it is stored; an error that wraps [ErrRejected] if it is
// refused and will always be; any other error if the row may be tried again.
//
// A row counts as rejected only if another row of the same append was stored, or
// the refusal is certain. Where all are refused the fault may as well lie with the
// table, and no row is given up for that. The cost in the usual case is one append.
func AppendEach[T any](ctx context.Context, rows []T, appendRows func(context.Context, []T) error) []error {
	outcomes := make([]error, len(rows))
	if len(rows) == 0 {
		return outcomes
	}
	err := appendRows(ctx, rows)
	var refused *RefusedError
	switch {
	case err == nil:
	case !errors.As(err, &refused):
		fill(outcomes, err)
	case !refused.Certain && (len(refused.Rows) == len(rows) || len(rows) == 1):
		fill(outcomes, fmt.Errorf("every row of the append is refused, so the table may be at fault: %w", err))
	case len(refused.Rows) == 0:
		appendOneByOne(ctx, rows, outcomes, appendRows)
	default:
		appendOthers(ctx, rows, refused, outcomes, appendRows)
	}
	return outcomes
}

// appendOthers appends the rows that a refusal did not name.
func appendOthers[T any](ctx context.Context, rows []T, refused *RefusedError, outcomes []error, appendRows func(context.Context, []T) error) {
	var others []T
	var indexes []int // of others, in rows
	for i, row := range rows {
		if _, bad := refused.Rows[i]; !bad {
			others = append(others, row)
			indexes = append(indexes, i)
		}
	}
	stored := false
	for j, outcome := range AppendEach(ctx, others, appendRows) {
		outcomes[indexes[j]] = outcome
		stored = stored || outcome == nil
	}
	for i, reason := range refused.Rows {
		outcomes[i] = verdict(reason, stored || refused.Certain)
	}
}

// appendOneByOne finds out which rows are refused where a refusal names none.
//
// The rows are tried at different times, and the table may be mended or broken
// between two of them. So a row is rejected only if it is refused both before
// another row is stored and after; one that nothing was stored after is left for
// another time.
func appendOneByOne[T any](ctx context.Context, rows []T, outcomes []error, appendRows func(context.Context, []T) error) {
	lastStored := -1
	for i := range rows {
		if outcomes[i] = appendRows(ctx, rows[i:i+1]); outcomes[i] == nil {
			lastStored = i
		}
	}
	for i, err := range outcomes {
		if !isRefusal(err) {
			continue
		}
		if i < lastStored {
			err = appendRows(ctx, rows[i:i+1])
		}
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			err = verdict(err, i < lastStored || refused.Certain)
		}
		outcomes[i] = err
	}
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}

// verdict is the outcome of a refused row: whether it is known that the table is not
// at fault.
func verdict(refusal error, certain bool) error {
	if certain {
		return fmt.Errorf("%w: %w", ErrRejected, refusal)
	}
	return fmt.Errorf("refused, and no row was stored after it, so the table may be at fault: %w", refusal)
}

func fill(outcomes []error, err error) {
	for i := range outcomes {
		outcomes[i] = err
	}
}
