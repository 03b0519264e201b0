// Package warehouse defines the tables that users query: the raw rows, the dead
// letters, and the log of window counts with the views over them.
//
// Every table is append-only. A call that failed may be repeated, and then its rows
// may be in the table twice. So every reader distinguishes rows by ids and takes the
// greatest count, as the views events, dead_letters and windowed_traffic do. Package
// warehousetest tests this contract. Every implementation runs its tests.
//
// # Whose fault a refusal is
//
// A row that is refused for its own value is refused each time. So its message
// becomes a dead letter at once. Otherwise Pub/Sub would deliver the message again
// and again, and slow down all others. A row that is refused because somebody changed
// the table must wait until the table is repaired: no such change may turn events
// into dead letters. The refusal itself does not distinguish the two cases. For
// example, a column of STRING(100) refuses long values by name, and the other rows of
// the request are refused with them.
//
// So an implementation compares the table with the schema after each refusal: names,
// types, lengths and precision. If there is a difference, it returns a [*TableError],
// whatever the refusal said. A [*RefusedError] means that the table fits.
//
// One such refusal proves nothing: the table may have been repaired after the append
// and before the comparison. So [AppendEach] appends the row again. The second append
// lies between two comparisons, and the table fitted at both. So a table that fits
// refused the row, unless somebody broke the table and repaired it between these two
// comparisons, which are one append apart. Another row of the same append that is
// stored proves less. It may fit a table that the refused row does not fit, or it may
// have been stored after a repair. Other rows decide only if the refusal names no
// row.
//
// One case remains: an append may use an older schema than the comparison sees.
// Package bigquerytables explains what BigQuery does.
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

// A RawRow is a row of the raw table: one stored delivery of an event. All times are
// UTC in microseconds.
type RawRow struct {
	event.Event
	ProcessingTime time.Time // when the process that stored the row began to handle the message
	EventID        string
	MessageID      string
	PublishTime    time.Time
	WindowStart    time.Time // by the configured event time, which need not be Event.Timestamp
	Late           bool      // stored, but not counted
}

// A DeadLetter is a whole message that can never become an event, with the reason.
type DeadLetter struct {
	ReceivedAt time.Time // UTC
	Message    event.Message
	Reason     event.Reason
	Err        string // the detail behind Reason
}

// A WindowCount is a row of the aggregate's log: the count of one window as known at
// WrittenAt.
type WindowCount struct {
	Start     time.Time // UTC
	End       time.Time // UTC
	PageViews int64     // at least 1
	Final     bool      // whether the window was due
	WrittenAt time.Time // UTC
}

// A Discrepancy is a window whose count in the aggregate differs from the count of
// its raw rows.
type Discrepancy struct {
	Start     time.Time // UTC
	PageViews int64     // the greatest count in the aggregate's log; 0 for none
	Raw       int64     // distinct event ids among the raw rows that are not late; 0 for none
}

// Ingester stores what the push path has classified.
//
// When a method returns nil, all its rows are durable and visible to queries. If it
// returns an error, any of the rows may have been stored, unless the error says
// otherwise:
//
//   - a [*RefusedError] names rows that were refused although the table fits the
//     schema; the implementation compared the two after the refusal. The named rows
//     were not stored. If the rows do not fit one request, others may have been
//     stored. [AppendEach] finds out which rows will always be refused.
//   - a [*TableError] says that the table is at fault. Rows that do not fit the
//     table cannot be stored until an operator repairs the table.
//   - any other error is passing, and the caller may try again.
type Ingester interface {
	AppendRaw(ctx context.Context, rows []RawRow) error
	AppendDeadLetters(ctx context.Context, letters []DeadLetter) error
}

// Aggregate is where a flush publishes window counts. It also counts the raw rows of
// windows whose counters may have expired.
type Aggregate interface {
	// AppendCounts appends the rows to the aggregate's log in one operation. Its
	// errors are those of [Ingester].
	AppendCounts(ctx context.Context, rows []WindowCount) error

	// CountRaw returns, for each given window, the number of distinct event ids among
	// the raw rows that are not late. This number is what the window's page_views
	// should be. CountRaw sees every row whose append returned before the call. The
	// times may be in any order; the counts are in the same order.
	CountRaw(ctx context.Context, starts []time.Time) ([]int64, error)
}

// Comparer compares the aggregate with the raw rows.
type Comparer interface {
	// Audit returns the windows that start in [from, to) and whose greatest count in
	// the log differs from the number that [Aggregate.CountRaw] returns. A window that
	// is missing on one side counts 0 there. The bounds are in microseconds.
	//
	// Audit returns at most limit windows: first the windows whose count is lower,
	// then the windows whose count is higher, each kind oldest first. So windows that
	// cannot be repaired never hide windows that can.
	//
	// Audit reads one snapshot, which has every append that returned before the call.
	// Since rows are stored before they are counted, the snapshot has the raw rows of
	// every count in it. So Audit never takes a count for too high because its rows
	// are not stored yet.
	Audit(ctx context.Context, from, to time.Time, limit int) ([]Discrepancy, error)

	// AuditBytes returns how many bytes the owner of the tables would be billed for an
	// Audit of the same range, or more. It reads none of them. If nobody is billed, or
	// if there is no table yet, it returns 0.
	AuditBytes(ctx context.Context, from, to time.Time) (int64, error)
}

// Warehouse combines all operations on the tables. All methods may be called
// concurrently. All methods obey their context.
type Warehouse interface {
	Ingester
	Aggregate
	Archive
	Comparer
	// Close releases the warehouse's resources. No other method may be called during
	// or after Close.
	Close() error
}

// A RefusedError names the rows of an append that were refused while, as far as the
// comparison with the schema tells, the table is not at fault; see [Ingester].
type RefusedError struct {
	// Rows has the reason for each refused row by its index in the append. It is
	// empty if the warehouse refused the append without naming rows.
	Rows map[int]error
	// Certain is whether any table would refuse the named rows, because they are
	// larger than a row can be.
	Certain bool
	// Err is the refusal as a whole, if there is more to say.
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

// A TableError says that a table does not fit the schema: a column is missing, has
// another type or is too short. An operator has to repair the table. So the error
// must be reported clearly, and no message may become a dead letter because of it.
type TableError struct {
	Table string
	Err   error
}

func (e *TableError) Error() string {
	return fmt.Sprintf("table %s does not fit: %v", e.Table, e.Err)
}
func (e *TableError) Unwrap() error { return e.Err }

// Names are the names of the tables in their dataset. The names of the log and of the
// views are derived from them.
type Names struct {
	Raw, Agg, DeadLetter string
}

// DefaultNames are the names that the lab's queries use.
var DefaultNames = Names{Raw: "raw", Agg: "windowed_traffic", DeadLetter: "dead_letter"}

// AggLog is the append-only log from which the aggregate, a view, is computed.
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

// Check returns an error that lists every fault of the names: a name that is not
// letters, digits and underscores, and a name that two tables or views would share.
func (n Names) Check() error {
	var errs []error
	uses := map[string]int{}
	for _, name := range []string{n.Raw, n.Events(), n.AggLog(), n.Agg, n.DeadLetter, n.DeadLetters()} {
		if err := CheckName(name); err != nil {
			errs = append(errs, err)
		}
		// SQLite ignores the case of names.
		lower := strings.ToLower(name)
		if uses[lower]++; uses[lower] == 2 {
			errs = append(errs, fmt.Errorf("table name %q is used twice (a log is named NAME_log, views events, NAME_events or NAMEs)", name))
		}
	}
	return errors.Join(errs...)
}

// CheckName returns an error if a dataset, table or view cannot have the name. All
// names are checked before they become part of a statement. Values never become part
// of a statement.
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

// CheckProject returns an error if the id of a Google Cloud project cannot become
// part of a statement, in backquotes. An id may begin with a domain.
func CheckProject(id string) error {
	if !projectID.MatchString(id) {
		return fmt.Errorf("project %q is not letters, digits, -, . and :, as my-project or example.com:my-project, beginning with a letter, 200 at most", id)
	}
	return nil
}
