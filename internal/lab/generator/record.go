package generator

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A record is one page view, with its values as they are on the wire.
type record struct {
	identity  identity
	timestamp string
	page      string
	numBytes  int
}

// encode returns the record as Python's default JSON encoder writes it in the
// lab, byte for byte: a space after each comma and colon, this order of keys,
// and ASCII only.
func (r record) encode() []byte {
	b := make([]byte, 0, 400)
	b = append(b, `{"ip": `...)
	b = appendString(b, r.identity.ip)
	b = append(b, `, "user_id": `...)
	b = appendString(b, r.identity.userID)
	b = append(b, `, "lat": `...)
	b = appendFloat(b, r.identity.lat)
	b = append(b, `, "lng": `...)
	b = appendFloat(b, r.identity.lng)
	b = append(b, `, "timestamp": `...)
	b = appendString(b, r.timestamp)
	b = append(b, `, "http_request": `...)
	b = appendString(b, `"GET `+r.page+` HTTP/1.0"`) // the quotes are part of the value
	b = append(b, `, "http_response": 200, "num_bytes": `...)
	b = strconv.AppendInt(b, int64(r.numBytes), 10)
	b = append(b, `, "user_agent": `...)
	b = appendString(b, r.identity.userAgent)
	return append(b, '}')
}

// appendFloat appends x as Python writes a float of moderate size: the shortest
// digits that read back as x, and always a point, as in 48.0.
func appendFloat(b []byte, x float64) []byte {
	digits := strconv.FormatFloat(x, 'f', -1, 64)
	b = append(b, digits...)
	if !strings.Contains(digits, ".") {
		b = append(b, ".0"...)
	}
	return b
}

// appendString appends s as a JSON string in Python's way: what is not printable
// ASCII is escaped, outside the basic plane as a surrogate pair.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == '\b':
			b = append(b, `\b`...)
		case r == '\f':
			b = append(b, `\f`...)
		case ' ' <= r && r <= '~':
			b = append(b, byte(r))
		default:
			b = appendEscaped(b, r)
		}
	}
	return append(b, '"')
}

func appendEscaped(b []byte, r rune) []byte {
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		return appendUnit(appendUnit(b, high), low)
	}
	return appendUnit(b, r)
}

// appendUnit appends \u and the four hexadecimal digits of a UTF-16 code unit.
func appendUnit(b []byte, unit rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[unit>>12&15], hex[unit>>8&15], hex[unit>>4&15], hex[unit&15])
}
