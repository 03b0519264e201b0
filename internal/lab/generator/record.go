package generator

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// A record is one page view.
type record struct {
	identity  identity
	timestamp string
	page      string
	numBytes  int
}

// encode returns the record in JSON. Its bytes are those that Python's default encoder writes
// in the lab: a space after each comma and colon, the keys in this order, and ASCII only.
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

// appendFloat appends x as Python writes a float of moderate size: the fewest digits that
// identify x, and always a point, as in 48.0.
func appendFloat(b []byte, x float64) []byte {
	digits := strconv.FormatFloat(x, 'f', -1, 64)
	b = append(b, digits...)
	if !strings.Contains(digits, ".") {
		b = append(b, ".0"...)
	}
	return b
}

// appendString appends s as Python writes a JSON string: everything except printable ASCII is
// escaped, and a character outside the basic plane becomes a surrogate pair.
func appendString(b []byte, s string) []byte {
	const special, letters = "\"\\\n\r\t\b\f", `"\nrtbf`
	b = append(b, '"')
	for _, r := range s {
		if at := strings.IndexRune(special, r); at >= 0 {
			b = append(b, '\\', letters[at])
		} else if ' ' <= r && r <= '~' {
			b = append(b, byte(r))
		} else {
			for _, unit := range utf16.AppendRune(nil, r) {
				b = fmt.Appendf(b, `\u%04x`, unit)
			}
		}
	}
	return append(b, '"')
}
