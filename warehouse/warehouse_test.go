package warehouse_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/warehouse"
)

func TestNamesFollowFromThoseOfTheTables(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		names                    warehouse.Names
		log, events, deadLetters string
	}{
		{warehouse.DefaultNames, "windowed_traffic_log", "events", "dead_letters"},
		{warehouse.Names{Raw: "visits", Agg: "hits", DeadLetter: "bad"}, "hits_log", "visits_events", "bads"},
	} {
		got := []string{tc.names.AggLog(), tc.names.Events(), tc.names.DeadLetters()}
		if diff := cmp.Diff([]string{tc.log, tc.events, tc.deadLetters}, got); diff != "" {
			t.Errorf("%+v: (-want +got)\n%s", tc.names, diff)
		}
		if err := tc.names.Check(); err != nil {
			t.Errorf("%+v: %v", tc.names, err)
		}
	}
}

func TestNamesCheckNamesEveryFault(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		names warehouse.Names
		want  []string // parts of the error
	}{
		{warehouse.Names{}, []string{`""`}},
		{warehouse.Names{Raw: "1raw", Agg: "a b", DeadLetter: "d;"}, []string{`"1raw"`, `"a b"`, `"d;"`}},
		{warehouse.Names{Raw: "_raw", Agg: "räw", DeadLetter: "x.y"}, []string{`"_raw"`, `"räw"`, `"x.y"`}},
		{warehouse.Names{Raw: strings.Repeat("x", 201), Agg: "a", DeadLetter: "d"}, []string{"xxx"}},
		{warehouse.Names{Raw: "same", Agg: "SAME", DeadLetter: "d"}, []string{`"SAME" is used twice`}},
		{warehouse.Names{Raw: "a_log", Agg: "a", DeadLetter: "d"}, []string{`"a_log" is used twice`}},
		{warehouse.Names{Raw: "raw", Agg: "events", DeadLetter: "d"}, []string{`"events" is used twice`}},
		{warehouse.Names{Raw: "raw", Agg: "ds", DeadLetter: "d"}, []string{`"ds" is used twice`}},
	} {
		err := tc.names.Check()
		if err == nil {
			t.Errorf("%+v: no error", tc.names)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: error %q does not say %s", tc.names, err, want)
			}
		}
	}
}

func TestProjectsThatMayStandInAStatement(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"p", "my-project-123", "example.com:my-project", "P" + strings.Repeat("1", 199)} {
		if err := warehouse.CheckProject(id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, id := range []string{"", "1p", "-p", "p`", "p\n", "p q", "p'", "p\\", "p/q", "p_q", "é", "P" + strings.Repeat("1", 200)} {
		if err := warehouse.CheckProject(id); err == nil || !strings.Contains(err.Error(), strconv.Quote(id)) {
			t.Errorf("%q: error %v, want one that names it", id, err)
		}
	}
}

func TestRefusedErrorNamesTheFirstRowAndUnwraps(t *testing.T) {
	t.Parallel()
	cause := errors.New("too large")
	for _, tc := range []struct {
		err  *warehouse.RefusedError
		want string
	}{
		{&warehouse.RefusedError{Err: cause}, "append refused: too large"},
		{&warehouse.RefusedError{Rows: map[int]error{7: errors.New("seven"), 3: errors.New("three")}, Err: cause}, "2 rows refused, the first at index 3: three"},
	} {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("error %q, want %q", got, tc.want)
		}
		if !errors.Is(tc.err, cause) {
			t.Errorf("%q does not unwrap to its cause", tc.err)
		}
	}
	table := &warehouse.TableError{Table: "raw", Err: cause}
	if !errors.Is(table, cause) || !strings.Contains(table.Error(), "raw") {
		t.Errorf("TableError %q names no table, or does not unwrap", table)
	}
}
