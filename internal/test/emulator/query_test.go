package emulator

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheBigQueryEmulatorAnswersQueries(t *testing.T) {
	t.Parallel()
	host, _ := BigQuery(t)
	project := Project()
	got, err := QueryBigQuery(t.Context(), host, project, "logs", "SELECT 1 AS n, TIMESTAMP '2026-03-14 10:26:53.5+01:00' AS at, NULL AS nothing UNION ALL SELECT 2, NULL, NULL ORDER BY n")
	want := []map[string]any{
		{"n": int64(1), "at": time.Date(2026, 3, 14, 9, 26, 53, 500_000_000, time.UTC), "nothing": nil},
		{"n": int64(2), "at": nil, "nothing": nil},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v; rows (-want +got):\n%s", err, diff)
	}
	const wrong = "SELECT 1 FROM no_such_table"
	if _, err := QueryBigQuery(t.Context(), host, project, "logs", wrong); err == nil || !strings.Contains(err.Error(), wrong) {
		t.Errorf("a query of a table that does not exist: %v, want an error with the query", err)
	}
}
