// Package event decides what a message is, what an event is, and which messages are
// events. The package is pure: it reads no clock and no store, and only the settings that
// it is given. So a message gets the same [Verdict] on every delivery, in every process.
package event

import (
	"errors"
	"fmt"
)

// An Event is what a [Schema] reads from the data of a valid message. Types are checked,
// but ranges are not: any string may be empty.
type Event struct {
	// Values has the value of each field, in the order of the schema's fields.
	Values []Value
	// Rest is a JSON object with everything that no field took. It is empty if the schema
	// keeps no rest.
	Rest string
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
	BadTime           Reason = "bad_time"           // a time cannot be read
	TooFarAhead       Reason = "too_far_ahead"      // event time is further past publish time than the clock skew allows
	MissingAttribute  Reason = "missing_attribute"  // the attribute configured for event time or event id is absent
	MissingID         Reason = "missing_id"         // the field configured for the event id is an empty string
	AmbiguousMetadata Reason = "ambiguous_metadata" // the message came with two ids, publish times or subscriptions
	Rejected          Reason = "rejected"           // the warehouse refuses the row for its own value
	Panic             Reason = "panic"              // classification panicked
)

// invalid is an error with the reason for which the message is a dead letter.
type invalid struct {
	reason Reason
	err    error
}

func (e *invalid) Error() string { return e.err.Error() }
func (e *invalid) Unwrap() error { return e.err }

func invalidf(reason Reason, format string, args ...any) error {
	return &invalid{reason, fmt.Errorf(format, args...)}
}

// ReasonOf returns the reason in an error of [Decoder.Decode].
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*invalid](err); ok {
		return e.reason
	}
	return ""
}
