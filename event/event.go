// Package event says what a message is, what an event is, and which messages
// are events. It is pure: nothing in it reads a clock, a store or a setting
// that is not handed to it, so a message gets the same [Verdict] on every
// delivery, in every process.
package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// An Event is one access-log record, the data of a valid message. Types are
// checked, ranges are not: any string may be empty, and IP may be a host name.
type Event struct {
	IP           string
	UserID       string
	UserAgent    string
	Lat, Lng     *float64  // degrees; nil where the record has none
	Timestamp    time.Time // when the request happened by the payload: UTC, microseconds
	HTTPRequest  string
	HTTPResponse int64
	NumBytes     int64
}

// Reason is why a message is a dead letter. Reasons are stored and counted, so
// the set is closed and its texts never change.
type Reason string

// The reasons. All but Rejected are decided by [Classifier.Classify].
const (
	Empty             Reason = "empty"              // no data
	BadUTF8           Reason = "bad_utf8"           // data is not UTF-8
	BadJSON           Reason = "bad_json"           // data is not exactly one JSON value
	NotAnObject       Reason = "not_an_object"      // data is JSON, but not an object
	MissingField      Reason = "missing_field"      // a required key is absent
	WrongType         Reason = "wrong_type"         // a value has another JSON type, or a number does not fit
	BadTime           Reason = "bad_time"           // event time cannot be read
	TooFarAhead       Reason = "too_far_ahead"      // event time is further past publish time than the clock skew allows
	MissingAttribute  Reason = "missing_attribute"  // the attribute configured for event time or event id is absent
	AmbiguousMetadata Reason = "ambiguous_metadata" // the message came with two ids, publish times or subscriptions
	Rejected          Reason = "rejected"           // the warehouse refuses the row for its own value
	Panic             Reason = "panic"              // classification panicked
)

// invalid is an error with the reason it is a dead letter for.
type invalid struct {
	reason Reason
	err    error
}

func (e *invalid) Error() string { return e.err.Error() }
func (e *invalid) Unwrap() error { return e.err }

func invalidf(reason Reason, format string, args ...any) error {
	return &invalid{reason, fmt.Errorf(format, args...)}
}

// The keys of an event, by the index of their values.
const (
	keyIP = iota
	keyUserID
	keyTimestamp
	keyHTTPRequest
	keyHTTPResponse
	keyNumBytes
	keyUserAgent
	keyLat // this one and the next may be absent
	keyLng
)

var keys = [...]string{
	keyIP: "ip", keyUserID: "user_id", keyTimestamp: "timestamp", keyHTTPRequest: "http_request", keyHTTPResponse: "http_response",
	keyNumBytes: "num_bytes", keyUserAgent: "user_agent", keyLat: "lat", keyLng: "lng",
}

var selection = strictjson.Select(keys[:]...)

// parse reads an event from a message's data. Every error is an *invalid.
//
// encoding/json on a struct would let bad events through: it matches keys in
// any case, takes a missing key or a null for a zero value, and replaces broken
// UTF-8. So keys are matched exactly and each value is checked by hand.
func parse(data []byte) (Event, error) {
	if len(data) == 0 {
		return Event{}, invalidf(Empty, "the message has no data")
	}
	if !utf8.Valid(data) {
		return Event{}, invalidf(BadUTF8, "data is not UTF-8: first bad byte at offset %d", firstBadByte(data))
	}
	var values [len(keys)]json.RawMessage
	err := selection.Read(data, values[:])
	if errors.Is(err, strictjson.ErrNotObject) {
		return Event{}, invalidf(NotAnObject, "data is not a JSON object: %w", err)
	}
	if err != nil {
		return Event{}, invalidf(BadJSON, "data is not one JSON object: %w", err)
	}
	// All keys before any type, so that the reason does not depend on the order
	// in which the fields happen to be read.
	for key, value := range values[:keyLat] {
		if value == nil {
			return Event{}, invalidf(MissingField, "required key %q is missing", keys[key])
		}
	}
	f := fields{values: values[:]}
	e := Event{
		IP:           f.string(keyIP),
		UserID:       f.string(keyUserID),
		UserAgent:    f.string(keyUserAgent),
		Lat:          f.nullableFloat(keyLat),
		Lng:          f.nullableFloat(keyLng),
		HTTPRequest:  f.string(keyHTTPRequest),
		HTTPResponse: f.integer(keyHTTPResponse),
		NumBytes:     f.integer(keyNumBytes),
	}
	timestamp := f.string(keyTimestamp)
	if f.err != nil {
		return Event{}, f.err
	}
	if e.Timestamp, err = ParseTime(timestamp); err != nil {
		return Event{}, invalidf(BadTime, "timestamp: %w", err)
	}
	return e, nil
}

// fields decodes the values of an event and keeps the first error.
type fields struct {
	values []json.RawMessage // by key
	err    error
}

func (f *fields) wrongType(key int, want string) {
	if f.err == nil {
		f.err = invalidf(WrongType, "%s is %s, want %s", keys[key], strictjson.Quote(string(f.values[key])), want)
	}
}

func (f *fields) string(key int) string {
	s, err := strictjson.String(f.values[key])
	if err != nil {
		f.wrongType(key, "a string")
	}
	return s
}

// integer reads a JSON number without point or exponent that fits in 64 bits.
func (f *fields) integer(key int) int64 {
	// ParseInt is wider than JSON only in a leading + and leading zeros, which
	// the JSON decoder has already refused.
	n, err := strconv.ParseInt(string(f.values[key]), 10, 64)
	if err != nil {
		f.wrongType(key, "an integer of at most 64 bits, without point or exponent")
	}
	return n
}

func (f *fields) nullableFloat(key int) *float64 {
	raw := f.values[key]
	if raw == nil || string(raw) == "null" {
		return nil
	}
	// Of all JSON values ParseFloat takes numbers only, and only those that fit.
	x, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		f.wrongType(key, "a number, null or nothing")
		return nil
	}
	return &x
}

func firstBadByte(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(data)
}
