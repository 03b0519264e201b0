package windowstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

func TestKeyTellsKindsAndIDsApart(t *testing.T) {
	t.Parallel()
	seen := map[windowstore.Key]bool{}
	for _, pair := range [][2]string{{"message", "1"}, {"message", "2"}, {"attribute:a", "1"}, {"message", ""}, {"", "message"}, {"messag", "e1"}} {
		key := windowstore.KeyOf(pair[0], pair[1])
		if seen[key] {
			t.Errorf("the key of kind %q, id %q is the same as that of another id", pair[0], pair[1])
		}
		seen[key] = true
		if key != windowstore.KeyOf(pair[0], pair[1]) {
			t.Errorf("kind %q, id %q has two keys", pair[0], pair[1])
		}
	}
}

func TestCheckMeaning(t *testing.T) {
	t.Parallel()
	meaning := func(d time.Duration, raw, agg string) windowstore.Meaning {
		return windowstore.Meaning{WindowDuration: d, EventTime: "payload", EventID: "message", RawTable: raw, AggTable: agg}
	}
	recorded := map[string]windowstore.Meaning{
		"a": meaning(time.Minute, "raw_a", "agg_a"),
		"b": meaning(time.Minute, "raw_b", "agg_b"),
	}
	for _, test := range []struct {
		name     string
		pipeline string
		meaning  windowstore.Meaning
		problems []string // a part of each problem
	}{
		{"as recorded", "a", meaning(time.Minute, "raw_a", "agg_a"), nil},
		{"new with tables of its own", "c", meaning(time.Hour, "raw_c", "agg_c"), nil},
		{"another duration", "a", meaning(time.Hour, "raw_a", "agg_a"), []string{"WINDOW_DURATION is 60s on record and 1h in this process"}},
		{"new with tables of two others", "c", meaning(time.Minute, "raw_a", "agg_b"), []string{`RAW_TABLE raw_a belongs to pipeline "a"`, `AGG_TABLE agg_b belongs to pipeline "b"`}},
		{"moved to another's table", "a", meaning(time.Minute, "raw_a", "agg_b"), []string{"AGG_TABLE is agg_a on record", `AGG_TABLE agg_b belongs to pipeline "b"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := windowstore.CheckMeaning(test.pipeline, test.meaning, recorded)
			if test.problems == nil {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			var refused *windowstore.MeaningError
			if !errors.As(err, &refused) || len(refused.Problems) != len(test.problems) {
				t.Fatalf("got %v, want a *MeaningError with %d problems", err, len(test.problems))
			}
			for i, part := range test.problems {
				if !strings.Contains(refused.Problems[i], part) {
					t.Errorf("problem %q does not say %q", refused.Problems[i], part)
				}
			}
		})
	}
}
