package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrNotObject is in the error for well-formed JSON that is not an object.
var ErrNotObject = errors.New("not an object")

// A Selection says which values of an object are wanted. Many goroutines may use it.
type Selection struct {
	size int // number of wanted values
	root place
}

// A place is what a key, or a chain of keys, leads to: a wanted value, an object with wanted
// values, or both.
type place struct {
	index  int               // of the value at this place, or -1 if it is not wanted
	inside []int             // indices of the wanted values inside the object at this place
	next   map[string]*place // by the object's keys
}

// Select returns the Selection of the values at the paths. No two paths may be equal. A path
// is a key, or the keys of nested objects with points between them, as in "message.data".
func Select(paths ...string) *Selection {
	s := &Selection{size: len(paths), root: place{index: -1}}
	for i, path := range paths {
		p := &s.root
		for key := range strings.SplitSeq(path, ".") {
			p.inside = append(p.inside, i)
			p = p.to(key)
		}
		p.index = i
	}
	return s
}

// to returns the place that key leads to. It creates the place if it is new.
func (p *place) to(key string) *place {
	if p.next == nil {
		p.next = map[string]*place{}
	}
	if p.next[key] == nil {
		p.next[key] = &place{index: -1}
	}
	return p.next[key]
}

// Read reads exactly one JSON object, with white space around it allowed. It
// sets values to the wanted values, undecoded and in the order of the paths. An
// absent value is nil, and so is every value inside a value that is absent or not an
// object. The values share the memory of data. If Read returns an error, the
// values mean nothing.
//
// Read calls visit, unless it is nil, for each member of the object in order,
// duplicates included.
func (s *Selection) Read(data []byte, values []json.RawMessage, visit func(Member)) error {
	clear(values[:s.size])
	return readObject(data, func(d *decoder, key jsontext.Token) error {
		if visit == nil {
			return s.root.readMember(d, key, values)
		}
		m := Member{Key: int(d.before) + bytes.IndexByte(data[d.before:], '"'), KeyEnd: int(d.text.InputOffset())}
		err := s.root.readMember(d, key, values)
		m.End = int(d.text.InputOffset())
		visit(m)
		return err
	})
}

// A Member says where a member of an object is in the object's text, by offsets: its
// key, quotation marks included, is at [Key:KeyEnd], and its value ends at End.
type Member struct{ Key, KeyEnd, End int }

// readMember reads the value of key in the object at p.
func (p *place) readMember(d *decoder, key jsontext.Token, values []json.RawMessage) error {
	at, wanted := p.next[key.String()]
	if !wanted {
		_, err := d.value()
		return err
	}
	for _, i := range at.inside { // forget the values of an earlier duplicate of key
		values[i] = nil
	}
	var value json.RawMessage
	var err error
	if at.next != nil && d.text.PeekKind() == '{' {
		value, err = d.object(func(d *decoder, key jsontext.Token) error { return at.readMember(d, key, values) })
	} else {
		value, err = d.value()
	}
	if at.index >= 0 {
		values[at.index] = value
	}
	return err
}

// Members reads exactly one JSON object, with white space around it allowed, and
// calls visit for each member in order, duplicates included, until an error occurs. The values are undecoded and share the memory of data.
func Members(data []byte, visit func(key string, value json.RawMessage)) error {
	return readObject(data, func(d *decoder, token jsontext.Token) error {
		key := token.String()
		value, err := d.value()
		if err == nil {
			visit(key, value)
		}
		return err
	})
}

// Object reads exactly one JSON object, with white space around it allowed, and
// returns all of its values undecoded. The values share the memory of data. The
// map of a large object takes many times the memory of its text.
func Object(data []byte) (map[string]json.RawMessage, error) {
	object := map[string]json.RawMessage{}
	if err := Members(data, func(key string, value json.RawMessage) { object[key] = value }); err != nil {
		return nil, err
	}
	return object, nil
}

// readObject reads data, which must be exactly one object. It calls member after each key.
func readObject(data []byte, member func(d *decoder, key jsontext.Token) error) error {
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	d.reset(data)
	defer d.reset(nil) // the pooled decoder must not keep data in memory
	kind := d.text.PeekKind()
	var err error
	if kind == '{' {
		_, err = d.object(member)
	} else {
		_, err = d.value()
	}
	if err == nil {
		err = d.end()
	}
	switch {
	case err != nil:
		return syntaxError(data, err)
	case kind != '{':
		return fmt.Errorf("it is a JSON %s: %w", typeNames[kind], ErrNotObject)
	}
	return nil
}

// typeNames are the names of JSON types in errors.
var typeNames = map[jsontext.Kind]string{'n': "null", 't': "bool", 'f': "bool", '"': "string", '0': "number", '[': "array"}

// syntaxError returns the error for data that cannot be read. It is the error of
// encoding/json, which is short even if the data is long. The decoder's own error contains
// the keys of all objects around the fault.
func syntaxError(data []byte, err error) error {
	var value json.RawMessage
	if described := json.Unmarshal(data, &value); described != nil {
		return described
	}
	return err
}

// A decoder reads the JSON text in data.
type decoder struct {
	text   jsontext.Decoder
	buffer bytes.Buffer // text reads from it, without copying its bytes
	data   []byte
	before int64 // offset of what comes before the last key that was read
}

// decoders are reused: creating one would cost half as much as reading with it.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

var options = []jsontext.Options{
	jsontext.AllowDuplicateNames(true),
	jsontext.AllowInvalidUTF8(true), // also allows halves of surrogate pairs
}

func (d *decoder) reset(data []byte) {
	d.data = data
	d.buffer = *bytes.NewBuffer(data)
	d.text.Reset(&d.buffer, options...)
}

// object reads an object, calls member after each key to read the value, and
// returns the object's text.
func (d *decoder) object(member func(d *decoder, key jsontext.Token) error) (json.RawMessage, error) {
	if _, err := d.text.ReadToken(); err != nil {
		return nil, err
	}
	start := d.text.InputOffset() - int64(len("{"))
	for d.text.PeekKind() != '}' {
		d.before = d.text.InputOffset()
		key, err := d.text.ReadToken()
		if err != nil {
			return nil, err
		}
		if err := member(d, key); err != nil {
			return nil, err
		}
	}
	if _, err := d.text.ReadToken(); err != nil {
		return nil, err
	}
	return d.data[start:d.text.InputOffset()], nil
}

// value reads one value of any kind and returns its text.
func (d *decoder) value() (json.RawMessage, error) {
	value, err := d.text.ReadValue()
	if err != nil {
		return nil, err
	}
	// The decoder's slice is valid only until its next call, so return one of data.
	end := d.text.InputOffset()
	return d.data[end-int64(len(value)) : end], nil
}

// end returns an error if anything except white space follows.
func (d *decoder) end() error {
	switch _, err := d.text.ReadToken(); err {
	case io.EOF:
		return nil
	case nil:
		return errors.New("a second value follows the first")
	default:
		return err
	}
}
