package generator

import (
	"bytes"
	"math/rand/v2"
)

// spoil makes the record data invalid, in one of several ways that are equally likely. The
// result may share data's memory.
func spoil(data []byte, random *rand.Rand) []byte {
	ways := faults()
	return ways[random.IntN(len(ways))].spoil(data, random)
}

// A fault is one way to make a record invalid.
type fault struct {
	name  string
	spoil func(data []byte, random *rand.Rand) []byte
}

// faults returns all faults. They find keys by their quotes: no value of a record looks like
// a key, because the quotes in values are escaped.
func faults() []fault {
	return []fault{
		{"cut", func(data []byte, random *rand.Rand) []byte { return data[:1+random.IntN(len(data)-1)] }},
		{"empty", func([]byte, *rand.Rand) []byte { return nil }},
		{"null", func([]byte, *rand.Rand) []byte { return []byte("null") }},
		{"array", func(data []byte, _ *rand.Rand) []byte { return bytes.Join([][]byte{{'['}, data, {']'}}, nil) }},
		{"no user_id", func(data []byte, _ *rand.Rand) []byte {
			from, to := bytes.Index(data, []byte(`"user_id": `)), bytes.Index(data, []byte(`"lat": `))
			return append(data[:from], data[to:]...)
		}},
		{"number as string", replaceFirst(`"http_response": 200`, `"http_response": "200"`)},
		{"fraction for integer", replaceFirst(`, "user_agent": `, `.0, "user_agent": `)}, // num_bytes is before it
		{"no such month", func(data []byte, _ *rand.Rand) []byte {
			year := bytes.Index(data, []byte(`"timestamp": "`)) + len(`"timestamp": "`)
			copy(data[year+len("2006-"):], "13")
			return data
		}},
		{"bad UTF-8", replaceFirst(`"user_agent": "`, "\"user_agent\": \"\xff")},
	}
}

func replaceFirst(from, to string) func([]byte, *rand.Rand) []byte {
	return func(data []byte, _ *rand.Rand) []byte { return bytes.Replace(data, []byte(from), []byte(to), 1) }
}
