package warehousetest

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
)

var rawTests = []func(*testing.T, fixture){
	everyRawColumnIsStoredAsGiven,
	missingCoordinatesAreNullAndZeroOnesAreNot,
	stringsAreStoredAsGiven,
	timesAreStoredToTheMicrosecond,
	timesOfTheFirstAndLastYearAreStored,
	numbersAreStoredAtTheirExtremes,
	everyDeliveryOfAnEventIsStored,
	everyRowOfALargeAppendIsStored,
}

const selectRaw = "SELECT * FROM raw ORDER BY event_id, publish_time"

// wantRaw appends the rows, whose ids must be in order, and checks that the raw table
// then holds them.
func (f fixture) wantRaw(t *testing.T, rows ...warehouse.RawRow) {
	t.Helper()
	f.appendRaw(t, rows...)
	want := make([]Row, len(rows))
	for i, r := range rows {
		want[i] = rawColumns(r)
	}
	f.wantRows(t, selectRaw, want...)
}

func everyRawColumnIsStoredAsGiven(t *testing.T, f fixture) {
	f.wantRaw(t, f.raw(minute(0), id(1)), late(f.raw(minute(1), id(2))))
}

func missingCoordinatesAreNullAndZeroOnesAreNot(t *testing.T, f fixture) {
	zero := 0.0
	noLat, noLng, neither, zeros := f.raw(minute(0), id(1)), f.raw(minute(0), id(2)), f.raw(minute(0), id(3)), f.raw(minute(0), id(4))
	edit(&noLat, func(a *accesslog.Record) { a.Lat = nil })
	edit(&noLng, func(a *accesslog.Record) { a.Lng = nil })
	edit(&neither, func(a *accesslog.Record) { a.Lat, a.Lng = nil, nil })
	edit(&zeros, func(a *accesslog.Record) { a.Lat, a.Lng = &zero, &zero })
	f.wantRaw(t, noLat, noLng, neither, zeros)
}

func stringsAreStoredAsGiven(t *testing.T, f fixture) {
	var rows []warehouse.RawRow
	for i, s := range []string{
		"",
		" ",
		`"`, `'`, "`", `\`, `\n`, `''); DROP TABLE raw; --`, "?1 :name @x %s",
		"tab\tline\nreturn\r\n",
		"a zero \x00 inside",
		"null", "0", "1e3", "0x1F", "2026-03-14T09:26:53Z", // texts that look like other types
		"é", "e\u0301", "日本語", "👩‍👩‍👧", "\u202eright to left", "\ufeff", "\U0010ffff",
		strings.Repeat("long ", 20_000),
	} {
		r := f.raw(minute(0), id(i))
		edit(&r, func(a *accesslog.Record) { a.IP, a.UserID, a.UserAgent, a.HTTPRequest = s, s, s, s })
		r.MessageID = s
		rows = append(rows, r)
	}
	f.wantRaw(t, rows...)
}

func timesAreStoredToTheMicrosecond(t *testing.T, f fixture) {
	var rows []warehouse.RawRow
	for i, fraction := range []time.Duration{0, 1, 10, 100_000, 123_456, 589_790, 999_999} {
		r := f.raw(minute(0), id(i))
		edit(&r, func(a *accesslog.Record) { a.Timestamp = minute(0).Add(fraction * time.Microsecond) })
		r.PublishTime = minute(1).Add(fraction * time.Microsecond)
		r.ProcessingTime = f.now.Truncate(time.Second).Add(fraction * time.Microsecond)
		rows = append(rows, r)
	}
	f.wantRaw(t, rows...)
}

var (
	firstWindow = time.Date(1, time.January, 1, 0, 0, 0, 0, time.UTC)
	lastWindow  = time.Date(9999, time.December, 31, 23, 59, 0, 0, time.UTC)
	lastInstant = lastWindow.Add(time.Minute - time.Microsecond)
)

func timesOfTheFirstAndLastYearAreStored(t *testing.T, f fixture) {
	first := f.raw(firstWindow, id(1))
	edit(&first, func(a *accesslog.Record) { a.Timestamp = firstWindow })
	first.PublishTime = firstWindow
	last := f.raw(lastWindow, id(2))
	edit(&last, func(a *accesslog.Record) { a.Timestamp = lastInstant })
	last.PublishTime = lastInstant
	beforeEpoch := f.raw(time.Date(1969, time.December, 31, 23, 59, 0, 0, time.UTC), id(3))
	edit(&beforeEpoch, func(a *accesslog.Record) {
		a.Timestamp = time.Date(1969, time.December, 31, 23, 59, 59, 999_999_000, time.UTC)
	})
	f.wantRaw(t, first, last, beforeEpoch)
	f.wantRows(t, "SELECT event_id FROM raw ORDER BY event_timestamp",
		Row{"event_id": id(1)}, Row{"event_id": id(3)}, Row{"event_id": id(2)})
}

func numbersAreStoredAtTheirExtremes(t *testing.T, f fixture) {
	var rows []warehouse.RawRow
	for i, n := range []int64{math.MinInt64, -1 << 53, -1, 0, 1<<53 + 1, math.MaxInt64} {
		r := f.raw(minute(0), id(i))
		edit(&r, func(a *accesslog.Record) { a.HTTPResponse, a.NumBytes = n, n })
		rows = append(rows, r)
	}
	for i, x := range []float64{-math.MaxFloat64, -90, -math.SmallestNonzeroFloat64, 48, 0.1, math.Pi, 1 << 53, math.MaxFloat64} {
		r := f.raw(minute(0), id(10+i))
		edit(&r, func(a *accesslog.Record) { a.Lat, a.Lng = &x, &x })
		rows = append(rows, r)
	}
	f.wantRaw(t, rows...)
}

func everyDeliveryOfAnEventIsStored(t *testing.T, f fixture) {
	first := published(f.raw(minute(0), id(1)), minute(0))
	f.appendRaw(t, first)
	f.appendRaw(t, first, published(first, minute(1)))
	f.wantRows(t, selectRaw, rawColumns(first), rawColumns(first), rawColumns(published(first, minute(1))))
}

func everyRowOfALargeAppendIsStored(t *testing.T, f fixture) {
	rows := make([]warehouse.RawRow, 2000)
	for i := range rows {
		rows[i] = f.raw(minute(i%5), id(i))
	}
	f.wantRaw(t, rows...)
}

var eventsTests = []func(*testing.T, fixture){
	anEventIsOnceInTheView,
	aCountedDeliveryIsShownBeforeALateOne,
	theEarliestDeliveryOfTheSmallestMessageIsShown,
	theSameIDInTwoWindowsIsTwoEvents,
	theViewOfNoRowsIsEmpty,
}

const selectEvents = "SELECT * FROM events ORDER BY window_start, event_id"

// wantEvents appends the given deliveries and checks the rows of the view.
func (f fixture) wantEvents(t *testing.T, deliveries []warehouse.RawRow, want ...warehouse.RawRow) {
	t.Helper()
	f.appendRaw(t, deliveries...)
	rows := make([]Row, len(want))
	for i, r := range want {
		rows[i] = rawColumns(r)
	}
	f.wantRows(t, selectEvents, rows...)
}

func anEventIsOnceInTheView(t *testing.T, f fixture) {
	one, two := f.raw(minute(0), id(1)), f.raw(minute(0), id(2))
	f.wantEvents(t, []warehouse.RawRow{one, two, one, one}, one, two)
}

func aCountedDeliveryIsShownBeforeALateOne(t *testing.T, f fixture) {
	// Two messages may have the same event id. Here, one delivery is counted and the
	// others are late. The counted one is neither the first nor the last, by publish time
	// or in the order in which they are appended.
	counted := published(f.raw(minute(0), id(1)), minute(5))
	early := late(published(counted, minute(1)))
	after := late(published(counted, minute(9)))
	f.wantEvents(t, []warehouse.RawRow{early, counted, after}, counted)
}

func theEarliestDeliveryOfTheSmallestMessageIsShown(t *testing.T, f fixture) {
	delivery := func(n int, message string, at time.Duration) warehouse.RawRow {
		r := published(f.raw(minute(0), id(n)), minute(0).Add(at))
		r.MessageID = message
		return r
	}
	deliveries := []warehouse.RawRow{
		delivery(1, "b", 10*time.Second), delivery(1, "a", 30*time.Second), delivery(1, "a", 20*time.Second), delivery(1, "a", 20*time.Second+time.Microsecond),
		delivery(1, "a0", 5*time.Second), late(delivery(1, "A", time.Second)),
		late(delivery(2, "9", 9*time.Minute)), late(delivery(2, "10", 10*time.Minute)), late(delivery(2, "10", 8*time.Minute)), // message ids are compared as text
	}
	f.wantEvents(t, deliveries, deliveries[2], deliveries[8])
}

func theSameIDInTwoWindowsIsTwoEvents(t *testing.T, f fixture) {
	one, other := f.raw(minute(0), id(1)), f.raw(minute(1), id(1))
	f.wantEvents(t, slices.Repeat([]warehouse.RawRow{one, other}, 2), one, other)
}

func theViewOfNoRowsIsEmpty(t *testing.T, f fixture) {
	f.wantEvents(t, nil)
}
