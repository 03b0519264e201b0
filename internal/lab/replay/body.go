package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// A kind says what a line of input is.
type kind int

const (
	garbage   kind = iota // not a JSON object
	bareEvent             // another JSON object; it becomes the data of a message
	pushBody              // a JSON object whose "message" is an object
)

// classify returns the kind of a line and the members of its object. For a push body they
// are the members of the message.
func classify(line []byte) (kind, map[string]json.RawMessage) {
	object, err := strictjson.Object(line)
	if err != nil {
		return garbage, nil
	}
	if message := object["message"]; bytes.HasPrefix(message, []byte("{")) {
		if members, err := strictjson.Object(message); err == nil {
			return pushBody, members
		}
	}
	return bareEvent, object
}

// pushBodyOf returns the push body for a line that is not a push body itself. The line is
// number copy among equal lines.
func pushBodyOf(line []byte, copy int, publishTime time.Time) []byte {
	var attributes map[string]string // for the id only; the message has no attributes
	if copy > 1 {
		attributes = map[string]string{"copy": strconv.Itoa(copy)}
	}
	return envelope.Encode(event.Message{
		ID:          event.DerivedID(line, attributes),
		PublishTime: publishTime,
		Data:        line,
	})
}

// copies counts equal lines that are not push bodies, because two events may have equal
// bytes. The key is eight bytes of a line's digest. If two different lines have the same
// key, one of them gets a different id, and nothing else changes.
type copies map[[8]byte]int

// number returns the line's number among equal lines, from 1. For a push body it returns 0.
func (c copies) number(line []byte) int {
	if kind, _ := classify(line); kind == pushBody {
		return 0
	}
	digest := sha256.Sum256(line)
	key := [8]byte(digest[:8])
	c[key]++
	return c[key]
}

// latestTimeOf returns the time of a line for the search for the latest publish time, or
// false if the line has no time. The parameter field has the time of an event.
func latestTimeOf(line []byte, field event.Field) (time.Time, bool) {
	kind, message := classify(line)
	if kind != pushBody {
		return field.TimeIn(line)
	}
	for _, key := range publishTimeKeys {
		if t, ok := publishTimeField.Time(message[key]); ok {
			return t, true
		}
	}
	// Without a publish time in the file, the message is published when it is received. So
	// only its event time can count.
	return field.TimeIn(payloadOf(message["data"]))
}

// publishTimeField reads the publish time of a message.
var publishTimeField = event.Field{Type: event.Timestamp, Format: event.RFC3339}

// publishTimeKeys are the two keys of a message's publish time. If both are there, the first
// counts.
var publishTimeKeys = []string{"publishTime", "publish_time"}

// payloadOf decodes a message's data. It returns nil if the data is absent, empty or not
// base64.
func payloadOf(raw json.RawMessage) []byte {
	if !bytes.HasPrefix(raw, []byte(`"`)) {
		return nil
	}
	var data []byte
	if json.Unmarshal(raw, &data) != nil {
		return nil
	}
	return data
}
