// Package strictjson reads JSON from outside without the leniency of
// encoding/json on structs: keys match in their exact case, null is a value and
// not an absence, and nothing may follow the value. Of a duplicate key the last
// counts.
package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// ErrNotObject is wrapped by the error of [Object] for well-formed JSON that is
// something other than an object.
var ErrNotObject = errors.New("not an object")

// Object reads exactly one JSON object, with white space around it allowed, and
// returns its values undecoded. It does not check UTF-8.
func Object(data []byte) (map[string]json.RawMessage, error) {
	var object map[string]json.RawMessage
	err := json.Unmarshal(data, &object)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		return nil, fmt.Errorf("it is a JSON %s: %w", wrongType.Value, ErrNotObject)
	case err != nil:
		return nil, err
	case object == nil:
		return nil, fmt.Errorf("it is a JSON null: %w", ErrNotObject)
	}
	return object, nil
}

// String decodes a JSON string. Anything else, null included, is an error.
func String(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", errors.New("not a string")
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// Quote makes outside text fit for an error message: quoted, and cut where it is
// longer than any address of a service account or URL of a service.
func Quote(text string) string {
	const most = 128
	if len(text) > most {
		return strconv.Quote(text[:most]) + "..."
	}
	return strconv.Quote(text)
}
