// Package memdocs is a document database in memory, which behaves exactly as
// [sharded.Documents] describes and never fails. Tests of the store run on it, and the
// simulation adds failures around it.
//
// Every call takes effect at one instant between its start and its end, on the whole
// database. Results that have an order have the same order each time.
package memdocs

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// A Database holds the documents of any number of pipelines. Goroutines may use it at the
// same time.
type Database struct {
	now func() time.Time

	mu         sync.Mutex
	lastCommit time.Time // of the shards
	pipelines  map[string]*pipeline
	claims     map[string]bool // the tables that belong to this pipeline
}

type pipeline struct {
	record *sharded.PipelineRecord // nil until it is created
	shards map[string]*document
}

// A document is the document of a shard. A batch in it may be replaced, but its bytes are
// never changed.
type document struct {
	window           time.Time
	pending          *time.Time
	count            int64
	batches          map[string][]byte
	expireAt         *time.Time
	created, updated time.Time
}

// New returns an empty database, whose server has the given clock. The clock may stand
// still or go backwards. Every commit that changes a shard gets an update time of its
// own, in microseconds, that is later than all update times before. The changes of a
// pipeline's record have their own such series of update times.
func New(now func() time.Time) *Database {
	return &Database{now: now, pipelines: map[string]*pipeline{}, claims: map[string]bool{}}
}

// Pipeline returns the documents of the named pipeline. Several processes may use them at
// the same time.
func (db *Database) Pipeline(name string) sharded.Documents {
	return &documents{db: db, name: name}
}

// Expire deletes the shards whose expire_at is at or before now, as Firestore's TTL does,
// and returns how many it deleted. It looks at no other field.
func (db *Database) Expire(now time.Time) int {
	db.mu.Lock()
	defer db.mu.Unlock()
	n := 0
	for _, p := range db.pipelines {
		maps.DeleteFunc(p.shards, func(_ string, d *document) bool {
			expired := d.expireAt != nil && !d.expireAt.After(now)
			if expired {
				n++
			}
			return expired
		})
	}
	if n > 0 {
		db.commitTime() // so that a document of the same name never gets an old version again
	}
	return n
}

// of returns the named pipeline. If the pipeline does not exist yet, of creates it without
// a record.
func (db *Database) of(name string) *pipeline {
	p := db.pipelines[name]
	if p == nil {
		p = &pipeline{shards: map[string]*document{}}
		db.pipelines[name] = p
	}
	return p
}

// commitTime returns a new commit time for a change of shards.
func (db *Database) commitTime() time.Time {
	db.lastCommit = after(db.now(), db.lastCommit)
	return db.lastCommit
}

// readTime returns the read time of a snapshot of shards.
func (db *Database) readTime() time.Time {
	return latest(micros(db.now()), db.lastCommit)
}

// after returns now, but at least a microsecond after last.
func after(now, last time.Time) time.Time {
	return latest(micros(now), last.Add(time.Microsecond))
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// micros returns t as the database stores it: in UTC and whole microseconds.
func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// documents gives access to one pipeline's part of a database.
type documents struct {
	db   *Database
	name string
}

// lock locks the database for one call. It returns an error if ctx has ended.
func (d *documents) lock(ctx context.Context) (*pipeline, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.db.mu.Lock()
	return d.db.of(d.name), nil
}

func (d *documents) unlock() { d.db.mu.Unlock() }

func (d *documents) Merge(ctx context.Context, writes []sharded.ShardWrite) error {
	p, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer d.unlock()
	at := d.db.commitTime()
	for _, w := range writes {
		doc := p.shards[w.Name]
		if doc == nil {
			doc = &document{created: at, batches: map[string][]byte{}}
			p.shards[w.Name] = doc
		}
		window := micros(w.Window)
		doc.window, doc.pending, doc.expireAt = window, &window, nil
		doc.count = max(doc.count, w.Count)
		doc.batches[w.Key] = bytes.Clone(w.Batch)
		doc.updated = at
	}
	return nil
}

func (d *documents) QueryPending(ctx context.Context, after sharded.Cursor, through time.Time, limit int) ([]sharded.ShardInfo, time.Time, error) {
	p, err := d.lock(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer d.unlock()
	var page []sharded.ShardInfo
	for name, doc := range p.shards {
		if doc.pending == nil || doc.pending.After(through) {
			continue
		}
		if cmp.Or(doc.pending.Compare(after.Window), cmp.Compare(name, after.Name)) <= 0 {
			continue
		}
		page = append(page, sharded.ShardInfo{Name: name, Window: doc.window, CreateTime: doc.created, UpdateTime: doc.updated})
	}
	slices.SortFunc(page, func(a, b sharded.ShardInfo) int {
		return cmp.Or(p.shards[a.Name].pending.Compare(*p.shards[b.Name].pending), cmp.Compare(a.Name, b.Name))
	})
	return page[:min(limit, len(page))], d.db.readTime(), nil
}

func (d *documents) QueryWindow(ctx context.Context, start time.Time) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		batches, err := d.snapshot(ctx, start)
		for _, batch := range batches {
			if err = ctx.Err(); err != nil {
				break
			}
			if !yield(bytes.Clone(batch), nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// snapshot returns the batches of a window's shards, ordered by shard name and batch key.
func (d *documents) snapshot(ctx context.Context, start time.Time) (batches [][]byte, err error) {
	p, err := d.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer d.unlock()
	var names []string
	for name, doc := range p.shards {
		if doc.window.Equal(start) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		doc := p.shards[name]
		for _, key := range slices.Sorted(maps.Keys(doc.batches)) {
			batches = append(batches, doc.batches[key])
		}
	}
	return batches, nil
}

func (d *documents) Settle(ctx context.Context, shards []sharded.ShardInfo, expireAt time.Time) []error {
	errs := make([]error, len(shards))
	for i, shard := range shards {
		errs[i] = d.settle(ctx, shard, micros(expireAt))
	}
	return errs
}

func (d *documents) settle(ctx context.Context, shard sharded.ShardInfo, expireAt time.Time) error {
	p, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer d.unlock()
	doc := p.shards[shard.Name]
	if doc == nil || !doc.updated.Equal(shard.UpdateTime) {
		return sharded.ErrPrecondition
	}
	doc.pending, doc.expireAt = nil, &expireAt
	doc.updated = d.db.commitTime()
	return nil
}

func (d *documents) Pipelines(ctx context.Context) (map[string]sharded.PipelineRecord, error) {
	if _, err := d.lock(ctx); err != nil {
		return nil, err
	}
	defer d.unlock()
	records := map[string]sharded.PipelineRecord{}
	for name, p := range d.db.pipelines {
		if p.record != nil {
			records[name] = *p.record
		}
	}
	return records, nil
}

func (d *documents) CreatePipeline(ctx context.Context, record sharded.PipelineRecord) error {
	p, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer d.unlock()
	if p.record != nil {
		return sharded.ErrExists
	}
	tables := []string{record.Meaning.RawTable, record.Meaning.AggTable}
	for _, table := range tables {
		if d.db.claims[table] {
			return sharded.ErrExists
		}
	}
	for _, table := range tables {
		d.db.claims[table] = true
	}
	record.UpdateTime = micros(d.db.now())
	p.record = &record
	return nil
}

func (d *documents) LowerLeastKept(ctx context.Context, keep time.Duration, updateTime time.Time) error {
	p, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer d.unlock()
	if p.record == nil || !p.record.UpdateTime.Equal(updateTime) {
		return sharded.ErrPrecondition
	}
	p.record.LeastKept = keep
	p.record.UpdateTime = after(d.db.now(), p.record.UpdateTime)
	return nil
}
