package sqlitetables_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// shell runs SQL in the sqlite3 shell, in the directory of the warehouse.
func shell(t *testing.T, dir, sql string) string {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("no sqlite3 shell on the PATH to read the file with")
	}
	command := exec.Command(program, "-batch", "-init", "/dev/null")
	command.Dir = dir
	command.Stdin = strings.NewReader(sql)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, out)
	}
	return string(out)
}

func TestTheShellReadsTheFileWhileItIsOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := open(t, filepath.Join(dir, "warehouse.db"), warehouse.DefaultNames)
	r := row("1")
	r.UserID = "-6120394857710293846"
	r.Timestamp = time.Date(2026, time.March, 14, 9, 26, 53, 589_793_000, time.UTC)
	r.ProcessingTime = r.Timestamp.Add(1204 * time.Millisecond)
	if err := w.AppendRaw(t.Context(), []warehouse.RawRow{r}); err != nil {
		t.Fatal(err)
	}
	for i, n := range []int64{118, 120} {
		start := r.WindowStart.Add(time.Duration(1-i) * time.Minute)
		count := warehouse.WindowCount{Start: start, End: start.Add(time.Minute), PageViews: n, Final: true, WrittenAt: start.Add(3 * time.Minute)}
		if err := w.AppendCounts(t.Context(), []warehouse.WindowCount{count}); err != nil {
			t.Fatal(err)
		}
	}

	for name, tc := range map[string]struct{ query, want string }{
		"counts": {
			"SELECT timestamp, page_views FROM logs.windowed_traffic ORDER BY timestamp;",
			"2026-03-14T09:26:00.000000Z|120\n2026-03-14T09:27:00.000000Z|118\n",
		},
		"lag": {
			lagQuery,
			"-6120394857710293846|1773480413589|0|1204\n",
		},
		"windows": {
			"SELECT * FROM logs.windowed_traffic ORDER BY timestamp LIMIT 1;",
			"2026-03-14T09:26:00.000000Z|120|2026-03-14T09:27:00.000000Z|1|2026-03-14T09:29:00.000000Z|2026-03-14T09:29:00.000000Z\n",
		},
		"events": {"SELECT user_id, is_late FROM logs.events;", "-6120394857710293846|0\n"},
		"check":  {"PRAGMA integrity_check;", "ok\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, shell(t, dir, "ATTACH 'warehouse.db' AS logs;\n"+tc.query)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// lagQuery is the lab's query of event time against processing time, in SQLite's
// words for UNIX_MILLIS.
const lagQuery = `WITH millis AS (
  SELECT user_id,
    unixepoch(event_timestamp) * 1000 + substr(event_timestamp, 21, 3) AS event,
    unixepoch(processing_timestamp) * 1000 + substr(processing_timestamp, 21, 3) AS processing
  FROM logs.raw
  WHERE event_timestamp IS NOT NULL)
SELECT user_id, CAST(event AS TEXT) AS label,
  event - (SELECT min(event) FROM millis) AS event_millis,
  processing - (SELECT min(event) FROM millis) AS processing_millis
FROM millis ORDER BY event_millis;`
