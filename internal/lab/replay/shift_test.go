package replay

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
)

func TestShiftTimeKeepsTheWayATimeIsWritten(t *testing.T) {
	t.Parallel()
	const day = 24 * 60 * 60
	for text, want := range map[string]string{
		"2026-02-28T09:26:53.589793Z":         "2026-03-01T09:26:53.589793Z",
		"2026-02-28T09:26:53.500000Z":         "2026-03-01T09:26:53.500000Z",
		"2026-02-28T09:26:53Z":                "2026-03-01T09:26:53Z",
		"2026-02-28 09:26:53":                 "2026-03-01 09:26:53",
		"2024-02-28T23:00:00.123456789-07:00": "2024-02-29T23:00:00.123456789-07:00",
		"9999-12-30T23:59:59Z":                "9999-12-31T23:59:59Z",
		"9999-12-31T00:00:00Z":                "", // the time would be past the year 9999
		"2026-02-28T09:26:53,5Z":              "",
		"yesterday":                           "",
		"":                                    "",
	} {
		got, ok := shiftTime(text, day)
		if ok != (want != "") || (ok && got != want) {
			t.Errorf("%q moves to %q, %v, want %q", text, got, ok, want)
		}
		if back, _ := shiftTime(got, -day); ok && back != text {
			t.Errorf("%q moves there and back to %q", text, back)
		}
	}
	// This offset does not fit a time.Duration.
	if got, _ := shiftTime("0001-01-01T00:00:00.5Z", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix()-time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()); got != "2026-01-01T00:00:00.5Z" {
		t.Errorf("the year 1 moves to %q", got)
	}
}

func TestOffsetBringsTheLatestTimeUpToNowAndNotPast(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		u, err := event.ParseTime(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, tt := range []struct {
		latest, now string
		want        int64
	}{
		{"2026-01-01T00:00:00Z", "2026-01-01T00:00:10Z", 10},
		{"2026-01-01T00:00:00.25Z", "2026-01-01T00:00:10.25Z", 10},
		{"2026-01-01T00:00:00.250001Z", "2026-01-01T00:00:10.25Z", 9},
		{"2026-01-01T00:00:00.1Z", "2026-01-01T00:00:10.25Z", 10},
		{"2026-01-01T00:00:10.1Z", "2026-01-01T00:00:00Z", -11},
		{"0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 63902822400},
	} {
		if got := offsetTo(at(tt.now), at(tt.latest)); got != tt.want {
			t.Errorf("from %s to %s: %d, want %d", tt.latest, tt.now, got, tt.want)
		}
	}
}

// labShift moves the times of the lab's events.
func labShift(offset int64) shift { return shift{labTime, "timestamp", offset} }

// Only the times change. Spaces, order, unknown members, escapes and duplicates stay.
func TestShiftLineChangesTimesOnly(t *testing.T) {
	t.Parallel()
	const data = "{\"timestamp\" : \"2026-03-14T09:25:41.020406Z\",\"n\":1.0 , \"ip\": \"\\u0041\"}\n"
	const shiftedData = "{\"timestamp\" : \"2026-03-14T09:25:51.020406Z\",\"n\":1.0 , \"ip\": \"\\u0041\"}\n"
	b64 := func(s string) string {
		b, err := json.Marshal([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, tt := range map[string]struct{ line, want string }{
		"push body": {
			` { "x":1 , "message" : {"publishTime": "2026-03-14T09:26:58.401Z","data":` + b64(data) + `, "publish_time":"2026-03-14T09:26:58.401Z" ,"messageId":"1",` +
				`"attributes": {"timestamp":"2026-03-14T09:25:41.020406Z", "time":"2026-03-14T09:25:41Z"}}, "publishTime": "2026-03-14T09:26:58.401Z" } `,
			` { "x":1 , "message" : {"publishTime": "2026-03-14T09:27:08.401Z","data":` + b64(shiftedData) + `, "publish_time":"2026-03-14T09:27:08.401Z" ,"messageId":"1",` +
				`"attributes": {"timestamp":"2026-03-14T09:25:51.020406Z", "time":"2026-03-14T09:25:41Z"}}, "publishTime": "2026-03-14T09:26:58.401Z" } `,
		},
		"attribute in milliseconds": {
			`{"message": {"attributes": {"timestamp": "1773480341020"}}}`,
			`{"message": {"attributes": {"timestamp": "1773480351020"}}}`,
		},
		"attribute that is no time": {
			`{"message": {"attributes": {"timestamp": "9223372036854775807"}}}`,
			`{"message": {"attributes": {"timestamp": "9223372036854775807"}}}`,
		},
		"bare event": {data, shiftedData},
		"doubles":    {`{"timestamp":"2026-03-14T09:25:41Z","timestamp":"2026-03-14T09:25:42Z"}`, `{"timestamp":"2026-03-14T09:25:51Z","timestamp":"2026-03-14T09:25:52Z"}`},
		"escaped":    {`{"\u0074imestamp":"2026\u002d03-14T09:25:41Z"}`, `{"\u0074imestamp":"2026-03-14T09:25:51Z"}`},
		"inner":      {`{"a": {"timestamp":"2026-03-14T09:25:41Z"}}`, `{"a": {"timestamp":"2026-03-14T09:25:41Z"}}`},
		"other case": {`{"Timestamp":"2026-03-14T09:25:41Z"}`, `{"Timestamp":"2026-03-14T09:25:41Z"}`},
		"no string":  {`{"timestamp":1773480341020}`, `{"timestamp":1773480341020}`},
		"half":       {half, half},
		"data that is no object": {
			`{"message": {"data": ` + b64(half) + `, "publishTime": "2026-03-14T09:26:58Z"}}`,
			`{"message": {"data": ` + b64(half) + `, "publishTime": "2026-03-14T09:27:08Z"}}`,
		},
		"data that is not base64": {
			`{"message": {"data": "%", "publishTime": "2026-03-14T09:26:58Z"}}`,
			`{"message": {"data": "%", "publishTime": "2026-03-14T09:27:08Z"}}`,
		},
		"data that is not UTF-8": {
			`{"message": {"data": ` + b64("{\"x\": \"\xff\", \"timestamp\":\"2026-03-14T09:25:41Z\"}") + `}}`,
			`{"message": {"data": ` + b64("{\"x\": \"\xff\", \"timestamp\":\"2026-03-14T09:25:41Z\"}") + `}}`,
		},
		"nothing to move": {`{"message": {"data": null, "publishTime": null, "attributes": []}}`, `{"message": {"data": null, "publishTime": null, "attributes": []}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, string(labShift(10).line([]byte(tt.line)))); diff != "" {
				t.Errorf("line (-want +got):\n%s", diff)
			}
			if back := string(labShift(-10).line([]byte(tt.want))); name != "escaped" && back != tt.line {
				t.Errorf("moved back it is\n%s\nwant\n%s", back, tt.line)
			}
		})
	}
}

func TestShiftMovesTheTimeOfThePipelineFile(t *testing.T) {
	t.Parallel()
	nested := []string{"order", "created"}
	for name, tt := range map[string]struct {
		field      event.Field
		data, want string
	}{
		"nested text":         {event.Field{Format: event.RFC3339, Path: nested}, `{"created": 1, "order": {"created": "2026-03-14 09:25:41Z" }}`, `{"created": 1, "order": {"created": "2026-03-14 09:25:51Z" }}`},
		"milliseconds":        {event.Field{Format: event.UnixMilli, Path: nested}, `{"order": {"created":1773480341020}}`, `{"order": {"created":1773480351020}}`},
		"seconds":             {event.Field{Format: event.UnixSecond, Path: []string{"at"}}, `{"at": -5}`, `{"at": 5}`},
		"text for seconds":    {event.Field{Format: event.UnixSecond, Path: []string{"at"}}, `{"at": "5"}`, `{"at": "5"}`},
		"seconds of no year":  {event.Field{Format: event.UnixSecond, Path: []string{"at"}}, `{"at": 9223372036854775807}`, `{"at": 9223372036854775807}`},
		"past the year 9999":  {event.Field{Format: event.UnixSecond, Path: []string{"at"}}, `{"at": 253402300799}`, `{"at": 253402300799}`},
		"no object around it": {event.Field{Format: event.UnixMilli, Path: nested}, `{"order": 1773480341020}`, `{"order": 1773480341020}`},
		"another attribute":   {event.Field{Format: event.UnixMilli, Path: nested}, `{"message": {"attributes": {"sent": "1773480341020"}}}`, `{"message": {"attributes": {"sent": "1773480351020"}}}`},
	} {
		tt.field.Name, tt.field.Type = "at", event.Timestamp
		if got := string(shift{tt.field, "sent", 10}.line([]byte(tt.data))); got != tt.want {
			t.Errorf("%s: moved to %s, want %s", name, got, tt.want)
		}
	}
	// Without a field, no data has a time.
	if got := string(shift{offset: 10}.line([]byte(`{"": "2026-03-14 09:25:41Z"}`))); got != `{"": "2026-03-14 09:25:41Z"}` {
		t.Errorf("without a field: %s", got)
	}
}

func TestReplayShiftsByTheTimeOfThePipelineFile(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	data := `{"order":{"created":` + strconv.FormatInt(now.Add(-time.Hour).UnixMilli(), 10) + `}}`
	o := options(s.URL, data+"\n"+`{"message": {"messageId": "1", "data": "`+base64.StdEncoding.EncodeToString([]byte(data))+`"}}`)
	o.ShiftToNow, o.Time = true, event.Field{Name: "at", Type: event.Timestamp, Format: event.UnixMilli, Path: []string{"order", "created"}}
	replay(t, o)
	want := `{"order":{"created":` + strconv.FormatInt(now.UnixMilli(), 10) + `}}`
	got := s.received()
	if m := message(t, got[0]); string(m.Data) != want || !m.PublishTime.Equal(now) {
		t.Errorf("the bare event is %s, published at %v; want %s at %v", m.Data, m.PublishTime, want, now)
	}
	var body struct{ Message struct{ Data []byte } }
	if err := json.Unmarshal([]byte(got[1]), &body); err != nil || string(body.Message.Data) != want {
		t.Errorf("data of the push body is %s, %v; want %s", body.Message.Data, err, want)
	}
}

func TestReplayShiftsTheLatestPublishTimeToNow(t *testing.T) {
	t.Parallel()
	text := strings.Join([]string{
		pushLine("1", "2026-03-14T09:26:58.401Z", []byte(bare)),
		pushLine("2", "2026-03-14T10:00:00.125Z", []byte(`{"timestamp": "2030-01-01T00:00:00Z"}`)), // this publish time is the latest; the event's own time does not matter
		half,
		`{"timestamp": "2026-03-14T09:59:00.5Z"}`,
	}, "\n")
	// now is 12:00:00.25 on 1 July, so the offset brings .125 to 12:00:00.125.
	offset := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).Sub(time.Date(2026, 3, 14, 10, 0, 0, 0, time.UTC))
	path := t.TempDir() + "/input"
	if err := os.WriteFile(path, []byte("skipped"+zipped(t, text)), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Seek(int64(len("skipped")), io.SeekStart); err != nil {
		t.Fatal(err)
	}
	for name, input := range map[string]io.Reader{
		"that can seek":         strings.NewReader(text),
		"that cannot":           io.MultiReader(strings.NewReader(text)),
		"gzip, read from a pos": file,
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := newServer(t, nil)
			o := options(s.URL, "")
			o.Input, o.ShiftToNow, o.Log = input, true, &log
			replay(t, o)
			got := s.received()
			if len(got) != 4 {
				t.Fatalf("%d bodies, want 4", len(got))
			}
			for i, want := range []time.Time{
				time.Date(2026, 3, 14, 9, 26, 58, 401e6, time.UTC).Add(offset),
				time.Date(2026, 7, 1, 12, 0, 0, 125e6, time.UTC),
				now, // this line has no publish time
				time.Date(2026, 3, 14, 9, 59, 0, 500e6, time.UTC).Add(offset),
			} {
				if m := message(t, got[i]); !m.PublishTime.Equal(want) {
					t.Errorf("line %d is published at %v, want %v", i+1, m.PublishTime, want)
				}
			}
			first, last := message(t, got[0]), message(t, got[3])
			at := time.Date(2026, 3, 14, 9, 26, 53, 589793e3, time.UTC).Add(offset)
			if want := strings.Replace(bare, bareTime, event.FormatTime(at), 1); string(first.Data) != want || first.ID != "1" {
				t.Errorf("data of message %q is %s, want %s", first.ID, first.Data, want)
			}
			if want := event.DerivedID(last.Data, nil); last.ID != want {
				t.Errorf("id is %s, want that of the data as sent, %s", last.ID, want)
			}
			if !strings.Contains(log.String(), "becomes 2026-07-01T12:00:00.125000Z") {
				t.Errorf("log is %q, want it to tell how times move", &log)
			}
		})
	}
}

// If the file's publish times do not count, its event times do.
func TestShiftWithoutPublishTimes(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	o := options(s.URL, bare+"\n"+`{"message": {"messageId": "1", "data": "eyJ0aW1lc3RhbXAiOiAiMjAyNi0wMy0xNFQxMDowMDowMFoifQ=="}}`)
	o.ShiftToNow, o.PublishTime = true, PublishNow
	replay(t, o)
	got := s.received()
	if m := message(t, got[0]); !m.PublishTime.Equal(now) || !strings.Contains(string(m.Data), "2026-07-01T11:26:53.589793Z") {
		t.Errorf("bare event is published at %v with %s", m.PublishTime, m.Data)
	}
	var body struct{ Message struct{ Data []byte } }
	if err := json.Unmarshal([]byte(got[1]), &body); err != nil || string(body.Message.Data) != `{"timestamp": "2026-07-01T12:00:00Z"}` {
		t.Errorf("data is %s, %v, want its timestamp at now", body.Message.Data, err)
	}

	var log bytes.Buffer
	o = options(s.URL, half)
	o.ShiftToNow, o.Log = true, &log
	if summary := replay(t, o); summary.Acknowledged != 1 || !strings.Contains(log.String(), "no line has a time") {
		t.Errorf("without any time: %+v, log %q", summary, &log)
	}
}

func FuzzShiftLine(f *testing.F) {
	f.Add([]byte(bare), int64(86400))
	f.Add([]byte(half), int64(1))
	f.Add([]byte(pushLine("1", "2026-03-14T09:26:58.401Z", []byte(bare))), int64(-5))
	f.Add([]byte(`{"message": {"attributes": {"timestamp": "1773480341020"}}, "message": {}}`), int64(1))
	f.Add([]byte(`{"timestamp" :"0001-01-01 00:00:00.1+23:59" , "x":-1e5 }`), int64(-1))
	f.Fuzz(func(t *testing.T, line []byte, offset int64) {
		if len(line) > 16<<10 {
			t.Skip("larger lines only make the fuzzer slow")
		}
		offset %= 1e12 // more than the years that times can have
		before, _ := classify(line)
		shifted := labShift(offset).line(line)
		if after, _ := classify(shifted); after != before {
			t.Fatalf("%q became %q, another kind of line", line, shifted)
		}
		if before == garbage && !bytes.Equal(line, shifted) {
			t.Fatalf("%q, which is no object, became %q", line, shifted)
		}
		if before != garbage && !json.Valid(shifted) {
			t.Fatalf("%q became %q, which is not JSON", line, shifted)
		}
		pushBodyOf(line, 1, now)
	})
}
