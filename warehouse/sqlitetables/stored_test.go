package sqlitetables_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// People sometimes repair rows by hand. A dead letter that they broke must not be sent as
// if it were complete.
func TestABrokenDeadLetterIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]string{
		"the first part gone":  "DELETE FROM dead_letter WHERE part = 1",
		"a middle part gone":   "DELETE FROM dead_letter WHERE part = 2",
		"the last part gone":   "DELETE FROM dead_letter WHERE part = 3",
		"attributes a list":    `UPDATE dead_letter SET attributes = '["a"]'`,
		"attributes no JSON":   "UPDATE dead_letter SET attributes = 'a=b'",
		"a time that is none":  "UPDATE dead_letter SET publish_time = 'yesterday'",
		"nothing, for a check": "SELECT 1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "warehouse.db")
			w := open(t, path, accesslog.Layout())
			now := time.Now()
			err := w.AppendDeadLetters(t.Context(), []warehouse.DeadLetter{{
				ReceivedAt: now, Reason: event.BadJSON,
				Message: event.Message{ID: "4711", PublishTime: now, Data: make([]byte, 2*warehouse.MaxPart+1)},
			}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := openFile(t, path).Exec(breakIt); err != nil {
				t.Fatal(err)
			}
			letters := 0
			for _, broken := range w.DeadLetters(t.Context(), time.Time{}, time.Time{}) {
				if err = broken; err == nil {
					letters++
				}
			}
			switch {
			case breakIt == "SELECT 1":
				if letters != 1 || err != nil {
					t.Errorf("%d letters, error %v, want one", letters, err)
				}
			case letters != 0 || err == nil || !strings.Contains(err.Error(), "4711"):
				t.Errorf("%d letters, error %v, want one that names message 4711", letters, err)
			}
		})
	}
}
