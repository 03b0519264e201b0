package sharded

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemark-dev/tidemark/windowstore"
)

func TestBatchIsAVersionByteAndThenTheKeys(t *testing.T) {
	t.Parallel()
	keys := []windowstore.Key{{1, 15: 2}, {3, 15: 4}}
	batch := packBatch(keys)
	want := slices.Concat([]byte{1}, keys[0][:], keys[1][:])
	if !bytes.Equal(batch, want) {
		t.Errorf("packed: %x, want %x", batch, want)
	}
	var got []windowstore.Key
	if err := unpackBatch(batch, func(key windowstore.Key) { got = append(got, key) }); err != nil || !slices.Equal(got, keys) {
		t.Errorf("unpacked: %x, %v", got, err)
	}
}

func TestABatchThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	whole := packBatch(make([]windowstore.Key, 2))
	another := bytes.Clone(whole)
	another[0] = 2
	for name, batch := range map[string][]byte{
		"nothing":         {},
		"no keys":         whole[:1],
		"half a key":      whole[:25],
		"a byte too many": append(bytes.Clone(whole), 0),
		"another version": another,
	} {
		err := unpackBatch(batch, func(windowstore.Key) { t.Errorf("%s: a key was added", name) })
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestKeyBagCountsDistinctKeys(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for name, first := range map[string]func() byte{
		"spread evenly": func() byte { return byte(random.Uint32()) },
		"all alike":     func() byte { return 7 },
	} {
		var bag keyBag
		want := map[windowstore.Key]bool{}
		for range 50_000 {
			var key windowstore.Key
			binary.BigEndian.PutUint64(key[8:], random.Uint64N(30_000))
			key[0] = first()
			want[key] = true
			bag.add(key)
		}
		if got := bag.distinct(); got != int64(len(want)) || bag.len != 50_000 {
			t.Errorf("keys %s: %d of %d are distinct, want %d of 50000", name, got, bag.len, len(want))
		}
	}
}
