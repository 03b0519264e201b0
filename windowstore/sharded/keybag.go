package sharded

import (
	"slices"

	"github.com/tidemark-dev/tidemark/windowstore"
)

const (
	// defaultMaxKeys is how many ids Count reads at most: 320 MB of them.
	defaultMaxKeys = 20_000_000
	// largeKeys is how many ids each of several simultaneous counts may hold: 4 MiB.
	largeKeys = 1 << 18
	// chunkKeys is for how many keys memory is allocated at a time: 1 KiB.
	chunkKeys = 64
)

// A keyBag collects keys, including repeated keys, and tells how many of them are
// distinct. It never moves a key to gain room for others, since for a while this
// would take twice the memory. Instead it divides the keys by their first byte, which
// spreads hashes evenly, and keeps each part in chunks of a fixed size. To sort the
// keys, it copies only one part at a time.
type keyBag struct {
	len   int
	parts [256][][]windowstore.Key
}

func (b *keyBag) add(key windowstore.Key) {
	part := &b.parts[key[0]]
	last := len(*part) - 1
	if last < 0 || len((*part)[last]) == chunkKeys {
		*part = append(*part, make([]windowstore.Key, 0, chunkKeys))
		last++
	}
	(*part)[last] = append((*part)[last], key)
	b.len++
}

// distinct returns how many different keys were added.
func (b *keyBag) distinct() (n int64) {
	var keys []windowstore.Key
	for _, part := range b.parts {
		keys = keys[:0]
		for _, chunk := range part {
			keys = append(keys, chunk...)
		}
		slices.SortFunc(keys, windowstore.Key.Compare)
		n += int64(len(slices.Compact(keys)))
	}
	return n
}
