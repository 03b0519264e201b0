package sqlitetables_test

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// shell runs SQL in the sqlite3 shell, in the directory of the warehouse.
func shell(t *testing.T, dir, sql string) string {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("the sqlite3 shell is not on the PATH")
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
	w := open(t, filepath.Join(dir, "warehouse.db"), accesslog.Layout())
	r := row("1")
	happened := time.Date(2026, time.March, 14, 9, 26, 53, 589_793_000, time.UTC)
	r.Event = accesslog.Record{UserID: "-6120394857710293846", Timestamp: happened}.Event()
	r.ProcessingTime = happened.Add(1204 * time.Millisecond)
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
			lagQuery(t),
			"0|1204|-6120394857710293846|0\n",
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

// lagQuery returns the lab's query of event time and processing time, in the version for
// SQLite that is in the documentation.
func lagQuery(t *testing.T) string {
	t.Helper()
	query, err := os.ReadFile("../../docs/lag.sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(query)
}

// If there are many events, the query returns the newest, each once. So a user sees the
// present lag, and not that of the first minutes of the file.
func TestTheLagQueryShowsTheNewestEvents(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "warehouse.db")
	w := open(t, path, accesslog.Layout())
	start := time.Date(2026, time.March, 14, 9, 0, 0, 0, time.UTC)
	var rows []warehouse.RawRow
	for i := range 2400 {
		r := row(strconv.Itoa(i))
		happened := start.Add(time.Duration(i) * time.Second)
		r.Event = accesslog.Record{Timestamp: happened}.Event()
		r.ProcessingTime = happened.Add(100 * time.Millisecond)
		if i >= 2000 && i%4 == 0 { // of the newer events every fourth lags and is delivered twice
			r.ProcessingTime = happened.Add(time.Minute)
			rows = append(rows, r)
		}
		rows = append(rows, r)
	}
	if err := w.AppendRaw(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // an attached database exists only in its connection
	if _, err := db.Exec("ATTACH ? AS logs", path); err != nil {
		t.Fatal(err)
	}
	shown, err := db.Query(lagQuery(t))
	if err != nil {
		t.Fatal(err)
	}
	defer shown.Close()
	events, lagging, last := 0, 0, int64(-1)
	for shown.Next() {
		var event, processing int64
		var user, label string
		if err := shown.Scan(&event, &processing, &user, &label); err != nil {
			t.Fatal(err)
		}
		if event <= last || label != strconv.FormatInt(event, 10) {
			t.Errorf("event %d, labelled %s, comes after %d", event, label, last)
		}
		events, last = events+1, event
		if processing-event == time.Minute.Milliseconds() {
			lagging++
		}
	}
	if err := shown.Err(); err != nil || events != 1000 || lagging != 100 || last != 999_000 {
		t.Errorf("%d events, of which %d lag, up to %d ms, %v; want 1000, 100 and 999000", events, lagging, last, err)
	}
}
