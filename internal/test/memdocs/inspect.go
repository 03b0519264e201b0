package memdocs

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// A Shard is the document of a shard, for checks by tests. Times are UTC.
type Shard struct {
	Pipeline, Name         string
	Window                 time.Time
	Pending                *time.Time // nil if the document does not have the field
	Count                  int64
	Batches                map[string][]windowstore.Key
	ExpireAt               *time.Time // nil if the document does not have the field
	CreateTime, UpdateTime time.Time
}

// Keys returns the distinct keys in the shard's batches.
func (s Shard) Keys() map[windowstore.Key]bool {
	keys := map[windowstore.Key]bool{}
	for _, batch := range s.Batches {
		for _, key := range batch {
			keys[key] = true
		}
	}
	return keys
}

// Bytes returns the size of the document's fields, which Firestore limits to 1 MiB
// together with the document's name. The name is not included.
func (s Shard) Bytes() int {
	n := 32 + len("window") + 1 + 8 + len("count") + 1 + 8 + len("batches") + 1
	if s.Pending != nil {
		n += len("pending") + 1 + 8
	}
	if s.ExpireAt != nil {
		n += len("expire_at") + 1 + 8
	}
	for key, batch := range s.Batches {
		n += len(key) + 1 + 1 + len(batch)*len(windowstore.Key{})
	}
	return n
}

// Len returns the number of shards of all pipelines.
func (db *Database) Len() (n int) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, p := range db.pipelines {
		n += len(p.shards)
	}
	return n
}

// Shards returns all shards from one snapshot, ordered by pipeline and name. It reads the
// batches with code of its own, and returns an error if a batch does not have the format
// that package sharded documents.
func (db *Database) Shards() ([]Shard, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	var shards []Shard
	for _, pipeline := range slices.Sorted(maps.Keys(db.pipelines)) {
		documents := db.pipelines[pipeline].shards
		for _, name := range slices.Sorted(maps.Keys(documents)) {
			shard, err := inspect(documents[name])
			if err != nil {
				return nil, fmt.Errorf("pipeline %s, shard %s, %w", pipeline, name, err)
			}
			shard.Pipeline, shard.Name = pipeline, name
			shards = append(shards, shard)
		}
	}
	return shards, nil
}

func inspect(d *document) (Shard, error) {
	shard := Shard{
		Window: d.window, Pending: d.pending, Count: d.count, ExpireAt: d.expireAt,
		CreateTime: d.created, UpdateTime: d.updated,
		Batches: map[string][]windowstore.Key{},
	}
	for _, key := range slices.Sorted(maps.Keys(d.batches)) {
		batch := d.batches[key]
		if len(batch)%16 != 1 || batch[0] != 1 {
			return Shard{}, fmt.Errorf("batch %s: %d bytes, want a version byte of 1 and 16 for each key", key, len(batch))
		}
		var keys []windowstore.Key
		for packed := range slices.Chunk(batch[1:], 16) {
			keys = append(keys, windowstore.Key(packed))
		}
		shard.Batches[key] = keys
	}
	return shard, nil
}

// Tamper changes the fields pending and expire_at of a shard's document directly, for a
// test that plants a mistake. It does nothing if the document does not exist.
func (db *Database) Tamper(pipeline, name string, change func(pending, expireAt **time.Time)) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if d := db.of(pipeline).shards[name]; d != nil {
		change(&d.pending, &d.expireAt)
		d.updated = db.commitTime()
	}
}
