package warehouse

import (
	"context"
	"errors"
	"fmt"
)

// ErrRejected is wrapped by what [AppendEach] says of a row that the warehouse
// refuses for its own value.
var ErrRejected = errors.New("the warehouse refuses the row for its own value")

// AppendEach appends the rows by the given method of a [Warehouse], without
// letting a row that is refused take the others down, and returns one outcome
// per row: nil if it is stored; an error that wraps [ErrRejected] if it is
// refused and will always be; any other error if the row may be tried again.
//
// A row is rejected if two refusals name it, or one that is certain. Where a
// refusal names no row, the rows are appended one by one, and a row is rejected if
// it is refused both before another row is stored and after. The package comment
// says why. The cost in the usual case is one append.
func AppendEach[T any](ctx context.Context, rows []T, appendRows func(context.Context, []T) error) []error {
	a := &eachAppend[T]{ctx, rows, appendRows, make([]error, len(rows))}
	indexes := make([]int, len(rows))
	for i := range rows {
		indexes[i] = i
	}
	a.append(indexes, false)
	return a.outcomes
}

// An eachAppend is a run of AppendEach.
type eachAppend[T any] struct {
	ctx        context.Context
	rows       []T
	appendRows func(context.Context, []T) error
	outcomes   []error // by row
}

// append appends the rows of the given indexes. again is whether a refusal has named
// each of them before.
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
		a.append(named, true) // which replaces their outcomes
	}
}

// appendOneByOne finds out which rows are at fault where a refusal of all of them
// names none. A row that no other row is stored after is left for another time.
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

// try makes one append of the rows of the given indexes.
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

// isRefusal reports whether a row was refused without being named.
func isRefusal(err error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}
