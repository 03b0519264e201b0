package event

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// A restBuilder collects members of an object and writes them as a separate object.
type restBuilder struct {
	data    []byte // the text of the object
	members []strictjson.Member
}

// key returns the key of a member.
func (b *restBuilder) key(m strictjson.Member) []byte {
	key, _ := strictjson.Unquote(b.data[m.Key:m.KeyEnd], nil) // the decoder has already read the key
	return key
}

// object returns the members as one JSON object, in their order. If members have equal
// keys, the object has only the last of them.
func (b *restBuilder) object() string {
	last := b.lastOfEach()
	var text strings.Builder
	text.WriteByte('{')
	for i, m := range b.members {
		if last != nil && !last[i] {
			continue
		}
		if text.Len() > 1 {
			text.WriteByte(',')
		}
		text.Write(b.data[m.Key:m.End])
	}
	text.WriteByte('}')
	return wholePairs(text.String())
}

// lastOfEach reports which members are the last with their key. It returns nil if all
// are.
func (b *restBuilder) lastOfEach() []bool {
	order := make([]int, len(b.members))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return bytes.Compare(b.key(b.members[i]), b.key(b.members[j])) })
	var last []bool
	for n := 1; n < len(order); n++ {
		if !bytes.Equal(b.key(b.members[order[n-1]]), b.key(b.members[order[n]])) {
			continue
		}
		if last == nil {
			last = slices.Repeat([]bool{true}, len(order))
		}
		last[order[n-1]] = false
	}
	return last
}

// wholePairs returns JSON text in which U+FFFD replaces each escaped half of a surrogate
// pair whose other half is missing. Strings of fields have the same replacement.
// BigQuery's PARSE_JSON may refuse such a half.
func wholePairs(text string) string {
	if !strings.Contains(text, `\ud`) && !strings.Contains(text, `\uD`) {
		return text
	}
	var out strings.Builder
	for at := 0; at < len(text); {
		if text[at] != '\\' {
			out.WriteByte(text[at])
			at++
			continue
		}
		switch half := escaped(text, at); {
		case half >= 0xD800 && half < 0xDC00 && isLow(escaped(text, at+6)):
			out.WriteString(text[at : at+12])
			at += 12
		case half >= 0xD800 && half < 0xE000:
			out.WriteString(`\ufffd`)
			at += 6
		default: // another escape: its second byte may be a backslash
			out.WriteString(text[at : at+2])
			at += 2
		}
	}
	return out.String()
}

func isLow(half int64) bool { return half >= 0xDC00 && half < 0xE000 }

// escaped returns the number in an escape \uXXXX at the index, or -1 if there is none.
func escaped(text string, at int) int64 {
	if len(text) < at+6 || text[at] != '\\' || text[at+1] != 'u' {
		return -1
	}
	n, err := strconv.ParseInt(text[at+2:at+6], 16, 32)
	if err != nil {
		return -1
	}
	return n
}
