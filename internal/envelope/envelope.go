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

// expected ends the errors about a body that is no push envelope. They are read
// by a person with curl, since Pub/Sub never sends such a body.
const expected = `want what Pub/Sub push sends, {"message": {"data": "<base64>", "messageId": "<id>", "publishTime": "<time>", "attributes": {...}}}; a bare event goes to /push/raw`

// Decode reads a message from the body of a push. An error means that the body
// can never be read, and says what was expected: an answer for status 400.
//
// Keys match in their exact case, and of a duplicate key the last counts. The
// id may be spelled messageId or message_id, the publish time publishTime or
// publish_time; the first of each pair wins. Every member of the message is
// optional, and null counts as absent (proto3 JSON). Unknown members are
// ignored, and so are deliveryAttempt and orderingKey, which decide nothing.
//
// A message without id, or with an empty one, gets [event.DerivedID]; one
// without publish time gets receivedAt, cut down to the microsecond, and
// [event.FromReceipt] as the source. The message shares no memory with body.
func Decode(body []byte, receivedAt time.Time) (event.Message, error) {
	message, subscription, err := open(body)
	if err != nil {
		return event.Message{}, err
	}
	m := event.Message{Subscription: subscription}
	if m.Data, err = decodeData(message["data"]); err != nil {
		return event.Message{}, err
	}
	if m.Attributes, err = decodeAttributes(message["attributes"]); err != nil {
		return event.Message{}, err
	}
	if m.ID, err = decodeID(message); err != nil {
		return event.Message{}, err
	}
	if m.ID == "" {
		m.ID = event.DerivedID(m.Data, m.Attributes)
	}
	var given bool
	if m.PublishTime, given, err = decodePublishTime(message); err != nil {
		return event.Message{}, err
	}
	m.PublishTimeSource = event.FromMessage
	if !given {
		m.PublishTime = receivedAt.UTC().Truncate(time.Microsecond)
		m.PublishTimeSource = event.FromReceipt
	}
	return m, nil
}

// open returns the members of the message inside body, undecoded, and the name
// of the subscription.
func open(body []byte) (message map[string]json.RawMessage, subscription string, err error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, "", fmt.Errorf("body is empty; %s", expected)
	}
	// The decoder would replace bad bytes in attributes without a word.
	if !utf8.Valid(body) {
		return nil, "", fmt.Errorf("body is not UTF-8; %s", expected)
	}
	envelope, err := strictjson.Object(body)
	if errors.Is(err, strictjson.ErrNotObject) {
		return nil, "", fmt.Errorf("body is not a JSON object: %w; %s", err, expected)
	}
	if err != nil {
		return nil, "", fmt.Errorf("body is not JSON: %w; %s", err, expected)
	}
	if absent(envelope["message"]) {
		return nil, "", fmt.Errorf(`body has no "message" object; %s`, expected)
	}
	if message, err = strictjson.Object(envelope["message"]); err != nil {
		return nil, "", fmt.Errorf(`"message" is not a JSON object: %w; %s`, err, expected)
	}
	subscription, err = optionalString(envelope, "subscription")
	return message, subscription, err
}

// absent tells whether an optional member is missing or null.
func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

func optionalString(object map[string]json.RawMessage, key string) (string, error) {
	raw := object[key]
	if absent(raw) {
		return "", nil
	}
	s, err := strictjson.String(raw)
	if err != nil {
		return "", fmt.Errorf("%s is %s, want a JSON string", key, strictjson.Quote(string(raw)))
	}
	return s, nil
}

// decodeData returns nil for data that is absent or empty.
func decodeData(raw json.RawMessage) ([]byte, error) {
	if absent(raw) {
		return nil, nil
	}
	// The decoder reads base64 into bytes by itself, but an array of numbers too.
	if raw[0] != '"' {
		return nil, fmt.Errorf("message.data is %s, want a JSON string of base64", strictjson.Quote(string(raw)))
	}
	var data []byte
	if err := json.Unmarshal(raw, &data); err != nil {
		return nil, fmt.Errorf("message.data is not base64 (want the standard alphabet with + and /, padded with =): %w", err)
	}
	if len(data) == 0 {
		return nil, nil
	}
	return data, nil
}

// decodeAttributes returns nil where there are none.
func decodeAttributes(raw json.RawMessage) (map[string]string, error) {
	if absent(raw) {
		return nil, nil
	}
	object, err := strictjson.Object(raw)
	if err != nil {
		return nil, fmt.Errorf("message.attributes is %s, want a JSON object of strings", strictjson.Quote(string(raw)))
	}
	if len(object) == 0 {
		return nil, nil
	}
	attributes := make(map[string]string, len(object))
	for name, value := range object {
		if attributes[name], err = strictjson.String(value); err != nil {
			return nil, fmt.Errorf("attribute %s is %s, want a JSON string", strictjson.Quote(name), strictjson.Quote(string(value)))
		}
	}
	return attributes, nil
}

func decodeID(message map[string]json.RawMessage) (string, error) {
	for _, key := range []string{"messageId", "message_id"} {
		if id, err := optionalString(message, key); err != nil || id != "" {
			return id, wrapMember(err)
		}
	}
	return "", nil
}

func decodePublishTime(message map[string]json.RawMessage) (t time.Time, given bool, err error) {
	for _, key := range []string{"publishTime", "publish_time"} {
		if absent(message[key]) {
			continue
		}
		text, err := optionalString(message, key)
		if err != nil {
			return time.Time{}, false, wrapMember(err)
		}
		if t, err = event.ParseTime(text); err != nil {
			return time.Time{}, false, fmt.Errorf("message.%s: %w", key, err)
		}
		return t, true, nil
	}
	return time.Time{}, false, nil
}

// wrapMember says where the member is that err names.
func wrapMember(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("message.%w", err)
}

// wire is a push body as Pub/Sub writes it, with its members in the same order.
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

// Encode returns m as Pub/Sub pushes it, on one line: id and publish time in
// both spellings; data, attributes and subscription left out where empty. The
// publish time has six digits of fraction. [Decode] gives m back, with
// [event.FromMessage] as the source of its publish time; bytes in strings that
// are not UTF-8 become U+FFFD, since JSON has no way to write them.
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
