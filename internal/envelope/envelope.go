// Package envelope reads and writes the JSON body of a wrapped Pub/Sub push:
//
//	{"message": {"data": "<base64>", "messageId": "...", "publishTime": "...",
//	             "attributes": {"name": "value"}}, "subscription": "projects/..."}
package envelope

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// expected ends the errors about a body that is not a push envelope. Pub/Sub never sends
// such a body, so the reader is a user with curl.
const expected = `want what Pub/Sub push sends, {"message": {"data": "<base64>", "messageId": "<id>", "publishTime": "<time>", "attributes": {...}}}; a bare event goes to /push/raw`

// The indexes of the values that are read from a push body.
const (
	theMessage = iota
	theData
	theAttributes
	theID
	theID2
	thePublishTime
	thePublishTime2
	theSubscription
)

var paths = [...]string{
	theMessage:      "message",
	theData:         "message.data",
	theAttributes:   "message.attributes",
	theID:           "message.messageId",
	theID2:          "message.message_id",
	thePublishTime:  "message.publishTime",
	thePublishTime2: "message.publish_time",
	theSubscription: "subscription",
}

var selection = strictjson.Select(paths[:]...)

// values are the undecoded values at the paths.
type values [len(paths)]json.RawMessage

// Decode reads a message from the body of a push. An error means that the body can
// never be read. The error says what was expected, and fits an answer with status 400.
//
// Keys match in their exact case, and of a duplicate key the last counts. The
// id may be spelled messageId or message_id, the publish time publishTime or
// publish_time; the first of each pair wins. Every member of the message is
// optional, and null counts as absent (proto3 JSON). Unknown members are
// ignored. So are deliveryAttempt and orderingKey, which do not affect the counts.
//
// A message without an id, or with an empty id, gets [event.DerivedID]. A message
// without a publish time gets receivedAt, truncated to the microsecond, and
// [event.FromReceipt] as the source.
//
// Decode overwrites body: it decodes the data in place, so that a large message is in
// memory only once. The message's data shares the memory of body, and the rest of the
// message does not.
func Decode(body []byte, receivedAt time.Time) (event.Message, error) {
	v, err := open(body)
	if err != nil {
		return event.Message{}, err
	}
	var m event.Message
	if m.Subscription, err = v.optionalString(theSubscription); err != nil {
		return event.Message{}, err
	}
	if m.Data, err = decodeData(v[theData]); err != nil {
		return event.Message{}, err
	}
	if m.Attributes, err = decodeAttributes(v[theAttributes]); err != nil {
		return event.Message{}, err
	}
	if m.ID, err = v.id(); err != nil {
		return event.Message{}, err
	}
	if m.ID == "" {
		m.ID = event.DerivedID(m.Data, m.Attributes)
	}
	var given bool
	if m.PublishTime, given, err = v.publishTime(); err != nil {
		return event.Message{}, err
	}
	m.PublishTimeSource = event.FromMessage
	if !given {
		m.PublishTime = receivedAt.UTC().Truncate(time.Microsecond)
		m.PublishTimeSource = event.FromReceipt
	}
	return m, nil
}

// open reads the values from a body, in one pass.
func open(body []byte) (v values, err error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return v, fmt.Errorf("body is empty; %s", expected)
	}
	// The decoder would replace invalid bytes in attributes, and report no error.
	if !utf8.Valid(body) {
		return v, fmt.Errorf("body is not UTF-8; %s", expected)
	}
	err = selection.Read(body, v[:], nil)
	switch message := v[theMessage]; {
	case errors.Is(err, strictjson.ErrNotObject):
		return v, fmt.Errorf("body is not a JSON object: %w; %s", err, expected)
	case err != nil:
		return v, fmt.Errorf("body is not JSON: %w; %s", err, expected)
	case absent(message):
		return v, fmt.Errorf(`body has no "message" object; %s`, expected)
	case message[0] != '{':
		_, err = strictjson.Object(message) // its error says what message is
		return v, fmt.Errorf(`"message" is not a JSON object: %w; %s`, err, expected)
	}
	return v, nil
}

// absent tells whether an optional member is missing or null.
func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func (v *values) optionalString(i int) (string, error) {
	if absent(v[i]) {
		return "", nil
	}
	s, err := strictjson.String(v[i])
	if err != nil {
		return "", fmt.Errorf("%s is %s, want a JSON string", paths[i], strictjson.Quote(string(v[i])))
	}
	return s, nil
}

// decodeData returns nil if the data is absent or empty.
func decodeData(raw json.RawMessage) ([]byte, error) {
	if absent(raw) {
		return nil, nil
	}
	text, err := strictjson.Unquote(raw, nil)
	if err != nil {
		return nil, fmt.Errorf("message.data is %s, want a JSON string of base64", strictjson.Quote(string(raw)))
	}
	if len(text) == 0 {
		return nil, nil
	}
	data, err := decodeBase64(text)
	if err != nil {
		return nil, fmt.Errorf("message.data is not base64 (want the standard alphabet with + and /, padded with =): %w", err)
	}
	return data, nil
}

// decodeBase64 decodes text into the memory of text. It decodes block by block, because
// encoding/base64 does not promise that the output may overwrite the input.
func decodeBase64(text []byte) ([]byte, error) {
	// Two kinds of text cannot be decoded in blocks. The decoder ignores line breaks, so a
	// block could begin in the middle of a group of four. And padding must end the whole
	// text, but a decoder of blocks would accept it at the end of any block. Pub/Sub sends
	// neither.
	has := func(text []byte, c byte) bool { return bytes.IndexByte(text, c) >= 0 }
	if has(text, '\n') || has(text, '\r') || has(text[:max(0, len(text)-2)], '=') {
		return base64.StdEncoding.AppendDecode(nil, text)
	}
	var block [1024]byte // whole groups of four
	length := 0          // number of decoded bytes
	for start := 0; start < len(text); start += len(block) {
		encoded := block[:copy(block[:], text[start:])]
		n, err := base64.StdEncoding.Decode(text[length:start+len(encoded)], encoded)
		if at, ok := err.(base64.CorruptInputError); ok {
			return nil, base64.CorruptInputError(start) + at
		}
		length += n
	}
	return text[:length:length], nil
}

// decodeAttributes returns nil if there are no attributes.
func decodeAttributes(raw json.RawMessage) (map[string]string, error) {
	if absent(raw) {
		return nil, nil
	}
	attributes, wrong := map[string]string{}, map[string]json.RawMessage{}
	err := strictjson.Members(raw, func(name string, value json.RawMessage) {
		if len(attributes) > event.MaxAttributes {
			return // the map of all would take many times the memory of the body
		}
		delete(wrong, name) // the last of equal names counts
		text, err := strictjson.String(value)
		if err != nil {
			wrong[name] = value
		}
		attributes[name] = text
	})
	if err != nil {
		return nil, fmt.Errorf("message.attributes is %s, want a JSON object of strings", strictjson.Quote(string(raw)))
	}
	if len(attributes) > event.MaxAttributes {
		return nil, fmt.Errorf("message.attributes has more attributes than Pub/Sub allows, want at most %d", event.MaxAttributes)
	}
	for name, value := range wrong {
		return nil, fmt.Errorf("attribute %s is %s, want a JSON string", strictjson.Quote(name), strictjson.Quote(string(value)))
	}
	if len(attributes) == 0 {
		return nil, nil
	}
	return attributes, nil
}

func (v *values) id() (string, error) {
	for _, i := range []int{theID, theID2} {
		if id, err := v.optionalString(i); err != nil || id != "" {
			return id, err
		}
	}
	return "", nil
}

func (v *values) publishTime() (t time.Time, given bool, err error) {
	for _, i := range []int{thePublishTime, thePublishTime2} {
		if absent(v[i]) {
			continue
		}
		text, err := v.optionalString(i)
		if err != nil {
			return time.Time{}, false, err
		}
		if t, err = event.ParseTime(text); err != nil {
			return time.Time{}, false, fmt.Errorf("%s: %w", paths[i], err)
		}
		return t, true, nil
	}
	return time.Time{}, false, nil
}

// wire is a push body. Its members are in the order in which Pub/Sub writes them.
type wire struct {
	Message      wireMessage `json:"message"`
	Subscription string      `json:"subscription,omitempty"`
}

type wireMessage struct {
	Attributes   map[string]string `json:"attributes,omitempty"`
	Data         string            `json:"data,omitempty"`
	MessageID    string            `json:"messageId"`
	MessageID2   string            `json:"message_id"`
	PublishTime  string            `json:"publishTime"`
	PublishTime2 string            `json:"publish_time"`
}

// Encode returns the push body of m, on one line, as Pub/Sub writes it. The id and the
// publish time are in both spellings. Data, attributes and subscription are left out if
// they are empty. The publish time has six digits of fraction. [Decode] returns m again,
// with [event.FromMessage] as the source of its publish time. Bytes in strings that are
// not UTF-8 become U+FFFD, because JSON cannot express them.
func Encode(m event.Message) []byte {
	publishTime := event.FormatTime(m.PublishTime)
	body, err := json.Marshal(wire{
		Message: wireMessage{
			Attributes:   m.Attributes,
			Data:         base64.StdEncoding.EncodeToString(m.Data),
			MessageID:    m.ID,
			MessageID2:   m.ID,
			PublishTime:  publishTime,
			PublishTime2: publishTime,
		},
		Subscription: m.Subscription,
	})
	if err != nil {
		panic(fmt.Sprintf("encode push body of message %q: %v", m.ID, err)) // strings and a map of strings always encode
	}
	return body
}
