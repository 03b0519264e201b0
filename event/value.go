package event

import (
	"fmt"
	"math"
	"time"
)

// A Value is the value of a field. The zero Value is that of a field without a value.
//
// A Value needs no memory but its own and its text's. An interface would need a second
// piece of memory for each field of each event.
type Value struct {
	kind kind
	text string
	bits uint64 // of a number, a boolean, or a time in microseconds since the Unix epoch
}

type kind uint8

const (
	_ kind = iota
	textKind
	integerKind
	floatKind
	booleanKind
	timeKind
)

func textValue(s string) Value    { return Value{kind: textKind, text: s} }
func integerValue(n int64) Value  { return Value{kind: integerKind, bits: uint64(n)} }
func floatValue(x float64) Value  { return Value{kind: floatKind, bits: math.Float64bits(x)} }
func timeValue(t time.Time) Value { return Value{kind: timeKind, bits: uint64(t.UnixMicro())} }
func booleanValue(is bool) Value {
	v := Value{kind: booleanKind}
	if is {
		v.bits = 1
	}
	return v
}

// ValueOf returns the Value of a string, int64, float64, bool, [time.Time] or nil. It
// returns false for anything else.
func ValueOf(value any) (v Value, ok bool) {
	switch value := value.(type) {
	case nil:
		return Value{}, true
	case string:
		return textValue(value), true
	case int64:
		return integerValue(value), true
	case float64:
		return floatValue(value), true
	case bool:
		return booleanValue(value), true
	case time.Time:
		return timeValue(value), true
	}
	return Value{}, false
}

// Values returns the Values of arguments that [ValueOf] takes.
func Values(values ...any) []Value {
	all := make([]Value, len(values))
	for i, value := range values {
		var ok bool
		if all[i], ok = ValueOf(value); !ok {
			panic(fmt.Sprintf("a %T cannot be the value of a field", value))
		}
	}
	return all
}

// Any returns the value as a string, int64, float64, bool, [time.Time] in UTC and
// microseconds, or nil if the field has no value.
func (v Value) Any() any {
	switch v.kind {
	case textKind:
		return v.text
	case integerKind:
		return int64(v.bits)
	case floatKind:
		return math.Float64frombits(v.bits)
	case booleanKind:
		return v.bits != 0
	case timeKind:
		return v.time()
	}
	return nil
}

// time returns the value of a TIMESTAMP.
func (v Value) time() time.Time { return time.UnixMicro(int64(v.bits)).UTC() }

// Size returns the number of bytes of the text of a STRING. It is 0 for other values.
func (v Value) Size() int { return len(v.text) }

// Equal reports whether the two are the same value of the same type.
func (v Value) Equal(other Value) bool { return v == other }
