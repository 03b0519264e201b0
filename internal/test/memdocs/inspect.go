package memdocs

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// A Shard is a shard's document as it is, for checks. Times are UTC.
type Shard struct {
	Pipeline, Name         string
	Window                 time.Time
	Pending                *time.Time // nil where the field is not there
	Count                  int64
	Batches                map[string][]windowstore.Key
	ExpireAt               *time.Time // nil where the field is not there
	CreateTime, UpdateTime time.Time
}

// Keys returns the distinct keys of the shard's batches.
func (s Shard) Keys() map[windowstore.Key]bool {
	keys := map[windowstore.Key]bool{}
	for _, batch := range s.Batches {
		for _, key := range batch {
			keys[key] = true
		}
	}
	return keys
}

// Bytes is what Firestore would charge the fields of the document against its
// limit of 1 MiB, but for the document's name.
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

// Len returns how many shards there are, of all pipelines.
func (db *Database) Len() (n int) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, p := range db.pipelines {
		n += len(p.shards)
	}
	return n
}

// Shards returns every shard, by pipeline and name, from one snapshot. It returns
// an error for a batch that is not as package sharded documents it, which it
// reads with code of its own.
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

// Tamper changes the fields pending and expire_at of a shard's document past all
// rules, for a test that plants a mistake. It does nothing where the document is
// not there.
func (db *Database) Tamper(pipeline, name string, change func(pending, expireAt **time.Time)) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if d := db.of(pipeline).shards[name]; d != nil {
		change(&d.pending, &d.expireAt)
		d.updated = db.commitTime()
	}
}
