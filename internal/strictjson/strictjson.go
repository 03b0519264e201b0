// Package strictjson reads JSON from outside without the leniency of
// encoding/json on structs: keys match in their exact case, null is a value and
// not an absence, and nothing may follow the value. Of a duplicate key the last
// counts. Objects and arrays may be nested 10,000 deep.
//
// An object is read in one pass, and only the wanted values are kept, as slices
// of its text. So an object of a million unknown keys needs no memory of its own.
//
// The package does not refuse bad UTF-8: in keys and strings it becomes U+FFFD,
// as half a surrogate pair does.
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
	text, err := Unquote(raw)
	return string(text), err
}

// Unquote returns the text of a JSON string, which shares the memory of raw if
// nothing in it is escaped. Anything else, null included, is an error.
func Unquote(raw json.RawMessage) ([]byte, error) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return nil, errors.New("not a string")
	}
	if text := raw[1 : len(raw)-1]; bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
		return text, nil
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	if err != nil && !jsontext.Value(raw).IsValid(options...) { // else the error is of what became U+FFFD
		return nil, err
	}
	return text, nil
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
