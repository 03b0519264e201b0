package event

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// A Decoder reads events by a schema. It may be used concurrently.
//
// encoding/json on a struct would accept invalid events: it matches keys in any case,
// reads a missing key or a null as a zero value, and replaces broken UTF-8. So a Decoder
// matches keys exactly, at every depth, and checks the type of each value.
type Decoder struct {
	schema    Schema
	selection *strictjson.Selection // of the fields' values, then of the objects around them
	objects   []string              // keys of the objects around fields, joined by points
	around    [][]int               // by field: the indexes in objects of those around it
	taken     map[string]bool       // keys of the outermost object that a field takes whole
	scratch   sync.Pool             // of *[]json.RawMessage
}

// NewDecoder returns a decoder of events of the schema.
func NewDecoder(s Schema) *Decoder {
	d := &Decoder{schema: s, around: make([][]int, len(s.Fields)), taken: map[string]bool{}}
	paths := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		paths[i] = f.Key()
		if len(f.Path) == 1 {
			d.taken[f.Path[0]] = true
		}
		for depth := 1; depth < len(f.Path); depth++ {
			d.around[i] = append(d.around[i], d.object(strings.Join(f.Path[:depth], ".")))
		}
	}
	d.selection = strictjson.Select(append(paths, d.objects...)...)
	d.scratch.New = func() any {
		values := make([]json.RawMessage, len(paths)+len(d.objects))
		return &values
	}
	return d
}

// object returns the index of a path in objects. A new path is added.
func (d *Decoder) object(path string) int {
	if i := slices.Index(d.objects, path); i >= 0 {
		return i
	}
	d.objects = append(d.objects, path)
	return len(d.objects) - 1
}

// Decode reads an event from a message's data. The event shares no memory with data.
// Every error is an *invalid.
func (d *Decoder) Decode(data []byte) (Event, error) {
	if len(data) == 0 {
		return Event{}, invalidf(Empty, "the message has no data")
	}
	if !utf8.Valid(data) {
		return Event{}, invalidf(BadUTF8, "data is not UTF-8: first bad byte at offset %d", firstBadByte(data))
	}
	scratch := d.scratch.Get().(*[]json.RawMessage)
	defer d.scratch.Put(scratch)
	defer clear(*scratch) // so that the pool keeps no data
	rest := restBuilder{data: data}
	var visit func(strictjson.Member)
	if d.schema.Rest != "" {
		visit = func(m strictjson.Member) {
			if !d.taken[string(rest.key(m))] {
				rest.members = append(rest.members, m)
			}
		}
	}
	err := d.selection.Read(data, *scratch, visit)
	if errors.Is(err, strictjson.ErrNotObject) {
		return Event{}, invalidf(NotAnObject, "data is not a JSON object: %w", err)
	}
	if err != nil {
		return Event{}, invalidf(BadJSON, "data is not one JSON object: %w", err)
	}
	values, err := d.values(*scratch)
	if err != nil {
		return Event{}, err
	}
	e := Event{Values: values}
	if d.schema.Rest != "" {
		e.Rest = rest.object()
	}
	return e, nil
}

// TimeIn returns the time of the field in an event's data, even if something else is wrong
// with the data. It returns false if there is no such time, or the field is no TIMESTAMP.
func (f Field) TimeIn(data []byte) (time.Time, bool) {
	if f.Type != Timestamp {
		return time.Time{}, false
	}
	found := make([]json.RawMessage, 1)
	if err := strictjson.Select(f.Key()).Read(data, found, nil); err != nil || found[0] == nil {
		return time.Time{}, false
	}
	return f.Time(found[0])
}

// Time returns the time that the JSON value of a TIMESTAMP field is. It returns false if the
// value is no time.
func (f Field) Time(raw json.RawMessage) (time.Time, bool) {
	value, err := f.value(raw, nil)
	if err != nil {
		return time.Time{}, false
	}
	return value.time(), true
}

// values decodes the values that were found. It looks for all keys before it checks any
// type, and it reports a wrong time last, so that the reason does not depend on the order
// of the fields.
func (d *Decoder) values(found []json.RawMessage) ([]Value, error) {
	raw, objects := found[:len(d.schema.Fields)], found[len(d.schema.Fields):]
	for i, f := range d.schema.Fields {
		if f.Required && raw[i] == nil && d.notObject(i, objects) < 0 {
			return nil, invalidf(MissingField, "required key %q is missing", f.Key())
		}
	}
	values := make([]Value, len(raw))
	var wrongTime error
	var texts strings.Builder // one piece of memory for all
	texts.Grow(d.textSize(raw))
	for i, f := range d.schema.Fields {
		if at := d.notObject(i, objects); at >= 0 {
			return nil, wrongType(d.objects[at], objects[at], "an object")
		}
		if raw[i] == nil || !f.Required && string(raw[i]) == "null" {
			continue
		}
		var err error
		values[i], err = f.value(raw[i], &texts)
		switch {
		case err == nil:
		case ReasonOf(err) == BadTime:
			wrongTime = cmp.Or(wrongTime, err)
		default:
			return nil, err
		}
	}
	if wrongTime != nil {
		return nil, wrongTime
	}
	return values, nil
}

// textSize returns the most bytes that the texts of all STRING fields can have.
func (d *Decoder) textSize(raw []json.RawMessage) int {
	size := 0
	for i, f := range d.schema.Fields {
		if f.Type == String && len(raw[i]) > 0 && raw[i][0] == '"' {
			size += len(raw[i]) - len(`""`)
		}
	}
	return size
}

// notObject returns the index of the outermost value around the field that exists and is
// not an object, or -1. Null counts as absent.
func (d *Decoder) notObject(field int, objects []json.RawMessage) int {
	for _, at := range d.around[field] {
		if value := objects[at]; value != nil && value[0] != '{' && string(value) != "null" {
			return at
		}
	}
	return -1
}

// value decodes one value that is present. Text is written to texts.
func (f Field) value(raw json.RawMessage, texts *strings.Builder) (Value, error) {
	switch f.Type {
	case Integer:
		n, ok := integer(raw)
		if !ok {
			return Value{}, f.wrongType(raw, "an integer of at most 64 bits, without point or exponent")
		}
		return integerValue(n), nil
	case Float:
		// ParseFloat accepts only the JSON values that are numbers and fit.
		x, err := strconv.ParseFloat(string(raw), 64)
		if err != nil {
			return Value{}, f.wrongType(raw, "a number")
		}
		return floatValue(x), nil
	case Boolean:
		if text := string(raw); text == "true" || text == "false" {
			return booleanValue(text == "true"), nil
		}
		return Value{}, f.wrongType(raw, "true or false")
	}
	if f.Type == Timestamp && f.Format != RFC3339 {
		return f.epochTime(raw)
	}
	var short [256]byte
	text, err := strictjson.Unquote(raw, short[:0])
	if err != nil {
		return Value{}, f.wrongType(raw, "a string")
	}
	if f.Type == Timestamp {
		t, err := ParseTime(string(text))
		if err != nil {
			return Value{}, invalidf(BadTime, "%s: %w", f.Key(), err)
		}
		return timeValue(t), nil
	}
	before := texts.Len()
	texts.Write(text)
	return textValue(texts.String()[before:]), nil
}

// epochTime reads an integer that counts from the Unix epoch.
func (f Field) epochTime(raw json.RawMessage) (Value, error) {
	n, ok := integer(raw)
	if !ok {
		return Value{}, f.wrongType(raw, "an integer, as format: "+string(f.Format)+" says")
	}
	t := time.Unix(n, 0)
	if f.Format == UnixMilli {
		t = time.UnixMilli(n)
	}
	// Beyond these seconds the calendar overflows, and the year cannot be computed.
	if n < math.MinInt64/2 || n > math.MaxInt64/2 {
		return Value{}, invalidf(BadTime, "%s: %d is not a time: years go from 1 to 9999 in UTC", f.Key(), n)
	}
	t, err := inRange(strconv.FormatInt(n, 10), t)
	if err != nil {
		return Value{}, invalidf(BadTime, "%s: %w", f.Key(), err)
	}
	return timeValue(t), nil
}

// integer reads a JSON number without point or exponent that fits in 64 bits.
func integer(raw json.RawMessage) (n int64, ok bool) {
	// ParseInt is wider than JSON only in a leading + and leading zeros, which the
	// JSON decoder has already refused.
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil
}

func (f Field) wrongType(raw json.RawMessage, want string) error {
	if !f.Required {
		want += ", null or nothing"
	}
	return wrongType(f.Key(), raw, want)
}

func wrongType(key string, raw json.RawMessage, want string) error {
	return invalidf(WrongType, "%s is %s, want %s", key, strictjson.Quote(string(raw)), want)
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
