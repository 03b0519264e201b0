package audit

import (
	"encoding/json"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// A Report says which windows of a range differ from their raw rows. Its JSON form
// is the answer of GET and POST /audit.
type Report struct {
	// From and To bound what was audited: windows that start in [From, To), UTC. To
	// may be before what was asked for, where windows there are not yet due.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Repaired are the windows that a repair has mended, as it found them, oldest
	// first. It is nil, and not in the JSON form, where none was asked for.
	Repaired []Window `json:"repaired"`
	// Waiting are the windows whose count is lower than the raw rows say, and that
	// the next flush will write, oldest first. They are no fault.
	Waiting []Window `json:"waiting"`
	// Lower are the other windows whose count is lower than the raw rows say,
	// oldest first. A repair mends them.
	Lower []Window `json:"lower"`
	// Higher are the windows whose count is higher than the raw rows say, oldest
	// first. Nothing that appends can mend them.
	Higher []Window `json:"higher"`
	// More is whether further windows differ, which are not listed. Waiting and
	// Lower are listed whole before any of Higher is.
	More bool `json:"more"`
}

// Clean reports whether no window differs but those that wait for a flush.
func (r Report) Clean() bool { return len(r.Lower) == 0 && len(r.Higher) == 0 && !r.More }

// An Estimate says what an audit would cost. Its JSON form is the answer of GET
// /audit?dry_run=1.
type Estimate struct {
	// From and To bound what would be audited, as in a [Report].
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Bytes is how much the owner of the tables would be billed for having read, at
	// most: 0 where the tables are SQLite's. BigQuery bills at least 10 MB for each of
	// the two tables, whatever they hold:
	// https://cloud.google.com/bigquery/pricing#on_demand_pricing
	Bytes int64 `json:"bytes"`
}

// MarshalJSON writes the estimate with times as everywhere in the API.
func (e Estimate) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		From  string `json:"from"`
		To    string `json:"to"`
		Bytes int64  `json:"bytes"`
	}{event.FormatTime(e.From), event.FormatTime(e.To), e.Bytes})
}

// A Window is a window that differs.
type Window struct {
	Start     time.Time `json:"window_start"` // UTC
	PageViews int64     `json:"page_views"`   // in the aggregate; 0 where it is not there
	Raw       int64     `json:"raw"`          // by the raw rows; 0 where there are none
}

// MarshalJSON writes the report with times as everywhere in the API and with every
// list, an empty one too.
func (r Report) MarshalJSON() ([]byte, error) {
	list := func(windows []Window) []Window { return append([]Window{}, windows...) }
	return json.Marshal(struct {
		From     string   `json:"from"`
		To       string   `json:"to"`
		Repaired []Window `json:"repaired,omitzero"`
		Waiting  []Window `json:"waiting"`
		Lower    []Window `json:"lower"`
		Higher   []Window `json:"higher"`
		More     bool     `json:"more"`
	}{event.FormatTime(r.From), event.FormatTime(r.To), r.Repaired, list(r.Waiting), list(r.Lower), list(r.Higher), r.More})
}

// MarshalJSON writes the window with its time as everywhere in the API.
func (w Window) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Start     string `json:"window_start"`
		PageViews int64  `json:"page_views"`
		Raw       int64  `json:"raw"`
	}{event.FormatTime(w.Start), w.PageViews, w.Raw})
}
