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

// kind is what a line of input is.
type kind int

const (
	garbage   kind = iota // not a JSON object
	bareEvent             // a JSON object, to be wrapped
	pushBody              // a JSON object whose "message" is an object
)

// classify says what line is, and returns the members of its object: for a push
// body those of the message.
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

// pushBodyOf returns what to post for a line that is no push body, the copy-th of
// its equals. An event is published at its own time, or at now if publishNow says so
// or it has no time.
func pushBodyOf(line []byte, copy int, publishNow bool, now time.Time) []byte {
	_, object := classify(line)
	publishTime := now
	if t, ok := timeMember(object, "timestamp"); ok && !publishNow {
		publishTime = t
	}
	var attributes map[string]string // of the id alone; the message has none
	if copy > 1 {
		attributes = map[string]string{"copy": strconv.Itoa(copy)}
	}
	return envelope.Encode(event.Message{
		ID:          event.DerivedID(line, attributes),
		PublishTime: publishTime,
		Data:        line,
	})
}

// copies counts equal lines that are no push bodies: two events may have equal
// bytes. It keeps eight bytes of each line's digest. Should two different lines have
// those in common, one of them only gets another id than it would have had.
type copies map[[8]byte]int

// number returns which of its equals the line is, from 1; for a push body 0.
func (c copies) number(line []byte) int {
	if kind, _ := classify(line); kind == pushBody {
		return 0
	}
	digest := sha256.Sum256(line)
	key := [8]byte(digest[:8])
	c[key]++
	return c[key]
}

// latestTimeOf returns the time with which a line enters the search for the
// latest publish time, if it has one.
func latestTimeOf(line []byte) (time.Time, bool) {
	kind, object := classify(line)
	if kind != pushBody {
		return timeMember(object, "timestamp")
	}
	for _, key := range publishTimeKeys {
		if t, ok := timeMember(object, key); ok {
			return t, true
		}
	}
	// Published when it is received, which is now and no time of the file's.
	payload, err := strictjson.Object(payloadOf(object["data"]))
	if err != nil {
		return time.Time{}, false
	}
	return timeMember(payload, "timestamp")
}

// publishTimeKeys are the spellings of a message's publish time, the one that
// counts first.
var publishTimeKeys = []string{"publishTime", "publish_time"}

func timeMember(object map[string]json.RawMessage, key string) (time.Time, bool) {
	text, err := strictjson.String(object[key])
	if err != nil {
		return time.Time{}, false
	}
	t, err := event.ParseTime(text)
	return t, err == nil
}

// payloadOf decodes a message's data. It is nil for data that is absent, empty or
// not base64.
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
