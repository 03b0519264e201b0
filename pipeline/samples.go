package pipeline

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/event"
)

// maxPaths is how many different paths are kept. Samples with more paths have objects
// whose keys are data, and such keys cannot be fields.
const maxPaths = 10_000

// samples collects what the sample events have at each path of keys.
type samples struct {
	events   int
	unusable int // samples that cannot be events: not exactly one JSON object in UTF-8
	paths    []*seen
	byPath   map[string]*seen // by the keys, joined by a zero byte
}

// seen is what the samples have at one path.
type seen struct {
	path    []string
	present int // events with a value there; null is not counted
	nulls   int

	texts, integers, numbers, booleans int // numbers with a point, an exponent, or more than 64 bits
	objects, lists, huge               int // huge: numbers that no FLOAT holds

	times           int // texts that event.ParseTime reads
	seconds, millis int // integers that are a time from 2000 to 2100
}

func (s *samples) add(data []byte) {
	if !utf8.Valid(data) || !json.Valid(data) || !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		s.unusable++
		return
	}
	s.events++
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	s.note(nil, readNode(decoder))
}

// A node is a JSON value. A number is a json.Number.
type node struct {
	value   any // nil, string, json.Number or bool, unless the node is an object or a list
	list    bool
	keys    []string // of an object, in order
	members map[string]node
}

// readNode reads one value of valid JSON. If a key is there twice, the last value counts,
// as in classification.
func readNode(decoder *json.Decoder) node {
	token, _ := decoder.Token()
	switch token {
	case json.Delim('['):
		for decoder.More() {
			readNode(decoder)
		}
		_, _ = decoder.Token()
		return node{list: true}
	case json.Delim('{'):
		n := node{members: map[string]node{}}
		for decoder.More() {
			key, _ := decoder.Token()
			name := key.(string)
			if _, again := n.members[name]; !again {
				n.keys = append(n.keys, name)
			}
			n.members[name] = readNode(decoder)
		}
		_, _ = decoder.Token()
		return n
	}
	return node{value: token}
}

func (s *samples) note(path []string, n node) {
	for _, key := range n.keys {
		// The siblings share the memory of the path, so the path is copied.
		s.noteMember(append(slices.Clone(path), key), n.members[key])
	}
}

func (s *samples) noteMember(path []string, n node) {
	at := s.at(path)
	if at == nil {
		return
	}
	if n.value == nil && !n.list && n.members == nil {
		at.nulls++
		return
	}
	at.present++
	switch value := n.value.(type) {
	case string:
		at.texts++
		if _, err := event.ParseTime(value); err == nil {
			at.times++
		}
	case json.Number:
		at.noteNumber(string(value))
	case bool:
		at.booleans++
	default:
		if n.list {
			at.lists++
			return
		}
		at.objects++
		s.note(path, n)
	}
}

// Times from 2000 to 2100 in seconds since the Unix epoch.
const firstSecond, lastSecond = 946_684_800, 4_102_444_800

func (at *seen) noteNumber(text string) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		if x, err := strconv.ParseFloat(text, 64); err != nil || math.IsInf(x, 0) {
			at.huge++
			return
		}
		at.numbers++
		return
	}
	at.integers++
	if n >= firstSecond && n < lastSecond {
		at.seconds++
	}
	if n >= firstSecond*1000 && n < lastSecond*1000 {
		at.millis++
	}
}

// at returns what was seen at the path. It returns nil if the path is new and too many
// paths are known already.
func (s *samples) at(path []string) *seen {
	key := strings.Join(path, "\x00")
	if at, ok := s.byPath[key]; ok {
		return at
	}
	if len(s.paths) >= maxPaths {
		return nil
	}
	at := &seen{path: path}
	if s.byPath == nil {
		s.byPath = map[string]*seen{}
	}
	s.byPath[key] = at
	s.paths = append(s.paths, at)
	return at
}

// inObjects reports whether each key above the path always leads to an object. Only then
// can the path be the "from" of a field.
func (s *samples) inObjects(path []string) bool {
	for i := 1; i < len(path); i++ {
		above := s.byPath[strings.Join(path[:i], "\x00")]
		if above == nil || above.objects != above.present {
			return false
		}
	}
	return true
}

// kinds returns the kinds of values that were seen, in words.
func (at *seen) kinds() string {
	words := map[string]int{
		"texts": at.texts, "numbers": at.integers + at.numbers, "booleans": at.booleans,
		"objects": at.objects, "lists": at.lists, "numbers too large": at.huge,
	}
	maps.DeleteFunc(words, func(_ string, n int) bool { return n == 0 })
	if len(words) == 0 {
		return "null only"
	}
	return strings.Join(slices.Sorted(maps.Keys(words)), " and ")
}
