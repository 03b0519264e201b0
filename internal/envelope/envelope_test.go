package envelope

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
)

var receivedAt = time.Date(2026, 3, 14, 11, 26, 59, 123456789, time.FixedZone("CET", 2*60*60))

// receivedUTC is receivedAt in the form that a message has: in UTC and whole
// microseconds.
var receivedUTC = time.Date(2026, 3, 14, 9, 26, 59, 123456000, time.UTC)

var published = time.Date(2026, 3, 14, 9, 26, 58, 401000000, time.UTC)

func TestDecode(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body string
		want event.Message
	}{
		"as Pub/Sub writes it": {
			body: `{"message": {"attributes": {"timestamp": "2026-03-14T09:25:41.020406Z"}, "data": "aGVsbG8=",
				"messageId": "17", "message_id": "17", "publishTime": "2026-03-14T09:26:58.401Z", "publish_time": "2026-03-14T09:26:58.401Z",
				"orderingKey": "k"}, "deliveryAttempt": 5, "subscription": "projects/p/subscriptions/s"}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage, Subscription: "projects/p/subscriptions/s",
				Attributes: map[string]string{"timestamp": "2026-03-14T09:25:41.020406Z"}, Data: []byte("hello")},
		},
		"snake case alone": {
			body: `{"message": {"data": "aGVsbG8=", "message_id": "17", "publish_time": "2026-03-14T09:26:58.401Z"}}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage, Data: []byte("hello")},
		},
		"camel case wins over snake case": {
			body: `{"message": {"publish_time": "2001-01-01T00:00:00Z", "message_id": "no", "messageId": "17", "publishTime": "2026-03-14T09:26:58.401Z"}}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage},
		},
		"null and empty are absent, so the other spelling counts": {
			body: `{"message": {"messageId": "", "message_id": "17", "publishTime": null, "publish_time": "2026-03-14T09:26:58.401Z",
				"data": null, "attributes": null, "orderingKey": null}, "subscription": null, "deliveryAttempt": null}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage},
		},
		"no id, no time": {
			body: `{"message": {"data": "aGVsbG8=", "attributes": {"a": "b"}}}`,
			want: event.Message{ID: event.DerivedID([]byte("hello"), map[string]string{"a": "b"}), PublishTime: receivedUTC,
				PublishTimeSource: event.FromReceipt, Attributes: map[string]string{"a": "b"}, Data: []byte("hello")},
		},
		"nothing at all in the message": {
			body: ` {"message": {}} `,
			want: event.Message{ID: event.DerivedID(nil, nil), PublishTime: receivedUTC, PublishTimeSource: event.FromReceipt},
		},
		"empty data and attributes are the same as none": {
			body: `{"message": {"messageId": "17", "data": "", "attributes": {}, "publishTime": "2026-03-14T09:26:58.401Z"}}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage},
		},
		"keys in another case are unknown, and unknown keys are ignored": {
			body: `{"Message": 1, "message": {"MessageId": 17, "Data": 1, "PublishTime": false, "messageId": "17", "x": [], "publishTime": "2026-03-14T09:26:58.401Z"}, "x": {}}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage},
		},
		"the last of a duplicate key counts": {
			body: `{"message": 1, "message": {"messageId": "16", "messageId": "17", "publishTime": "2026-03-14T09:26:58.401Z"}}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage},
		},
		"of the message that does not count nothing is kept": {
			body: `{"message": {"messageId": "16", "data": "aGVsbG8=", "attributes": {"a": "b"}}, "message": {"messageId": "17", "publishTime": "2026-03-14T09:26:58.401Z"}}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage},
		},
		"the last of a duplicate attribute counts": {
			body: `{"message": {"messageId": "17", "attributes": {"a": 1, "a": "b"}, "publishTime": "2026-03-14T09:26:58.401Z"}}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage, Attributes: map[string]string{"a": "b"}},
		},
		"any character may be escaped": {
			body: `{"m\u0065ssage": {"message\u0049d": "1\u0037", "data": "\/\/79\u002bw\u003d\n=", "attributes": {"\u00e9": "\ud83d\ude00"}, "publishTime": "2026-03-14\u005409:26:58.401Z"}}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage, Data: []byte{0xff, 0xfe, 0xfd, 0xfb}, Attributes: map[string]string{"é": "😀"}},
		},
		"publish time to the nanosecond is cut down": {
			body: `{"message": {"messageId": "17", "publishTime": "2026-03-14T11:26:58.401000999+02:00"}}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage},
		},
		"data may be any bytes": {
			body: `{"message": {"messageId": "17", "data": "//79+w==", "publishTime": "2026-03-14T09:26:58.401Z"}}`,
			want: event.Message{ID: "17", PublishTime: published, PublishTimeSource: event.FromMessage, Data: []byte{0xff, 0xfe, 0xfd, 0xfb}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Decode([]byte(tt.body), receivedAt)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			if got.PublishTime.Location() != time.UTC {
				t.Errorf("publish time is in %v, want UTC", got.PublishTime.Location())
			}
		})
	}
}

// A refusal tells a user of curl what was wrong and what to send instead.
func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body string
		want []string // parts of the error
	}{
		"empty body":           {"", []string{"empty", `{"message"`, "/push/raw"}},
		"blank body":           {" \n", []string{"empty"}},
		"not JSON":             {"timestamp=1", []string{"not JSON", `{"message"`}},
		"cut":                  {`{"message": {"data": "aGVs`, []string{"not JSON"}},
		"two values":           {`{"message": {}} {}`, []string{"not JSON"}},
		"not UTF-8":            {"{\"message\": {\"messageId\": \"\xff\"}}", []string{"not UTF-8"}},
		"array":                {`[]`, []string{"not a JSON object", "array"}},
		"null body":            {`null`, []string{"not a JSON object", "null"}},
		"bare event":           {`{"ip": "192.0.2.1", "user_id": "1"}`, []string{`no "message"`, "/push/raw"}},
		"message in caps":      {`{"Message": {}}`, []string{`no "message"`}},
		"message null":         {`{"message": null}`, []string{`no "message"`}},
		"message a string":     {`{"message": "hello"}`, []string{`"message" is not a JSON object`, "string"}},
		"subscription number":  {`{"message": {}, "subscription": 1}`, []string{"subscription", `"1"`, "string"}},
		"data a number":        {`{"message": {"data": 1}}`, []string{"message.data", "base64"}},
		"data an array":        {`{"message": {"data": [104, 105]}}`, []string{"message.data", "base64"}},
		"data not encoded":     {`{"message": {"data": "{\"ip\": 1}"}}`, []string{"message.data", "base64", "padded"}},
		"data without padding": {`{"message": {"data": "aGVsbG8"}}`, []string{"message.data", "padded"}},
		"data for URLs":        {`{"message": {"data": "__79-w=="}}`, []string{"message.data", "standard alphabet"}},
		"attributes a list":    {`{"message": {"attributes": ["a"]}}`, []string{"message.attributes", "object of strings"}},
		"attribute a number":   {`{"message": {"attributes": {"timestamp": 1773480341020}}}`, []string{`attribute "timestamp"`, "1773480341020", "string"}},
		"attributes too many":  {`{"message": {"attributes": ` + attributes(101) + `}}`, []string{"message.attributes", "at most 100"}},
		"attribute last":       {`{"message": {"attributes": {"a": "b", "a": 1}}}`, []string{`attribute "a"`, "string"}},
		"attribute null":       {`{"message": {"attributes": {"a": null}}}`, []string{`attribute "a"`, "string"}},
		"id a number":          {`{"message": {"messageId": 17}}`, []string{"message.messageId", "17", "string"}},
		"second id a number":   {`{"message": {"message_id": 17}}`, []string{"message.message_id", "17", "string"}},
		"time not a time":      {`{"message": {"publishTime": "yesterday"}}`, []string{"message.publishTime", "yesterday"}},
		"time empty":           {`{"message": {"publish_time": ""}}`, []string{"message.publish_time"}},
		"time a number":        {`{"message": {"publishTime": 1773480341020}}`, []string{"message.publishTime", "1773480341020", "string"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := Decode([]byte(tt.body), receivedAt)
			if err == nil {
				t.Fatalf("decoded as %+v", m)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not mention %q", err, part)
				}
			}
		})
	}
}

// attributes returns n attributes in JSON.
func attributes(n int) string {
	object := map[string]string{}
	for i := range n {
		object[fmt.Sprint(i)] = ""
	}
	text, _ := json.Marshal(object) // always has a JSON form
	return string(text)
}

func TestAllAttributesThatPubSubHasAreTaken(t *testing.T) {
	t.Parallel()
	body := fmt.Appendf(nil, `{"message": {"attributes": %s}}`, strings.Replace(attributes(100), "{", `{"0": "twice", `, 1))
	if m, err := Decode(body, receivedAt); err != nil || len(m.Attributes) != 100 || m.Attributes["0"] != "" {
		t.Errorf("%d attributes, %v", len(m.Attributes), err)
	}
}

func TestLongValuesAreCutInErrors(t *testing.T) {
	t.Parallel()
	_, err := Decode([]byte(`{"message": {"messageId": [`+strings.Repeat("1,", 1<<20)+`1]}}`), receivedAt)
	if text := fmt.Sprint(err); err == nil || len(text) > 200 {
		t.Errorf("error is %.300s, want one of at most 200 bytes", text)
	}
}

func TestEncodeWritesTheFullForm(t *testing.T) {
	t.Parallel()
	got := string(Encode(event.Message{ID: "17", PublishTime: published, Subscription: "projects/p/subscriptions/s",
		Attributes: map[string]string{"timestamp": "2026-03-14T09:25:41.020406Z"}, Data: []byte("hello")}))
	want := `{"message":{"attributes":{"timestamp":"2026-03-14T09:25:41.020406Z"},"data":"aGVsbG8=","messageId":"17","message_id":"17",` +
		`"publishTime":"2026-03-14T09:26:58.401000Z","publish_time":"2026-03-14T09:26:58.401000Z"},"subscription":"projects/p/subscriptions/s"}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	bare := string(Encode(event.Message{ID: "17", PublishTime: published, Attributes: map[string]string{}, Data: []byte{}}))
	for _, member := range []string{"data", "attributes", "subscription"} {
		if strings.Contains(bare, member) {
			t.Errorf("empty %s is written: %s", member, bare)
		}
	}
}

func TestDecodeGivesBackWhatEncodeWrote(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		m := randomMessage(r)
		got, err := Decode(Encode(m), receivedAt)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Fatalf("message (-want +got):\n%s", diff)
		}
	}
}

func randomMessage(r *rand.Rand) event.Message {
	text := func() string {
		runes := []rune("aZ0\"\\/<&\n\t\x00é😀\u2028")
		var b strings.Builder
		for range r.IntN(8) {
			b.WriteRune(runes[r.IntN(len(runes))])
		}
		return b.String()
	}
	m := event.Message{
		ID:                "id" + text(),
		PublishTime:       time.UnixMicro(r.Int64N(253402300799000000) - 1<<50).UTC(),
		PublishTimeSource: event.FromMessage,
		Subscription:      text(),
	}
	for range r.IntN(4) {
		if m.Attributes == nil {
			m.Attributes = map[string]string{}
		}
		m.Attributes[text()] = text()
	}
	for range r.IntN(20) {
		m.Data = append(m.Data, byte(r.Uint32()))
	}
	return m
}

// A message's data stays in the memory of the body. The rest of the body may be reused.
func TestMessageSharesOnlyTheMemoryOfItsDataWithTheBody(t *testing.T) {
	t.Parallel()
	body := []byte(`{"message": {"messageId": "17", "data": "aGVsbG8=", "attributes": {"a": "b"}}, "subscription": "s"}`)
	at := bytes.Index(body, []byte("aGVsbG8="))
	m, err := Decode(body, receivedAt)
	if err != nil {
		t.Fatal(err)
	}
	if &m.Data[0] != &body[at] || cap(m.Data) != len(m.Data) {
		t.Error("the data is a copy, or has room for more than itself")
	}
	clear(body[:at])
	clear(body[at+len(m.Data):])
	want := event.Message{ID: "17", PublishTime: receivedUTC, PublishTimeSource: event.FromReceipt, Subscription: "s",
		Attributes: map[string]string{"a": "b"}, Data: []byte("hello")}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// Data is decoded as by encoding/base64. The data has every length near the block size, and
// a fault at every place.
func TestDataIsDecodedAsByEncodingBase64(t *testing.T) {
	t.Parallel()
	check := func(text string) {
		t.Helper()
		want, wantErr := base64.StdEncoding.DecodeString(text)
		got, err := decodeBase64([]byte(text))
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes %.20s...%s: %d bytes, %v, want %d, %v", len(text), text, text[max(0, len(text)-20):], len(got), err, len(want), wantErr)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 5000)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	for _, length := range []int{0, 1, 2, 3, 4, 5, 6, 7, 765, 766, 767, 768, 769, 770, 771, 1535, 1536, 1537, 2304, 5000} {
		text := base64.StdEncoding.EncodeToString(data[:length])
		check(text)
		for _, at := range []int{0, 1, 3, 4, 5, 1020, 1023, 1024, 1025, 1027, 1028, 2047, 2048, len(text) - 4, len(text) - 3, len(text) - 2, len(text) - 1, len(text)} {
			if at < 0 || at > len(text) {
				continue
			}
			check(text[:at])
			for _, extra := range []string{"=", "==", "\n", "\r", "\r\n", "*", "A", "AAAA", "AA==", "\x00", "-", "é"} {
				check(text[:at] + extra + text[at:])
				check(text[:at] + extra + text[min(at+len(extra), len(text)):])
			}
		}
	}
}

// reference decodes a body with encoding/json, one object after the other into maps.
func reference(body []byte) (event.Message, error) {
	object := func(raw []byte) (members map[string]json.RawMessage, err error) {
		if err = json.Unmarshal(raw, &members); err == nil && members == nil {
			err = errors.New("null is not an object")
		}
		return members, err
	}
	text := func(raw []byte) (s string, err error) {
		if err = json.Unmarshal(raw, &s); err == nil && raw[0] != '"' {
			err = errors.New("null is not a string")
		}
		return s, err
	}
	absent := func(raw []byte) bool { return raw == nil || string(raw) == "null" }

	m := event.Message{PublishTime: receivedUTC, PublishTimeSource: event.FromReceipt}
	envelope, err := object(body)
	if err != nil || !utf8.Valid(body) {
		return m, errors.Join(err, errors.New("no body"))
	}
	message, err := object(envelope["message"])
	if err != nil {
		return m, err
	}
	if raw := envelope["subscription"]; !absent(raw) {
		if m.Subscription, err = text(raw); err != nil {
			return m, err
		}
	}
	if raw := message["data"]; !absent(raw) {
		encoded, err := text(raw)
		if err != nil {
			return m, err
		}
		data, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return m, err
		}
		if len(data) > 0 {
			m.Data = data
		}
	}
	if raw := message["attributes"]; !absent(raw) {
		attributes, err := object(raw)
		if err != nil {
			return m, err
		}
		for name, raw := range attributes {
			if m.Attributes == nil {
				m.Attributes = map[string]string{}
			}
			if m.Attributes[name], err = text(raw); err != nil {
				return m, err
			}
		}
		if len(attributes) > event.MaxAttributes {
			return m, errors.New("too many attributes")
		}
	}
	for _, key := range []string{"messageId", "message_id"} {
		if raw := message[key]; m.ID == "" && !absent(raw) {
			if m.ID, err = text(raw); err != nil {
				return m, err
			}
		}
	}
	if m.ID == "" {
		m.ID = event.DerivedID(m.Data, m.Attributes)
	}
	for _, key := range []string{"publishTime", "publish_time"} {
		if raw := message[key]; m.PublishTimeSource == event.FromReceipt && !absent(raw) {
			t, err := text(raw)
			if err != nil {
				return m, err
			}
			if m.PublishTime, err = event.ParseTime(t); err != nil {
				return m, err
			}
			m.PublishTimeSource = event.FromMessage
		}
	}
	return m, nil
}

func FuzzDecode(f *testing.F) {
	for _, body := range edgeBodies(f) {
		f.Add(body)
	}
	f.Add([]byte(`{"message": {"message_id": "1", "data": null, "attributes": {"\u0000": "\ud800"}}}`))
	f.Add([]byte(`{"message": {"publish_time": "0001-01-01 00:00:00"}, "message": {}}`))
	f.Add([]byte(`{"message": {"data": "\/\u002b\n8=", "attributes": {"a": 1, "a": "b"}}, "subscription": "s"}`))
	f.Add([]byte(`{"message": {"messageId": "", "message_id": "1", "data": "YQ=="}, "message": {"data": [97]}}`))
	f.Add([]byte(`{"ip": "192.0.2.1"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 64<<10 {
			t.Skip("larger bodies only make the fuzzer slow")
		}
		m, err := Decode(bytes.Clone(body), receivedAt)
		want, wantErr := reference(body)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("Decode(%q): %v, want %v", body, err, wantErr)
		}
		if err != nil {
			if err.Error() == "" {
				t.Error("the error has no text")
			}
			return
		}
		if diff := cmp.Diff(want, m); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", body, diff)
		}
		if m.PublishTime.Location() != time.UTC || m.PublishTime.Nanosecond()%1000 != 0 {
			t.Errorf("publish time %v is not in whole microseconds, UTC", m.PublishTime)
		}
		again, err := Decode(Encode(m), receivedAt)
		if err != nil {
			t.Fatalf("what Encode wrote cannot be decoded: %v", err)
		}
		m.PublishTimeSource = event.FromMessage
		if diff := cmp.Diff(m, again); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
	})
}

func TestEveryEdgeBodyDecodes(t *testing.T) {
	t.Parallel()
	for i, body := range edgeBodies(t) {
		m, err := Decode(bytes.Clone(body), receivedAt)
		if err != nil {
			t.Errorf("body %d: %v", i, err)
			continue
		}
		var want struct{ Message struct{ Data string } }
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		if got := base64.StdEncoding.EncodeToString(m.Data); got != want.Message.Data {
			t.Errorf("body %d: data is %s, want %s", i, got, want.Message.Data)
		}
	}
}

// edgeBodies returns the push bodies of the edge cases in the project's test data.
func edgeBodies(t testing.TB) [][]byte {
	t.Helper()
	file, err := os.Open("../../testdata/edge.push.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var bodies [][]byte
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		bodies = append(bodies, []byte(lines.Text()))
	}
	if err := lines.Err(); err != nil || len(bodies) == 0 {
		t.Fatalf("%d bodies, %v", len(bodies), err)
	}
	return bodies
}
