package warehouse

import (
	"context"
	"errors"
	"fmt"
)

// ErrRejected is wrapped by the outcome of [AppendEach] for a row that the warehouse
// refuses because of the row's own value.
var ErrRejected = errors.New("the warehouse refuses the row for its own value")

// AppendEach appends the rows by the given method of a [Warehouse], so that a refused
// row does not keep the other rows from being stored. It returns one outcome for each
// row: nil if the row is stored; an error that wraps [ErrRejected] if the row is
// refused and will always be refused; any other error if the caller may try the row
// again.
//
// A row is rejected if two refusals name it, or if one certain refusal does. If a
// refusal names no row, AppendEach appends the rows one by one. Then a row is
// rejected if it is refused both before another row is stored and after. The package
// comment explains why. Usually the cost is one append.
func AppendEach[T any](ctx context.Context, rows []T, appendRows func(context.Context, []T) error) []error {
	a := &eachAppend[T]{ctx, rows, appendRows, make([]error, len(rows))}
	indexes := make([]int, len(rows))
	for i := range rows {
		indexes[i] = i
	}
	a.append(indexes, false)
	return a.outcomes
}

// An eachAppend is one run of AppendEach.
type eachAppend[T any] struct {
	ctx        context.Context
	rows       []T
	appendRows func(context.Context, []T) error
	outcomes   []error // by row
}

// append appends the rows with the given indexes. If again is true, an earlier
// refusal named each of them.
func (a *eachAppend[T]) append(indexes []int, again bool) {
	if len(indexes) == 0 {
		return
	}
	err := a.try(indexes)
	refused, ok := errors.AsType[*RefusedError](err)
	if !ok {
		for _, i := range indexes {
			a.outcomes[i] = err
		}
		return
	}
	var named, others []int
	for j, i := range indexes {
		if reason := refused.Rows[j]; reason == nil {
			others = append(others, i)
		} else {
			named = append(named, i)
			a.outcomes[i] = fmt.Errorf("%w: %w", ErrRejected, reason)
		}
	}
	if len(named) == 0 {
		a.appendOneByOne(indexes, err, again)
		return
	}
	a.append(others, again)
	if !again && !refused.Certain {
		a.append(named, true) // this replaces their outcomes
	}
}

// appendOneByOne finds out which rows are at fault if a refusal of all of them names
// no row. If no other row is stored after a row, nothing is decided about the row,
// and the caller may try it again.
func (a *eachAppend[T]) appendOneByOne(indexes []int, refusal error, again bool) {
	if len(indexes) == 1 {
		a.outcomes[indexes[0]] = fmt.Errorf("the refusal names no row, so the table may be at fault: %w", refusal)
		return
	}
	lastStored := -1
	for _, i := range indexes {
		if a.append([]int{i}, again); a.outcomes[i] == nil {
			lastStored = i
		}
	}
	for _, i := range indexes {
		if i > lastStored || !isRefusal(a.outcomes[i]) {
			continue
		}
		if a.outcomes[i] = a.try([]int{i}); isRefusal(a.outcomes[i]) {
			a.outcomes[i] = fmt.Errorf("%w: %w", ErrRejected, a.outcomes[i])
		}
	}
}

// try appends the rows with the given indexes once.
func (a *eachAppend[T]) try(indexes []int) error {
	if len(indexes) == len(a.rows) {
		return a.appendRows(a.ctx, a.rows)
	}
	rows := make([]T, len(indexes))
	for j, i := range indexes {
		rows[j] = a.rows[i]
	}
	return a.appendRows(a.ctx, rows)
}

// isRefusal reports whether err is a refusal that names no row.
func isRefusal(err error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}
