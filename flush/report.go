package flush

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// A Report says what one run did. Its JSON form is the answer of POST /flush.
type Report struct {
	// ReadTime is the time that decided which windows were due. It is by the clock of
	// the process, in UTC.
	ReadTime time.Time
	// Count is the name of the aggregate's column with the count. It is page_views if empty.
	Count string
	// Windows are the windows whose count was published, oldest first.
	Windows []Window
	// Held is how many of the listed due windows were left to a later run because they
	// still receive events.
	Held int
	// Remaining is how many due windows were left to the next run because this run had
	// reached its limit of windows or time. Then the run stops listing, and
	// RemainingAtLeast is true: there may be more windows than Remaining and Held have.
	Remaining        int
	RemainingAtLeast bool
	// Errors are the parts of the run that failed. The next run repeats them.
	Errors []error
}

// A Window is a published count.
type Window struct {
	Start     time.Time // UTC
	PageViews int64
	Final     bool
}

// MarshalJSON writes the report in the words of the API.
func (r Report) MarshalJSON() ([]byte, error) {
	windows := make([]json.RawMessage, len(r.Windows))
	for i, w := range r.Windows {
		windows[i] = fmt.Appendf(nil, `{"window_start":%q,%q:%d,"is_final":%t}`, event.FormatTime(w.Start), cmp.Or(r.Count, "page_views"), w.PageViews, w.Final)
	}
	errs := make([]string, len(r.Errors))
	for i, err := range r.Errors {
		errs[i] = err.Error()
	}
	return json.Marshal(struct {
		ReadTime  string            `json:"read_time"`
		Windows   []json.RawMessage `json:"windows"`
		Held      int               `json:"held"`
		Remaining int               `json:"remaining"`
		AtLeast   bool              `json:"remaining_at_least,omitempty"`
		Errors    []string          `json:"errors"`
	}{event.FormatTime(r.ReadTime), windows, r.Held, r.Remaining, r.RemainingAtLeast, errs})
}
