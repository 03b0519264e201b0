package event

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// Encode returns data that [Decoder.Decode] reads as e: a JSON object on one line, with
// its keys in order. A field without a value is left out.
//
// Encode returns an error only for an event that Decode never returns: an event with a
// FLOAT that is infinite or not a number, which JSON cannot write, or with a Rest that is
// not an object.
func (s Schema) Encode(e Event) ([]byte, error) {
	object := map[string]any{}
	if e.Rest != "" {
		rest, err := strictjson.Object([]byte(e.Rest))
		if err != nil {
			return nil, fmt.Errorf("encode event: the rest is %s: %w", strictjson.Quote(e.Rest), err)
		}
		for key, value := range rest {
			object[key] = value
		}
	}
	// If a field takes a part of an object, the rest holds the whole object.
	whole := slices.Collect(maps.Keys(object))
	for i, f := range s.Fields {
		if e.Values[i] == (Value{}) || slices.Contains(whole, f.Path[0]) {
			continue
		}
		within := object
		for _, key := range f.Path[:len(f.Path)-1] {
			inner, ok := within[key].(map[string]any)
			if !ok {
				inner = map[string]any{}
				within[key] = inner
			}
			within = inner
		}
		within[f.Path[len(f.Path)-1]] = f.encoded(e.Values[i].Any())
	}
	data, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return data, nil
}

// encoded returns a value as it is written in JSON.
func (f Field) encoded(value any) any {
	t, ok := value.(time.Time)
	switch {
	case !ok:
		return value
	case f.Format == UnixSecond:
		return t.Unix()
	case f.Format == UnixMilli:
		return t.UnixMilli()
	}
	return FormatTime(t)
}
