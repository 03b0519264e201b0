package bigquerytables_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
)

// streams keeps the rows of the last append, and fails it with err.
type streams struct {
	table string
	rows  []warehouse.Row
	err   error
}

func (s *streams) append(_ context.Context, table warehouse.Table, rows []warehouse.Row) error {
	s.table, s.rows = table.Name, rows
	return s.err
}

func letter(id string, size int) warehouse.DeadLetter {
	return warehouse.DeadLetter{Reason: event.BadJSON, Message: event.Message{ID: id, Data: make([]byte, size)}}
}

// A dead letter is refused if one of its rows is refused. The refusal names it by the
// letter's own index.
func TestARefusalOfPartsNamesTheirLetters(t *testing.T) {
	t.Parallel()
	const large = 2*warehouse.MaxPart + 1 // the data of three parts
	letters := []warehouse.DeadLetter{letter("0", 1), letter("1", large), letter("2", 1), letter("3", large)}
	for _, tc := range []struct {
		rows, want []int
		certain    bool
	}{
		{[]int{0}, []int{0}, false},
		{[]int{1}, []int{1}, true},
		{[]int{3}, []int{1}, false},
		{[]int{2, 3, 4}, []int{1, 2}, true},
		{[]int{5, 7}, []int{3}, false},
		{nil, nil, false},
	} {
		refusal := &warehouse.RefusedError{Certain: tc.certain, Err: errors.New("invalid argument")}
		for _, i := range tc.rows {
			if refusal.Rows == nil {
				refusal.Rows = map[int]error{}
			}
			refusal.Rows[i] = errors.New("bad value")
		}
		s := &streams{err: refusal}
		err := bigquerytables.NewAppender(accesslog.Layout(), s.append).AppendDeadLetters(t.Context(), letters)
		got, ok := errors.AsType[*warehouse.RefusedError](err)
		if !ok || len(s.rows) != 8 {
			t.Fatalf("%d rows appended: %v, want 8 and a RefusedError", len(s.rows), err)
		}
		want := &warehouse.RefusedError{Certain: tc.certain, Err: refusal.Err}
		for _, i := range tc.want {
			if want.Rows == nil {
				want.Rows = map[int]error{}
			}
			want.Rows[i] = errors.New("bad value")
		}
		text := cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() })
		if diff := cmp.Diff(*want, *got, text, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("refusal of the rows %v (-want +got):\n%s", tc.rows, diff)
		}
	}
}

// Each method appends the rows of its own table. It returns the error that Append
// returns, with the table's name added.
func TestAppendsGoToTheirTables(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)
	raw := warehouse.RawRow{EventID: "1", PublishTime: at}
	count := warehouse.WindowCount{Start: at, PageViews: 1}
	dead := warehouse.DeadLetter{ReceivedAt: at, Message: event.Message{ID: "1", Attributes: map[string]string{"a": "1"}}}
	l := accesslog.Layout()
	letter := warehouse.LetterPart{DeadLetter: dead, Part: 1, Parts: 1}
	for table, tc := range map[string]struct {
		append func(bigquerytables.Appender) error
		rows   []warehouse.Row
	}{
		"raw": {func(a bigquerytables.Appender) error {
			return a.AppendRaw(t.Context(), []warehouse.RawRow{raw})
		}, []warehouse.Row{warehouse.RawTable(l).Row(&raw)}},
		"windowed_traffic_log": {func(a bigquerytables.Appender) error {
			return a.AppendCounts(t.Context(), []warehouse.WindowCount{count})
		}, []warehouse.Row{warehouse.AggLogTable(l).Row(&count)}},
		"dead_letter": {func(a bigquerytables.Appender) error {
			return a.AppendDeadLetters(t.Context(), []warehouse.DeadLetter{dead})
		}, []warehouse.Row{warehouse.DeadLetterTable(l).Row(&letter)}},
	} {
		for _, fails := range []error{nil, &warehouse.TableError{Table: table, Err: errors.New("no column ip")}} {
			s := &streams{err: fails}
			err := tc.append(bigquerytables.NewAppender(accesslog.Layout(), s.append))
			if diff := cmp.Diff(tc.rows, s.rows); s.table != table || diff != "" {
				t.Errorf("%s: appended to %s (-want +got):\n%s", table, s.table, diff)
			}
			if !errors.Is(err, fails) || fails != nil && !strings.Contains(err.Error(), "append 1 rows to "+table) {
				t.Errorf("%s: error %v, want %v", table, err, fails)
			}
		}
	}
}
