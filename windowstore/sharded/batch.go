package sharded

import (
	"errors"
	"fmt"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// batchVersion is the first byte of a packed batch. It says how to read the rest.
const batchVersion = 1

const keyLen = len(windowstore.Key{})

// packBatch returns the version byte and then the keys, one after the other.
func packBatch(keys []windowstore.Key) []byte {
	batch := make([]byte, 1, packedLen(len(keys)))
	batch[0] = batchVersion
	for i := range keys {
		batch = append(batch, keys[i][:]...)
	}
	return batch
}

func packedLen(keys int) int { return 1 + keys*keyLen }

// unpackBatch calls add with each key of the batch. If it cannot read the batch, it
// adds no key and returns an error: a flush that skipped the batch would publish a
// count that is too small.
func unpackBatch(batch []byte, add func(windowstore.Key)) error {
	if len(batch) == 0 {
		return errors.New("batch is empty, without even its version")
	}
	if batch[0] != batchVersion {
		return fmt.Errorf("batch is of version %d, which this program does not know", batch[0])
	}
	packed := batch[1:]
	if len(packed) == 0 || len(packed)%keyLen != 0 {
		return fmt.Errorf("batch has %d bytes of keys, want a multiple of %d", len(packed), keyLen)
	}
	for ; len(packed) > 0; packed = packed[keyLen:] {
		add(windowstore.Key(packed))
	}
	return nil
}
