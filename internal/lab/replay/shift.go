package replay

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// offsetTo returns the whole seconds from latest to now, rounded down, so that no time moves
// past now. The unit is seconds, because a [time.Duration] is limited to 292 years.
func offsetTo(now, latest time.Time) int64 {
	offset := now.Unix() - latest.Unix()
	if latest.Nanosecond() > now.Nanosecond() {
		offset--
	}
	return offset
}

// A shift moves times by an offset.
type shift struct {
	field     event.Field // has the time of an event; the zero Field means that no field has it
	attribute string      // has a time too; empty means that no attribute has one
	offset    int64       // in seconds
}

// line returns line with all its times moved. All other bytes are unchanged.
func (s shift) line(line []byte) []byte {
	switch kind, _ := classify(line); kind {
	case pushBody:
		return replaceMember(line, "message", s.message)
	case bareEvent:
		return s.payload(line)
	}
	return line
}

func (s shift) message(message []byte) []byte {
	for _, key := range publishTimeKeys {
		message = replaceMember(message, key, func(value []byte) []byte { return shiftString(value, s.offset, shiftTime) })
	}
	message = replaceMember(message, "attributes", func(attributes []byte) []byte {
		return replaceMember(attributes, s.attribute, func(value []byte) []byte { return shiftString(value, s.offset, shiftAttribute) })
	})
	return replaceMember(message, "data", func(value []byte) []byte {
		data := payloadOf(value)
		shifted := s.payload(data)
		if bytes.Equal(data, shifted) {
			return value
		}
		return []byte(`"` + base64.StdEncoding.EncodeToString(shifted) + `"`)
	})
}

// payload moves the time of an event. It returns other data unchanged.
func (s shift) payload(data []byte) []byte {
	if s.field.Name == "" || !utf8.Valid(data) {
		return data
	}
	return replaceAt(data, s.field.Path, s.eventTime)
}

// eventTime moves the value of the field. It returns the value unchanged if the value, or the
// moved value, is no time.
func (s shift) eventTime(value []byte) []byte {
	unit := int64(1) // of the format, in a second
	switch s.field.Format {
	case event.UnixMilli:
		unit = 1000
	case event.UnixSecond:
	default:
		return shiftString(value, s.offset, shiftTime)
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if _, ok := s.field.Time(value); err != nil || !ok {
		return value
	}
	moved := strconv.AppendInt(nil, n+s.offset*unit, 10)
	if _, ok := s.field.Time(moved); !ok {
		return value
	}
	return moved
}

// replaceAt is replaceMember for the value that a path of keys leads to.
func replaceAt(object []byte, path []string, replace func(value []byte) []byte) []byte {
	return replaceMember(object, path[0], func(value []byte) []byte {
		if len(path) > 1 {
			return replaceAt(value, path[1:], replace)
		}
		return replace(value)
	})
}

// shiftString applies shift to the text of a JSON string. It returns other values, and texts
// that shift does not accept, unchanged.
func shiftString(value []byte, offset int64, shift func(string, int64) (string, bool)) []byte {
	text, err := strictjson.String(value)
	if err != nil {
		return value
	}
	shifted, ok := shift(text, offset)
	if !ok {
		return value
	}
	return []byte(strconv.Quote(shifted)) // the text is printable ASCII, which JSON quotes in the same way
}

// shiftTime moves a time in the format of events. It rewrites only the date and the time of
// day, so the separator, the fraction and the zone are unchanged. It does not accept a time
// that would move outside the years 1 to 9999.
func shiftTime(text string, offset int64) (string, bool) {
	if _, err := event.ParseTime(text); err != nil {
		return "", false
	}
	const seconds = len("2006-01-02T15:04:05")
	separator := text[10:11]
	layout := "2006-01-02" + separator + "15:04:05"
	// UTC is right for every zone, because the clock of every zone moves by the same offset.
	clock, err := time.Parse(layout, text[:seconds])
	if err != nil {
		return "", false
	}
	shifted := time.Unix(clock.Unix()+offset, 0).UTC().Format(layout) + text[seconds:]
	_, err = event.ParseTime(shifted)
	return shifted, err == nil
}

// shiftAttribute moves the time of an attribute. The time may also be a whole number of
// milliseconds since the Unix epoch.
func shiftAttribute(text string, offset int64) (string, bool) {
	millis, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return shiftTime(text, offset)
	}
	if year := time.UnixMilli(millis).UTC().Year(); year < 1 || year > 9999 {
		return "", false // not a valid time, and the sum below might overflow
	}
	return strconv.FormatInt(millis+1000*offset, 10), true
}

// replaceMember returns object with every value of key replaced by the result of replace. All
// other bytes are unchanged. If object is not exactly one JSON object, replaceMember returns
// it unchanged.
func replaceMember(object []byte, key string, replace func(value []byte) []byte) []byte {
	members, err := strictjson.Object(object)
	if err != nil {
		return object
	}
	if _, ok := members[key]; !ok {
		return object
	}
	var edited bytes.Buffer
	copied := 0 // bytes of object that are in edited, changed or not
	for value := range valuesOf(object, key) {
		edited.Write(object[copied:value.start])
		edited.Write(replace(object[value.start:value.end]))
		copied = value.end
	}
	edited.Write(object[copied:])
	return edited.Bytes()
}

// A span is the position of a value in the bytes of its object.
type span struct{ start, end int }

// valuesOf yields the position of each value of key in a well-formed JSON object. Of several
// values the last counts for Tidemark, but other readers may take another one. So valuesOf
// yields all of them.
func valuesOf(object []byte, key string) func(yield func(span) bool) {
	return func(yield func(span) bool) {
		decoder := json.NewDecoder(bytes.NewReader(object))
		next := func() json.Token {
			token, err := decoder.Token()
			if err != nil {
				panic(fmt.Sprintf("read member of a well-formed object: %v", err))
			}
			return token
		}
		next() // {
		for decoder.More() {
			name := next()
			var value json.RawMessage
			if err := decoder.Decode(&value); err != nil {
				panic(fmt.Sprintf("read value of member %v of a well-formed object: %v", name, err))
			}
			end := int(decoder.InputOffset())
			if name == key && !yield(span{end - len(value), end}) {
				return
			}
		}
	}
}
