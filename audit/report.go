package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// A Report says which windows of a range differ from their raw rows. Its JSON form
// is the answer of GET and POST /audit.
type Report struct {
	// From and To bound the audited windows: those that start in [From, To), in UTC. To
	// is earlier than requested if the last windows are not yet due.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Count is the name of the aggregate's column with the count, and of the count in the
	// JSON form. It is page_views if empty.
	Count string `json:"-"`
	// Repaired are the windows that a repair corrected, as they were before, oldest
	// first. In the report of an audit it is nil, and not in the JSON form.
	Repaired []Window `json:"repaired,omitzero"`
	// Waiting are the windows whose count is lower than the raw rows say, but that the
	// next flush will write, oldest first. Nothing is wrong with them.
	Waiting []Window `json:"waiting"`
	// Lower are the other windows whose count is lower than the raw rows say,
	// oldest first. A repair corrects them.
	Lower []Window `json:"lower"`
	// Higher are the windows whose count is higher than the raw rows say, oldest
	// first. No append can correct them.
	Higher []Window `json:"higher"`
	// More is whether more windows differ than the report lists. A report lists windows
	// of Higher only if it has all of Waiting and Lower.
	More bool `json:"more"`
}

// Clean reports whether all windows that differ wait for a flush.
func (r Report) Clean() bool { return len(r.Lower) == 0 && len(r.Higher) == 0 && !r.More }

// An Estimate says what an audit would cost. Its JSON form is the answer of GET
// /audit?dry_run=1.
type Estimate struct {
	// From and To bound what would be audited, as in a [Report].
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Bytes is for how many read bytes the owner of the tables would be billed at most.
	// It is 0 if the tables are in SQLite. BigQuery bills at least 10 MB for each of the
	// two tables, even if they are empty:
	// https://cloud.google.com/bigquery/pricing#on_demand_pricing
	Bytes int64 `json:"bytes"`
}

// MarshalJSON writes the estimate with times in the format of the API.
func (e Estimate) MarshalJSON() ([]byte, error) {
	type fields Estimate
	return json.Marshal(struct {
		From string `json:"from"` // replaces the field of the same name
		To   string `json:"to"`
		fields
	}{event.FormatTime(e.From), event.FormatTime(e.To), fields(e)})
}

// A Window is a window that differs.
type Window struct {
	Start     time.Time `json:"window_start"` // UTC
	PageViews int64     `json:"page_views"`   // in the aggregate; 0 if the window is not there
	Raw       int64     `json:"raw"`          // from the raw rows; 0 if there are no rows
}

// MarshalJSON writes the report in the words of the API. It writes empty lists too.
func (r Report) MarshalJSON() ([]byte, error) {
	type fields Report
	return json.Marshal(struct {
		From     string            `json:"from"` // replaces the field of the same name, as the others do
		To       string            `json:"to"`
		Repaired []json.RawMessage `json:"repaired,omitzero"`
		Waiting  []json.RawMessage `json:"waiting"`
		Lower    []json.RawMessage `json:"lower"`
		Higher   []json.RawMessage `json:"higher"`
		fields
	}{event.FormatTime(r.From), event.FormatTime(r.To), r.repaired(), r.list(r.Waiting), r.list(r.Lower), r.list(r.Higher), fields(r)})
}

func (r Report) repaired() []json.RawMessage {
	if r.Repaired == nil {
		return nil
	}
	return r.list(r.Repaired)
}

// list returns windows in the words of the API.
func (r Report) list(windows []Window) []json.RawMessage {
	list := make([]json.RawMessage, len(windows))
	for i, w := range windows {
		list[i] = fmt.Appendf(nil, `{"window_start":%q,%q:%d,"raw":%d}`, event.FormatTime(w.Start), cmp.Or(r.Count, "page_views"), w.PageViews, w.Raw)
	}
	return list
}
