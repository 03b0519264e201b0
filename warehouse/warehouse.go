// Package warehouse holds the tables that users query: the raw rows, the dead
// letters, and the log of window counts with the views over them.
//
// Every table is append-only. A call that failed may be repeated, and may then
// have appended its rows twice, so every reader goes by ids and by the greatest
// count: the views events, dead_letters and windowed_traffic do. Package
// warehousetest is this contract as a test suite, which every implementation
// runs.
//
// # Whose fault a refusal is
//
// A row that is refused for its own value is refused each time, so its message
// becomes a dead letter, at once: until then Pub/Sub delivers it again and again,
// and slows all others for it. A row that is refused because somebody changed the
// table is to wait until the table is repaired: no such change may turn events into
// dead letters. The refusal itself does not tell the two apart. A column of
// STRING(100) refuses long values by name, and takes their mates.
//
// So an implementation compares the table with the schema after each refusal, by
// names, types, lengths and precision. A difference is a [*TableError], whatever the
// refusal said. A [*RefusedError] means that the table fits.
//
// One such refusal proves nothing: the table may have been repaired after the append
// and before the comparison. [AppendEach] therefore appends the row again. The second
// append lies between two comparisons, and the table fitted at both. So the row was
// refused by a table that fits, unless somebody broke the table and repaired it
// between these two comparisons, which are one append apart. A mate that is stored
// proves less: it may fit a table that the row does not fit, and it may have been
// stored after a repair. Mates decide only where the refusal names no row.
//
// That leaves appends that go by an older schema than the comparison sees; see
// bigquerytables for what BigQuery does.
package warehouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// A RawRow is a row of the raw table: one delivery of an event that was stored.
// All times are UTC in microseconds.
type RawRow struct {
	event.Event
	ProcessingTime time.Time // when the process that stored it took it up
	EventID        string
	MessageID      string
	PublishTime    time.Time
	WindowStart    time.Time // by the configured event time, which need not be Event.Timestamp
	Late           bool      // stored, but not counted
}

// A DeadLetter is a message that can never become an event, whole, and why.
type DeadLetter struct {
	ReceivedAt time.Time // UTC
	Message    event.Message
	Reason     event.Reason
	Err        string // the detail behind Reason
}

// A WindowCount is a row of the aggregate's log: the count of one window as it
// was known at one time.
type WindowCount struct {
	Start     time.Time // UTC
	End       time.Time // UTC
	PageViews int64     // at least 1
	Final     bool      // whether the window was due
	WrittenAt time.Time // UTC
}

// A Discrepancy is a window whose count in the aggregate is not what its raw
// rows say.
type Discrepancy struct {
	Start     time.Time // UTC
	PageViews int64     // the greatest count in the aggregate's log; 0 for none
	Raw       int64     // distinct event ids among the raw rows that are not late; 0 for none
}

// Ingester stores what the push path has classified.
//
// A method that returns nil has made all its rows durable and visible to queries.
// On an error any of them may have been stored, unless the error says otherwise:
//
//   - a [*RefusedError] names rows that were refused although the table, which was
//     looked at after the refusal, is as the schema says. They were not stored; the
//     others may have been, where there are too many for one request. [AppendEach]
//     finds out which rows will always be refused.
//   - a [*TableError] says that the table is at fault, so rows that do not fit it
//     cannot be stored until a person has repaired it.
//   - any other error is passing, and the caller may try again.
type Ingester interface {
	AppendRaw(ctx context.Context, rows []RawRow) error
	AppendDeadLetters(ctx context.Context, letters []DeadLetter) error
}

// Aggregate is where a flush publishes window counts and, for windows whose
// counters may be gone, has the raw rows counted.
type Aggregate interface {
	// AppendCounts appends the rows to the aggregate's log in one operation. The
	// errors are those of [Ingester].
	AppendCounts(ctx context.Context, rows []WindowCount) error

	// CountRaw returns, for each of the given windows, the number of distinct
	// event ids among the raw rows that are not late: what the window's
	// page_views should be. It sees every row whose append had returned before it
	// was called. The times may be in any order; the counts are in theirs.
	CountRaw(ctx context.Context, starts []time.Time) ([]int64, error)
}

// Comparer compares the aggregate with the raw rows.
type Comparer interface {
	// Audit returns the windows that start in [from, to) and whose greatest count
	// in the log differs from the number that [Aggregate.CountRaw] returns; a
	// window that is missing on one side counts 0 there. The bounds are in
	// microseconds.
	//
	// It returns at most limit windows: those whose count is lower before those
	// whose count is higher, so that what cannot be mended never hides what can,
	// and each of the two kinds oldest first.
	//
	// It reads one snapshot, which has every append that had returned before the
	// call. So it also has the raw rows of every count in it, since rows are stored
	// before they are counted: a count is never taken for higher because its rows
	// are still on their way.
	Audit(ctx context.Context, from, to time.Time, limit int) ([]Discrepancy, error)

	// AuditBytes returns how many bytes the owner of the tables would be billed for
	// having read by Audit of the same range, or more, and reads none of them. It is
	// 0 where nobody is billed, and where there is no table yet.
	AuditBytes(ctx context.Context, from, to time.Time) (int64, error)
}

// Warehouse is the whole of it. All methods may be called concurrently, and all
// stay on their context.
type Warehouse interface {
	Ingester
	Aggregate
	Archive
	Comparer
	// Close releases the warehouse's resources. Nothing else may be called during
	// or after it.
	Close() error
}

// A RefusedError names the rows of an append that were refused while, as far as a
// look at the table tells, the table is not at fault; see [Ingester].
type RefusedError struct {
	// Rows has the reason for each refused row by its index in the append. It is
	// empty if the warehouse refused the append without naming rows.
	Rows map[int]error
	// Certain is whether the rows named will be refused by any table: they are larger
	// than a row can be.
	Certain bool
	// Err is the refusal as a whole, where there is more to say.
	Err error
}

func (e *RefusedError) Error() string {
	if len(e.Rows) == 0 {
		return fmt.Sprintf("append refused: %v", e.Err)
	}
	indexes := make([]int, 0, len(e.Rows))
	for i := range e.Rows {
		indexes = append(indexes, i)
	}
	first := slices.Min(indexes)
	return fmt.Sprintf("%d rows refused, the first at index %d: %v", len(e.Rows), first, e.Rows[first])
}

func (e *RefusedError) Unwrap() error { return e.Err }

// A TableError says that a table is not what the schema says: a column is
// missing, of another type or too short. A person has to repair it, so it must be
// loud, and no message may become a dead letter for it.
type TableError struct {
	Table string
	Err   error
}

func (e *TableError) Error() string {
	return fmt.Sprintf("table %s is not as it must be: %v", e.Table, e.Err)
}
func (e *TableError) Unwrap() error { return e.Err }

// Names are the names of the tables in their dataset. The names of the log and
// of the views follow from them.
type Names struct {
	Raw, Agg, DeadLetter string
}

// DefaultNames are the names that the lab's queries use.
var DefaultNames = Names{Raw: "raw", Agg: "windowed_traffic", DeadLetter: "dead_letter"}

// AggLog is the append-only log behind the aggregate, which is a view.
func (n Names) AggLog() string { return n.Agg + "_log" }

// Events is the view of the raw table with one row per event.
func (n Names) Events() string {
	if n.Raw == DefaultNames.Raw {
		return "events"
	}
	return n.Raw + "_events"
}

// DeadLetters is the view of the dead letters with one row per message and part.
func (n Names) DeadLetters() string { return n.DeadLetter + "s" }

// Check returns an error that names every fault of the names: one that is not
// letters, digits and underscores, or that two tables or views would share.
func (n Names) Check() error {
	var errs []error
	uses := map[string]int{}
	for _, name := range []string{n.Raw, n.Events(), n.AggLog(), n.Agg, n.DeadLetter, n.DeadLetters()} {
		if err := CheckName(name); err != nil {
			errs = append(errs, err)
		}
		// SQLite's names do not differ by case.
		lower := strings.ToLower(name)
		if uses[lower]++; uses[lower] == 2 {
			errs = append(errs, fmt.Errorf("table name %q is used twice (a log is named NAME_log, views events, NAME_events or NAMEs)", name))
		}
	}
	return errors.Join(errs...)
}

// CheckName returns an error if a dataset, table or view cannot have the name. All
// names are checked before they are made part of a statement; values never are.
func CheckName(name string) error {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return fmt.Errorf("name %q is not letters, digits and underscores, beginning with a letter", name)
		}
	}
	if name == "" || len(name) > 200 {
		return fmt.Errorf("name %q is not of 1 to 200 characters", name)
	}
	return nil
}

var projectID = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.:-]{0,199}$`)

// CheckProject returns an error if the id of a Google Cloud project cannot be made
// part of a statement, in backquotes. An id may have a domain before it.
func CheckProject(id string) error {
	if !projectID.MatchString(id) {
		return fmt.Errorf("project %q is not letters, digits, -, . and :, as my-project or example.com:my-project, beginning with a letter, 200 at most", id)
	}
	return nil
}
