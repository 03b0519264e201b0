package warehousetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
)

var storedTests = []func(*testing.T, fixture){
	storedRowsComeBackAsTheyWere,
	anEventComesBackOnceAsInTheView,
	storedRowsAreInOrderOfWindowAndID,
	storedRowsAreThoseOfTheRange,
	storedLettersComeBackAsTheyWere,
	anyBytesComeBack,
	largeLettersComeBackWhole,
	aLetterComesBackOnceAsFirstReceived,
	deliveriesOfDifferentSizesAreNotMixed,
	storedLettersAreInOrderOfID,
	storedLettersAreThoseOfTheRange,
	manyStoredMessagesComeBackOnceEach,
	largeStoredRowsComeBack,
	aSequenceMayBeLeftEarlyAndReadAgain,
	aMessageStoredAgainDuringTheReadDoesNotComeTwice,
	readingOnAnEndedContextFailsWithItsError,
}

var (
	beginning time.Time // the earliest time
	noEnd     time.Time
)

// collect returns the values of a sequence, and ends the test if the sequence has an
// error.
func collect[T any](t *testing.T, all iter.Seq2[T, error]) []T {
	t.Helper()
	var values []T
	for value, err := range all {
		if err != nil {
			t.Fatalf("after %d values: %v", len(values), err)
		}
		values = append(values, value)
	}
	return values
}

func (f fixture) wantStoredRaw(t *testing.T, from, to time.Time, want ...warehouse.RawRow) {
	t.Helper()
	got := collect(t, f.RawRows(t.Context(), from, to))
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("RawRows from %v to %v: (-want +got)\n%s", from, to, diff)
	}
}

func (f fixture) wantStoredLetters(t *testing.T, from, to time.Time, want ...warehouse.DeadLetter) {
	t.Helper()
	got := collect(t, f.DeadLetters(t.Context(), from, to))
	for i := range want {
		want[i].Message.PublishTimeSource = event.FromMessage
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("DeadLetters from %v to %v: (-want +got)\n%s", from, to, diff)
	}
}

func storedRowsComeBackAsTheyWere(t *testing.T, f fixture) {
	f.wantStoredRaw(t, beginning, noEnd)
	zero := 0.0
	whole, other, noLat, noLng := f.raw(minute(0), id(1)), late(f.raw(minute(0), id(2))), f.raw(minute(0), id(3)), f.raw(minute(0), id(4))
	edit(&noLat, func(a *accesslog.Record) { a.Lat, a.Lng = nil, &zero })
	edit(&noLng, func(a *accesslog.Record) { a.Lat, a.Lng = &zero, nil })
	other.Event = accesslog.Record{
		IP: "zero \x00, '日本語'\n", Timestamp: minute(7).Add(time.Microsecond), HTTPResponse: -1 << 63, NumBytes: 1<<63 - 1,
	}.Event()
	first, last := f.raw(firstWindow, ""), f.raw(lastWindow, id(1))
	first.PublishTime, last.PublishTime = firstWindow, lastInstant
	edit(&last, func(a *accesslog.Record) { a.Timestamp = lastInstant })
	f.appendRaw(t, last, noLng, noLat, other, whole, first)
	f.wantStoredRaw(t, beginning, noEnd, first, whole, other, noLat, noLng, last)
}

func anEventComesBackOnceAsInTheView(t *testing.T, f fixture) {
	counted := published(f.raw(minute(0), id(1)), minute(5))
	early, after := late(published(counted, minute(1))), published(counted, minute(6))
	other := f.raw(minute(1), id(1))
	f.appendRaw(t, after, early, counted, counted, other)
	f.appendRaw(t, counted, other)
	f.wantStoredRaw(t, beginning, noEnd, counted, other)
	f.wantRows(t, selectEvents, rawColumns(counted), rawColumns(other))
}

func storedRowsAreInOrderOfWindowAndID(t *testing.T, f fixture) {
	var want []warehouse.RawRow
	for _, start := range []time.Time{firstWindow, minute(0), minute(1), lastWindow} {
		for _, id := range []string{"", "10", "9", "A", "a", "a ", "é", "日本語", "\U0001f600"} { // ordered by their bytes
			want = append(want, f.raw(start, id))
		}
	}
	shuffled := slices.Clone(want)
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	f.appendRaw(t, shuffled...)
	f.wantStoredRaw(t, beginning, noEnd, want...)
}

func storedRowsAreThoseOfTheRange(t *testing.T, f fixture) {
	stored := func(n, second int) warehouse.RawRow {
		r := f.raw(minute(n), id(n))
		r.ProcessingTime = f.at(second)
		return r
	}
	f.appendRaw(t, stored(0, 10), stored(1, 20), stored(2, 30))
	f.appendRaw(t, stored(0, 30)) // delivered again
	f.wantStoredRaw(t, f.at(10), f.at(30), stored(0, 10), stored(1, 20))
	f.wantStoredRaw(t, f.at(10).In(time.FixedZone("", 3600)), f.at(20), stored(0, 10))
	f.wantStoredRaw(t, f.at(10).Add(time.Microsecond), f.at(20).Add(time.Microsecond), stored(1, 20))
	f.wantStoredRaw(t, f.at(30), noEnd, stored(0, 30), stored(2, 30))
	f.wantStoredRaw(t, beginning, f.at(10))
	f.wantStoredRaw(t, f.at(30).Add(time.Microsecond), noEnd)
	f.wantStoredRaw(t, f.at(20), f.at(20))
	f.wantStoredRaw(t, f.at(30), f.at(10))
}

func storedLettersComeBackAsTheyWere(t *testing.T, f fixture) {
	f.wantStoredLetters(t, beginning, noEnd)
	whole := f.letter("1", []byte(`{"ip": "198.51.100.23", `))
	whole.Message.Attributes = map[string]string{"": "no name", "none": "", "日本語": "<\x00\"\\>", "json": `{"a": [1, null]}`}
	none := f.letter("2", nil)
	none.Message.Subscription, none.Message.Attributes, none.Err, none.Reason = "", nil, "", event.Empty
	last := f.letter("3", []byte("data"))
	last.Message.PublishTime = lastInstant
	f.appendDeadLetters(t, last, none, whole)
	f.wantStoredLetters(t, beginning, noEnd, whole, none, last)
	if got := collect(t, f.DeadLetters(t.Context(), beginning, noEnd))[1].Message; got.Data != nil || got.Attributes != nil {
		t.Errorf("data %q and attributes %q, want nil", got.Data, got.Attributes)
	}
}

func anyBytesComeBack(t *testing.T, f fixture) {
	var letters []warehouse.DeadLetter
	for i, data := range [][]byte{{0}, {0xff, 0, 0xc3, 0x28}, []byte("null"), []byte("AAECAw=="), large(100_000), {}} {
		letters = append(letters, f.letter(id(i), data))
	}
	f.appendDeadLetters(t, letters...)
	f.wantStoredLetters(t, beginning, noEnd, letters...)
}

func largeLettersComeBackWhole(t *testing.T, f fixture) {
	whole := f.letter("1", large(warehouse.MaxPart))
	three := f.letter("2", large(9_000_000))
	small := f.letter("3", []byte("data"))
	again := three
	again.ReceivedAt = f.at(1)
	f.appendDeadLetters(t, again, three, small, whole)
	f.appendDeadLetters(t, three)
	got := collect(t, f.DeadLetters(t.Context(), beginning, noEnd))
	want := []warehouse.DeadLetter{whole, three, small}
	if len(got) != len(want) {
		t.Fatalf("%d letters, want %d", len(got), len(want))
	}
	for i := range want {
		if !slices.Equal(got[i].Message.Data, want[i].Message.Data) { // not cmp.Diff: for data this large it would take minutes
			t.Errorf("letter %s has %d bytes that differ from the %d it was stored with", got[i].Message.ID, len(got[i].Message.Data), len(want[i].Message.Data))
		}
		if !got[i].ReceivedAt.Equal(want[i].ReceivedAt) {
			t.Errorf("letter %s received at %v, want %v", got[i].Message.ID, got[i].ReceivedAt, want[i].ReceivedAt)
		}
	}
}

func (f fixture) received(id string, second int) warehouse.DeadLetter {
	l := f.letter(id, []byte("data of "+id))
	l.ReceivedAt = f.at(second)
	return l
}

func aLetterComesBackOnceAsFirstReceived(t *testing.T, f fixture) {
	f.appendDeadLetters(t, f.received("1", 2), f.received("2", 5), f.received("1", 1), f.received("1", 1))
	f.appendDeadLetters(t, f.received("2", 6), f.received("2", 4), f.received("1", 3))
	f.wantStoredLetters(t, beginning, noEnd, f.received("1", 1), f.received("2", 4))
}

// Two messages that were posted by hand may have the same id.
func deliveriesOfDifferentSizesAreNotMixed(t *testing.T, f fixture) {
	small, parts := f.received("1", 1), f.received("1", 2)
	parts.Message.Data = large(warehouse.MaxPart + 1)
	f.appendDeadLetters(t, parts, small)
	f.wantStoredLetters(t, beginning, noEnd, small)
}

func storedLettersAreInOrderOfID(t *testing.T, f fixture) {
	var want []warehouse.DeadLetter
	for i, id := range []string{" ", "10", "9", "A", "a", "a ", "é", "日本語", "\U0001f600"} { // ordered by their bytes
		want = append(want, f.received(id, 100-i))
	}
	shuffled := slices.Clone(want)
	rand.New(rand.NewPCG(5, 6)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	f.appendDeadLetters(t, shuffled...)
	f.wantStoredLetters(t, beginning, noEnd, want...)
}

func storedLettersAreThoseOfTheRange(t *testing.T, f fixture) {
	f.appendDeadLetters(t, f.received("1", 10), f.received("2", 20), f.received("3", 30), f.received("1", 30))
	f.wantStoredLetters(t, f.at(10), f.at(30), f.received("1", 10), f.received("2", 20))
	f.wantStoredLetters(t, f.at(10).In(time.FixedZone("", 3600)), f.at(20), f.received("1", 10))
	f.wantStoredLetters(t, f.at(10).Add(time.Microsecond), f.at(20).Add(time.Microsecond), f.received("2", 20))
	f.wantStoredLetters(t, f.at(30), noEnd, f.received("1", 30), f.received("3", 30))
	f.wantStoredLetters(t, beginning, f.at(10))
	f.wantStoredLetters(t, f.at(30).Add(time.Microsecond), noEnd)
	f.wantStoredLetters(t, f.at(20), f.at(20))
}

func manyStoredMessagesComeBackOnceEach(t *testing.T, f fixture) {
	const n = 12_000 // more than any page
	rows, letters := make([]warehouse.RawRow, n), make([]warehouse.DeadLetter, n)
	for i := range n {
		rows[i], letters[i] = f.raw(minute(0), id(i)), f.letter(id(i), nil)
	}
	for range 2 { // so that a page may end between two deliveries of an event
		f.appendRaw(t, rows...)
		f.appendDeadLetters(t, letters...)
	}
	i := 0
	for r, err := range f.RawRows(t.Context(), beginning, noEnd) {
		if err != nil || i == n || r.EventID != id(i) {
			t.Fatalf("row %d is of event %s: %v", i, r.EventID, err)
		}
		i++
	}
	j := 0
	for l, err := range f.DeadLetters(t.Context(), beginning, noEnd) {
		if err != nil || j == n || l.Message.ID != id(j) {
			t.Fatalf("letter %d is of message %s: %v", j, l.Message.ID, err)
		}
		j++
	}
	if i != n || j != n {
		t.Errorf("%d rows and %d letters, want %d", i, j, n)
	}
}

func largeStoredRowsComeBack(t *testing.T, f fixture) {
	var want []warehouse.RawRow
	for i := range 7 {
		r := f.raw(minute(0), id(i))
		edit(&r, func(a *accesslog.Record) { a.UserAgent = strings.Repeat(fmt.Sprint(i), 1_500_000) })
		want = append(want, r)
	}
	f.appendRaw(t, want...)
	f.wantStoredRaw(t, beginning, noEnd, want...)
}

func aSequenceMayBeLeftEarlyAndReadAgain(t *testing.T, f fixture) {
	for i := range 5 {
		f.appendRaw(t, f.raw(minute(0), id(i)))
		f.appendDeadLetters(t, f.letter(id(i), nil))
	}
	rows, letters := f.RawRows(t.Context(), beginning, noEnd), f.DeadLetters(t.Context(), beginning, noEnd)
	for range 20 { // many readers stop early; none may keep a connection
		for r, err := range rows {
			if err != nil || r.EventID != id(0) {
				t.Fatalf("first row %s: %v", r.EventID, err)
			}
			break
		}
		for l, err := range letters {
			if err != nil || l.Message.ID != id(0) {
				t.Fatalf("first letter %s: %v", l.Message.ID, err)
			}
			break
		}
	}
	if n, m := len(collect(t, rows)), len(collect(t, letters)); n != 5 || m != 5 {
		t.Errorf("%d rows and %d letters, want 5", n, m)
	}
	f.appendRaw(t, f.raw(minute(0), id(5)))
}

// Otherwise a reader would never come to an end if messages are sent and stored again
// while it reads the table.
func aMessageStoredAgainDuringTheReadDoesNotComeTwice(t *testing.T, f fixture) {
	const n = 2500 // more than an implementation may read at once
	stored := make([]warehouse.RawRow, n)
	for i := range stored {
		stored[i] = f.raw(minute(0), id(i))
	}
	f.appendRaw(t, stored...)
	rows := 0
	var again []warehouse.RawRow
	for r, err := range f.RawRows(t.Context(), beginning, noEnd) {
		if err != nil {
			t.Fatal(err)
		}
		if rows++; rows > n {
			t.Fatal("an event came twice")
		}
		r.ProcessingTime = f.at(rows)
		if again = append(again, r); len(again) == 25 {
			f.appendRaw(t, again...)
			again = nil
		}
	}
	for i := range 10 {
		f.appendDeadLetters(t, f.letter(id(i), nil))
	}
	letters := 0
	for l, err := range f.DeadLetters(t.Context(), beginning, noEnd) {
		if err != nil {
			t.Fatal(err)
		}
		if letters++; letters > 10 {
			t.Fatal("a letter came twice")
		}
		l.ReceivedAt = f.at(letters)
		f.appendDeadLetters(t, l)
	}
	if rows != n || letters != 10 {
		t.Errorf("%d rows and %d letters, want %d and 10", rows, letters, n)
	}
}

func readingOnAnEndedContextFailsWithItsError(t *testing.T, f fixture) {
	for i := range 3 {
		f.appendRaw(t, f.raw(minute(0), id(i)))
		f.appendDeadLetters(t, f.letter(id(i), nil))
	}
	ctx, cancel := context.WithCancel(t.Context())
	checkEndsAtOnce(t, cancel, f.RawRows(ctx, beginning, noEnd))
	ctx, cancel = context.WithCancel(t.Context())
	checkEndsAtOnce(t, cancel, f.DeadLetters(ctx, beginning, noEnd))
}

// checkEndsAtOnce cancels the context after the first value, and once more before the
// first value. The sequence must end at once.
func checkEndsAtOnce[T any](t *testing.T, cancel func(), all iter.Seq2[T, error]) {
	t.Helper()
	for _, want := range []int{1, 0} {
		values := 0
		var errs []error
		for _, err := range all {
			if err != nil {
				errs = append(errs, err)
				continue
			}
			values++
			cancel()
		}
		if values != want || len(errs) != 1 || !errors.Is(errs[0], context.Canceled) {
			t.Errorf("%d values and errors %v, want %d values and one error that wraps %v", values, errs, want, context.Canceled)
		}
	}
}
