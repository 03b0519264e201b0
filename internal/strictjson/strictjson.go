// Package strictjson reads JSON from outside. It is stricter than encoding/json with
// structs: keys match in their exact case, null is a value and not an absence, and nothing
// may follow the value. Of a duplicate key the last counts. Objects and arrays may be nested
// 10,000 deep.
//
// An object is read in one pass. Only the wanted values are kept, as slices of the object's
// text. So an object with a million unknown keys needs no additional memory.
//
// The package accepts invalid UTF-8: in keys and strings it becomes U+FFFD, as does half a
// surrogate pair.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// String decodes a JSON string. Anything else, null included, is an error.
func String(raw json.RawMessage) (string, error) {
	var short [64]byte
	text, err := Unquote(raw, short[:0])
	return string(text), err
}

// Unquote returns the text of a JSON string. The text shares the memory of raw if nothing in
// it is escaped. Otherwise the text is in the buffer's memory, if there is room after the
// buffer's end. Anything else, null included, is an error.
func Unquote(raw json.RawMessage, buffer []byte) ([]byte, error) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return nil, errors.New("not a string")
	}
	if text := raw[1 : len(raw)-1]; bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
		return text, nil
	}
	text, err := jsontext.AppendUnquote(buffer[len(buffer):], raw)
	if err != nil && !jsontext.Value(raw).IsValid(options...) { // if raw is valid, the error is about text that became U+FFFD
		return nil, err
	}
	return text, nil
}

// Quote quotes text from outside for an error message. It cuts text that is longer than any
// address of a service account or URL of a service.
func Quote(text string) string {
	const most = 128
	if len(text) > most {
		return strconv.Quote(text[:most]) + "..."
	}
	return strconv.Quote(text)
}
