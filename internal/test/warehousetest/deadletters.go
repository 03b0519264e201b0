package warehousetest

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
)

var deadLetterTests = []func(*testing.T, fixture){
	everyDeadLetterColumnIsStoredAsGiven,
	absentPartsOfADeadLetterAreNull,
	anyBytesAreStoredExactly,
	largeDataIsStoredInPartsInOrder,
	attributesAreAJSONObject,
	everyDeliveryOfADeadLetterIsStored,
	aDeadLetterIsOnceInTheView,
	largeDataIsOnceInTheView,
}

const (
	selectDeadLetter  = "SELECT * FROM dead_letter ORDER BY message_id, received_at, part"
	selectDeadLetters = "SELECT * FROM dead_letters ORDER BY message_id, part"
)

// letter returns a dead letter of the message with the given id.
func (f fixture) letter(id string, data []byte) warehouse.DeadLetter {
	return warehouse.DeadLetter{
		ReceivedAt: f.now,
		Message: event.Message{
			ID:           id,
			PublishTime:  f.now.Add(-time.Second),
			Subscription: "projects/p/subscriptions/s",
			Attributes:   map[string]string{"timestamp": "2026-03-14T09:26:53.589793Z"},
			Data:         data,
		},
		Reason: event.BadJSON,
		Err:    "data is not one JSON object: <unexpected end>",
	}
}

// letterColumns returns the row that a query must return for the letter, if its data is
// in one part.
func letterColumns(l warehouse.DeadLetter) Row {
	return Row{
		"received_at": l.ReceivedAt, "message_id": l.Message.ID, "publish_time": l.Message.PublishTime,
		"subscription": "projects/p/subscriptions/s", "attributes": `{"timestamp":"2026-03-14T09:26:53.589793Z"}`,
		"data": l.Message.Data, "part": int64(1), "parts": int64(1),
		"reason": string(l.Reason), "error": l.Err,
	}
}

func everyDeadLetterColumnIsStoredAsGiven(t *testing.T, f fixture) {
	one := f.letter("1", []byte(`{"ip": "198.51.100.23", `))
	two := f.letter("2", []byte(`"quoted" 'text' \ 日本語`))
	two.Reason, two.Err = event.WrongType, `lat is "\u0000'", want a number`
	two.Message.PublishTime = lastInstant
	f.appendDeadLetters(t, one, two)
	f.wantRows(t, selectDeadLetter, letterColumns(one), letterColumns(two))
}

func absentPartsOfADeadLetterAreNull(t *testing.T, f fixture) {
	none := f.letter("1", nil)
	none.Message.Subscription, none.Message.Attributes, none.Err = "", nil, ""
	none.Reason = event.Empty
	empty := f.letter("2", []byte{})
	empty.Message.Subscription, empty.Message.Attributes, empty.Err = "", map[string]string{}, ""
	empty.Reason = event.Empty
	f.appendDeadLetters(t, none, empty)

	var want []Row
	for _, l := range []warehouse.DeadLetter{none, empty} {
		row := letterColumns(l)
		row["subscription"], row["attributes"], row["data"], row["error"] = nil, nil, nil, nil
		want = append(want, row)
	}
	f.wantRows(t, selectDeadLetter, want...)
}

func anyBytesAreStoredExactly(t *testing.T, f fixture) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	random := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{}).Read(random)
	var letters []warehouse.DeadLetter
	for i, data := range [][]byte{
		{0}, {0, 0, 0}, {0xff}, all, make([]byte, 1000), random,
		[]byte("\xc3\x28 is not UTF-8"), []byte("ends with a zero\x00"), []byte("\x1f\x8b\x08\x00"),
		[]byte(`\x00`), []byte("AAECAw=="), []byte("null"), // texts that look like an encoding, and must come back unchanged
	} {
		letters = append(letters, f.letter(id(i), data))
	}
	f.appendDeadLetters(t, letters...)
	var want []Row
	for _, l := range letters {
		want = append(want, letterColumns(l))
	}
	f.wantRows(t, selectDeadLetter, want...)
}

// large returns data of the given length in which every part is different.
func large(length int) []byte {
	data := make([]byte, length)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// wantParts checks that the rows are the parts of the letter from the first part on, and
// that together they have its data.
func wantParts(t *testing.T, rows []Row, l warehouse.DeadLetter, parts int) {
	t.Helper()
	if len(rows) != parts {
		t.Fatalf("%d bytes are in %d rows, want %d", len(l.Message.Data), len(rows), parts)
	}
	var data []byte
	for i, row := range rows {
		part, _ := row["data"].([]byte)
		data = append(data, part...)
		want := letterColumns(l)
		want["part"], want["parts"] = int64(i+1), int64(parts)
		delete(want, "data")
		delete(row, "data")
		if diff := cmp.Diff(want, row); diff != "" {
			t.Errorf("part %d: (-want +got)\n%s", i+1, diff)
		}
	}
	if !bytes.Equal(data, l.Message.Data) {
		t.Errorf("the parts in order are not the %d bytes of data", len(l.Message.Data))
	}
}

func largeDataIsStoredInPartsInOrder(t *testing.T, f fixture) {
	whole := f.letter("1", large(warehouse.MaxPart))
	oneMore := f.letter("2", large(warehouse.MaxPart+1))
	three := f.letter("3", large(2*warehouse.MaxPart+12345)) // the largest data that a message may have
	f.appendDeadLetters(t, whole, oneMore, three)
	for _, l := range []struct {
		letter warehouse.DeadLetter
		parts  int
	}{{whole, 1}, {oneMore, 2}, {three, 3}} {
		rows := f.rows(t, "SELECT * FROM dead_letter WHERE message_id = '"+l.letter.Message.ID+"' ORDER BY part")
		wantParts(t, rows, l.letter, l.parts)
	}
}

func attributesAreAJSONObject(t *testing.T, f fixture) {
	want := map[string]string{
		"plain": "value", "": "empty name", "empty value": "", `"quoted"`: `\ ' "`,
		"日本語": "👩‍👩‍👧", "control": "\x00\t\n", "html": "<a href='x'>&</a>", "json": `{"a": [1, null]}`,
	}
	l := f.letter("1", []byte("data"))
	l.Message.Attributes = want
	f.appendDeadLetters(t, l)

	rows := f.rows(t, "SELECT attributes FROM dead_letter")
	if len(rows) != 1 {
		t.Fatalf("%d rows, want 1", len(rows))
	}
	text, _ := rows[0]["attributes"].(string)
	var got map[string]string
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("attributes are not a JSON object of strings: %v\n%s", err, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attributes: (-want +got)\n%s", diff)
	}
}

func everyDeliveryOfADeadLetterIsStored(t *testing.T, f fixture) {
	l := f.letter("1", []byte("data"))
	again := l
	again.ReceivedAt = f.at(1)
	f.appendDeadLetters(t, l)
	f.appendDeadLetters(t, again)
	f.wantRows(t, selectDeadLetter, letterColumns(l), letterColumns(again))
}

func aDeadLetterIsOnceInTheView(t *testing.T, f fixture) {
	f.wantRows(t, selectDeadLetters)
	received := func(id string, second int) warehouse.DeadLetter {
		l := f.letter(id, []byte("data of "+id))
		l.ReceivedAt = f.at(second)
		return l
	}
	f.appendDeadLetters(t, received("1", 2), received("2", 5), received("1", 1), received("1", 3))
	f.appendDeadLetters(t, received("2", 6), received("2", 4))
	f.wantRows(t, selectDeadLetters, letterColumns(received("1", 1)), letterColumns(received("2", 4)))
}

func largeDataIsOnceInTheView(t *testing.T, f fixture) {
	l := f.letter("1", large(warehouse.MaxPart+1))
	again := l
	again.ReceivedAt = f.at(1)
	f.appendDeadLetters(t, again, l)
	wantParts(t, f.rows(t, selectDeadLetters), l, 2)
}
