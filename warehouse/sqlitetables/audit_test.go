package sqlitetables_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
)

// If another program has written to the log, a window start in it may not be a time.
func TestAnAuditNamesAWindowStartItCannotRead(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	w := open(t, path, accesslog.Layout())
	execFile(t, path, "INSERT INTO windowed_traffic_log VALUES ('2026-03-14 noon', '', 1, 1, '')")
	_, err := w.Audit(t.Context(), time.Time{}, time.Now().AddDate(10, 0, 0), 10)
	for _, want := range []string{path, "windowed_traffic_log", `"2026-03-14 noon"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %s", err, want)
		}
	}
}

func BenchmarkAudit(b *testing.B) {
	const rows = 240_000
	for _, windows := range []int{1, 100, 2000} {
		b.Run(fmt.Sprintf("rows=%d/windows=%d", rows, windows), func(b *testing.B) {
			w := filled(b, rows)
			from := time.Unix(0, 0)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Audit(context.Background(), from, from.Add(time.Duration(windows)*time.Minute), 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
