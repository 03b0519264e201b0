package simulation

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/internal/test/memdocs"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// A Bug is a mistake that a test plants in the product, to see that a simulation catches
// it.
type Bug struct {
	Name  string
	Plant func(*hooks)
}

// hooks are the places where a bug can be planted. Each function wraps or replaces a part
// of a process. A hook that is not set changes nothing.
type hooks struct {
	documents func(sharded.Documents) sharded.Documents
	writer    string // the name under which every process writes
	store     func(next windowstore.Store, documents sharded.Documents) windowstore.Store
	warehouse func(next warehouse.Warehouse, counters windowstore.Store, idKind string) warehouse.Warehouse
	classify  func(p *process, r event.Rules, m event.Message) event.Verdict
	submitter func(next ingest.Submitter) ingest.Submitter
	flush     func(*flush.Config)

	viewTakesLast bool
	rawCounts     func(late []bool) int64 // see tables.counts
}

// Bugs are the mistakes that a simulation must catch.
var Bugs = []Bug{
	{"acknowledge before it is durable", func(h *hooks) {
		h.submitter = func(next ingest.Submitter) ingest.Submitter {
			return submitterFunc(func(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
				go func() { _, _ = next.Submit(context.WithoutCancel(ctx), m, v) }()
				return v, nil
			})
		}
	}},
	{"acknowledge what raw did not store", func(h *hooks) {
		h.warehouse = func(next warehouse.Warehouse, _ windowstore.Store, _ string) warehouse.Warehouse {
			return &brokenWarehouse{Warehouse: next, appendRaw: func(ctx context.Context, rows []warehouse.RawRow) error {
				err := next.AppendRaw(ctx, rows)
				if errors.Is(err, errUnavailable) {
					return nil
				}
				return err
			}}
		}
	}},
	{"acknowledge what was not counted", func(h *hooks) {
		h.store = func(next windowstore.Store, documents sharded.Documents) windowstore.Store {
			return &brokenStore{Store: next, add: func(ctx context.Context, increments []windowstore.Increment) error {
				_ = next.Add(ctx, increments)
				return nil
			}}
		}
	}},
	{"acknowledge if the last of several commits succeeds", func(h *hooks) {
		h.store = func(next windowstore.Store, documents sharded.Documents) windowstore.Store {
			return &brokenStore{Store: next, add: func(ctx context.Context, increments []windowstore.Increment) (err error) {
				for _, increment := range increments {
					err = next.Add(ctx, []windowstore.Increment{increment})
				}
				return err
			}}
		}
	}},
	{"acknowledge dead letters without storing them", func(h *hooks) {
		h.warehouse = func(next warehouse.Warehouse, _ windowstore.Store, _ string) warehouse.Warehouse {
			return &brokenWarehouse{Warehouse: next, appendDeadLetters: func(context.Context, []warehouse.DeadLetter) error { return nil }}
		}
	}},
	{"dead-letter everything that the table refuses", func(h *hooks) {
		h.warehouse = func(next warehouse.Warehouse, _ windowstore.Store, _ string) warehouse.Warehouse {
			return &brokenWarehouse{Warehouse: next, appendRaw: func(ctx context.Context, rows []warehouse.RawRow) error {
				err := next.AppendRaw(ctx, rows)
				var table *warehouse.TableError
				if errors.As(err, &table) && len(rows) > 1 {
					return &warehouse.RefusedError{Rows: map[int]error{0: err}}
				}
				if errors.As(err, &table) {
					return nil
				}
				return err
			}}
		}
	}},
	{"give up a row that was refused once", func(h *hooks) {
		h.warehouse = func(next warehouse.Warehouse, _ windowstore.Store, _ string) warehouse.Warehouse {
			return &brokenWarehouse{Warehouse: next, appendRaw: func(ctx context.Context, rows []warehouse.RawRow) error {
				err := next.AppendRaw(ctx, rows)
				if refused, ok := errors.AsType[*warehouse.RefusedError](err); ok {
					refused.Certain = true
				}
				return err
			}}
		}
	}},
	{"count before raw", func(h *hooks) {
		h.warehouse = func(next warehouse.Warehouse, counters windowstore.Store, idKind string) warehouse.Warehouse {
			return &brokenWarehouse{Warehouse: next, appendRaw: func(ctx context.Context, rows []warehouse.RawRow) error {
				for _, row := range rows {
					if !row.Late {
						key := windowstore.KeyOf(idKind, row.EventID)
						if err := counters.Add(ctx, []windowstore.Increment{{Window: row.WindowStart, Keys: []windowstore.Key{key}}}); err != nil {
							return err
						}
					}
				}
				return next.AppendRaw(ctx, rows)
			}}
		}
	}},
	{"count late events", func(h *hooks) {
		h.classify = func(_ *process, r event.Rules, m event.Message) event.Verdict {
			v := event.NewClassifier(r).Classify(m)
			if v.Status == event.Late {
				v.Status = event.Counted
			}
			return v
		}
	}},
	{"late by the process's clock", func(h *hooks) {
		h.classify = func(p *process, r event.Rules, m event.Message) event.Verdict {
			m.PublishTime = p.now()
			return event.NewClassifier(r).Classify(m)
		}
	}},
	{"late as the first delivery of the message was", func(h *hooks) {
		var mu sync.Mutex
		first := map[string]event.Status{}
		h.classify = func(_ *process, r event.Rules, m event.Message) event.Verdict {
			v := event.NewClassifier(r).Classify(m)
			mu.Lock()
			defer mu.Unlock()
			if status, ok := first[m.ID]; ok && status != event.DeadLetter && v.Status != event.DeadLetter {
				v.Status = status
			}
			first[m.ID] = v.Status
			return v
		}
	}},
	{"an allowed lateness that cannot be changed", func(h *hooks) {
		var once sync.Once
		var first time.Duration
		h.classify = func(_ *process, r event.Rules, m event.Message) event.Verdict {
			once.Do(func() { first = r.Windows.AllowedLateness })
			r.Windows.AllowedLateness = first
			return event.NewClassifier(r).Classify(m)
		}
	}},
	{"windows of a minute, however long they are to be", func(h *hooks) {
		h.classify = func(_ *process, r event.Rules, m event.Message) event.Verdict {
			r.Windows.Duration = time.Minute
			return event.NewClassifier(r).Classify(m)
		}
	}},
	{"window by publish time", func(h *hooks) {
		h.classify = func(_ *process, r event.Rules, m event.Message) event.Verdict {
			v := event.NewClassifier(r).Classify(m)
			if v.Status == event.Counted {
				v.Window = r.Windows.Start(m.PublishTime)
			}
			return v
		}
	}},
	{"bare increment", func(h *hooks) {
		h.store = func(next windowstore.Store, documents sharded.Documents) windowstore.Store {
			// This count is wrong: it counts how many times ids were added, as a number
			// that each Add increments would.
			return &brokenStore{Store: next, count: func(ctx context.Context, start time.Time) (int64, error) {
				return sumOfBatches(ctx, documents, start)
			}}
		}
	}},
	{"a batch key that repeats", func(h *hooks) {
		h.documents = func(next sharded.Documents) sharded.Documents {
			return &brokenDocuments{Documents: next, merge: func(ctx context.Context, writes []sharded.ShardWrite) error {
				for i := range writes {
					writes[i].Key = "0"
				}
				return next.Merge(ctx, writes)
			}}
		}
	}},
	{"a new writer with an old name", func(h *hooks) { h.writer = "writer" }},
	{"settle without precondition", func(h *hooks) {
		h.documents = func(next sharded.Documents) sharded.Documents {
			return &brokenDocuments{Documents: next, settle: func(ctx context.Context, shards []sharded.ShardInfo, expireAt time.Time) []error {
				errs := next.Settle(ctx, shards, expireAt)
				for i, err := range errs {
					if errors.Is(err, sharded.ErrPrecondition) {
						tamper(next, shards[i].Name, nil, &expireAt)
						errs[i] = nil
					}
				}
				return errs
			}}
		}
	}},
	{"settle before publish", func(h *hooks) {
		h.store = func(next windowstore.Store, documents sharded.Documents) windowstore.Store {
			return &brokenStore{Store: next, pending: func(ctx context.Context, from, through time.Time) iter.Seq2[windowstore.PendingWindow, error] {
				return func(yield func(windowstore.PendingWindow, error) bool) {
					for w, err := range next.Pending(ctx, from, through) {
						if err == nil {
							_ = next.Settle(ctx, w.Shards, time.Now().Add(192*time.Hour))
						}
						if !yield(w, err) {
							return
						}
					}
				}
			}}
		}
	}},
	{"settle although publishing failed", func(h *hooks) {
		h.warehouse = func(next warehouse.Warehouse, _ windowstore.Store, _ string) warehouse.Warehouse {
			return &brokenWarehouse{Warehouse: next, appendCounts: func(ctx context.Context, rows []warehouse.WindowCount) error {
				_ = next.AppendCounts(ctx, rows)
				return nil
			}}
		}
	}},
	{"settle before due", func(h *hooks) {
		h.flush = func(c *flush.Config) { c.Windows.AllowedLateness, c.Quiet = 0, 0 }
	}},
	{"settle what was written since the read", func(h *hooks) {
		h.store = func(next windowstore.Store, documents sharded.Documents) windowstore.Store {
			return &brokenStore{Store: next, settle: func(ctx context.Context, shards []windowstore.Shard, expireAt time.Time) error {
				for w, err := range next.Pending(ctx, time.Time{}, time.Now()) { // reads the versions again, too late
					if err == nil && len(shards) > 0 && w.Start.Equal(shards[0].Window) {
						shards = w.Shards
					}
				}
				return next.Settle(ctx, shards, expireAt)
			}}
		}
	}},
	{"expiry before settle", func(h *hooks) {
		h.documents = func(next sharded.Documents) sharded.Documents {
			return &brokenDocuments{Documents: next, merge: func(ctx context.Context, writes []sharded.ShardWrite) error {
				err := next.Merge(ctx, writes)
				for _, write := range writes {
					soon := time.Now().Add(10 * time.Minute)
					tamper(next, write.Name, &write.Window, &soon)
				}
				return err
			}}
		}
	}},
	{"a write that does not mark a settled shard as pending", func(h *hooks) {
		h.documents = func(next sharded.Documents) sharded.Documents {
			return &brokenDocuments{Documents: next, merge: func(ctx context.Context, writes []sharded.ShardWrite) error {
				settled := map[string]bool{}
				for _, shard := range shardsOf(next) {
					settled[shard.Name] = shard.Pending == nil
				}
				err := next.Merge(ctx, writes)
				for _, write := range writes {
					if settled[write.Name] {
						later := time.Now().Add(192 * time.Hour)
						tamper(next, write.Name, nil, &later)
					}
				}
				return err
			}}
		}
	}},
	{"count before the versions are read", func(h *hooks) {
		h.store = func(next windowstore.Store, documents sharded.Documents) windowstore.Store {
			var counts sync.Map // of int64 by time.Time; several windows are counted at the same time
			return &brokenStore{Store: next,
				pending: func(ctx context.Context, from, through time.Time) iter.Seq2[windowstore.PendingWindow, error] {
					return func(yield func(windowstore.PendingWindow, error) bool) {
						for w, err := range next.Pending(ctx, from, through) { // reads the windows before the flush does
							if err == nil {
								n, _ := next.Count(ctx, w.Start)
								counts.Store(w.Start, n)
							}
						}
						next.Pending(ctx, from, through)(yield)
					}
				},
				count: func(ctx context.Context, start time.Time) (int64, error) {
					if n, ok := counts.Load(start); ok && n.(int64) > 0 {
						return n.(int64), nil
					}
					return next.Count(ctx, start)
				},
			}
		}
	}},
	{"count the pending shards only", func(h *hooks) {
		h.documents = func(next sharded.Documents) sharded.Documents {
			return &brokenDocuments{Documents: next, queryWindow: func(ctx context.Context, start time.Time) iter.Seq2[[]byte, error] {
				return func(yield func([]byte, error) bool) {
					for _, shard := range shardsOf(next) {
						if shard.Pending == nil || !shard.Window.Equal(start) {
							continue
						}
						for key := range shard.Keys() {
							if !yield(append([]byte{1}, key[:]...), nil) {
								return
							}
						}
					}
				}
			}}
		}
	}},
	{"a shard at the top of a page that is taken for one of the window before", func(h *hooks) {
		h.documents = func(next sharded.Documents) sharded.Documents {
			return &brokenDocuments{Documents: next, queryPending: func(ctx context.Context, after sharded.Cursor, through time.Time, limit int) ([]sharded.ShardInfo, time.Time, error) {
				page, readTime, err := next.QueryPending(ctx, after, through, limit)
				if len(page) > 1 && after.Name != "" { // the next page begins after the last shard of this page, which must stay right
					page[0].Window = after.Window
				}
				return page, readTime, err
			}}
		}
	}},
	{"only the first page of pending shards is read", func(h *hooks) {
		h.documents = func(next sharded.Documents) sharded.Documents {
			return &brokenDocuments{Documents: next, queryPending: func(ctx context.Context, after sharded.Cursor, through time.Time, limit int) ([]sharded.ShardInfo, time.Time, error) {
				page, readTime, err := next.QueryPending(ctx, after, through, limit)
				if after.Name != "" {
					page = nil
				}
				return page, readTime, err
			}}
		}
	}},
	{"a view that takes the last count", func(h *hooks) { h.viewTakesLast = true }},
	{"trust counters that may have expired", func(h *hooks) {
		h.store = func(next windowstore.Store, documents sharded.Documents) windowstore.Store {
			return &brokenStore{Store: next, keepAtLeast: func(context.Context, time.Duration) (time.Duration, error) {
				return math.MaxInt64 / 4, nil
			}}
		}
	}},
	{"a raw count with late events", func(h *hooks) {
		h.rawCounts = func([]bool) int64 { return 1 }
	}},
	{"a raw count of rows, not of ids", func(h *hooks) {
		h.rawCounts = func(late []bool) (n int64) {
			for _, l := range late {
				n += onceIfOnTime([]bool{l})
			}
			return n
		}
	}},
	{"a raw count in which the first delivery decides", func(h *hooks) {
		h.rawCounts = func(late []bool) int64 { return onceIfOnTime(late[:1]) }
	}},
	{"a raw count in which the last delivery decides", func(h *hooks) {
		h.rawCounts = func(late []bool) int64 { return onceIfOnTime(late[len(late)-1:]) }
	}},
	{"a raw count without events that were ever late", func(h *hooks) {
		h.rawCounts = func(late []bool) int64 {
			if slices.Contains(late, true) {
				return 0
			}
			return 1
		}
	}},
	{"an event id that differs between deliveries", func(h *hooks) {
		h.classify = func(p *process, r event.Rules, m event.Message) event.Verdict {
			v := event.NewClassifier(r).Classify(m)
			v.EventID += p.name
			return v
		}
	}},
	{"keys so short that they collide", func(h *hooks) {
		h.store = func(next windowstore.Store, documents sharded.Documents) windowstore.Store {
			return &brokenStore{Store: next, add: func(ctx context.Context, increments []windowstore.Increment) error {
				for _, increment := range increments {
					for i := range increment.Keys {
						clear(increment.Keys[i][1:])
					}
				}
				return next.Add(ctx, increments)
			}}
		}
	}},
}

// shardsOf returns the shards in the documents of a process.
func shardsOf(documents sharded.Documents) []memdocs.Shard {
	shards, err := documents.(faultyDocuments).w.database.Shards()
	if err != nil {
		panic(err)
	}
	return shards
}

// tamper sets the fields pending and expire_at of a document, or removes those that are
// nil.
func tamper(documents sharded.Documents, name string, pending, expireAt *time.Time) {
	documents.(faultyDocuments).w.database.Tamper(pipeline, name, func(p, e **time.Time) { *p, *e = pending, expireAt })
}

// sumOfBatches returns the number of ids in the batches of a window. An id that was
// written twice is counted twice.
func sumOfBatches(ctx context.Context, documents sharded.Documents, start time.Time) (n int64, err error) {
	for batch, err := range documents.QueryWindow(ctx, start) {
		if err != nil {
			return 0, err
		}
		n += int64(len(batch) / 16)
	}
	return n, nil
}

type submitterFunc func(context.Context, event.Message, event.Verdict) (event.Verdict, error)

func (f submitterFunc) Submit(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
	return f(ctx, m, v)
}

// brokenWarehouse is a warehouse in which some methods are replaced: those whose field is
// set.
type brokenWarehouse struct {
	warehouse.Warehouse
	appendRaw         func(context.Context, []warehouse.RawRow) error
	appendDeadLetters func(context.Context, []warehouse.DeadLetter) error
	appendCounts      func(context.Context, []warehouse.WindowCount) error
}

func (b *brokenWarehouse) AppendRaw(ctx context.Context, rows []warehouse.RawRow) error {
	if b.appendRaw != nil {
		return b.appendRaw(ctx, rows)
	}
	return b.Warehouse.AppendRaw(ctx, rows)
}

func (b *brokenWarehouse) AppendDeadLetters(ctx context.Context, letters []warehouse.DeadLetter) error {
	if b.appendDeadLetters != nil {
		return b.appendDeadLetters(ctx, letters)
	}
	return b.Warehouse.AppendDeadLetters(ctx, letters)
}

func (b *brokenWarehouse) AppendCounts(ctx context.Context, rows []warehouse.WindowCount) error {
	if b.appendCounts != nil {
		return b.appendCounts(ctx, rows)
	}
	return b.Warehouse.AppendCounts(ctx, rows)
}

// brokenStore is a store in which some methods are replaced: those whose field is set.
type brokenStore struct {
	windowstore.Store
	add         func(context.Context, []windowstore.Increment) error
	pending     func(context.Context, time.Time, time.Time) iter.Seq2[windowstore.PendingWindow, error]
	count       func(context.Context, time.Time) (int64, error)
	keepAtLeast func(context.Context, time.Duration) (time.Duration, error)
	settle      func(context.Context, []windowstore.Shard, time.Time) error
}

func (b *brokenStore) Add(ctx context.Context, increments []windowstore.Increment) error {
	if b.add != nil {
		return b.add(ctx, increments)
	}
	return b.Store.Add(ctx, increments)
}

func (b *brokenStore) Pending(ctx context.Context, from, through time.Time) iter.Seq2[windowstore.PendingWindow, error] {
	if b.pending != nil {
		return b.pending(ctx, from, through)
	}
	return b.Store.Pending(ctx, from, through)
}

func (b *brokenStore) Count(ctx context.Context, start time.Time) (int64, error) {
	if b.count != nil {
		return b.count(ctx, start)
	}
	return b.Store.Count(ctx, start)
}

func (b *brokenStore) KeepAtLeast(ctx context.Context, keep time.Duration) (time.Duration, error) {
	if b.keepAtLeast != nil {
		return b.keepAtLeast(ctx, keep)
	}
	return b.Store.KeepAtLeast(ctx, keep)
}

func (b *brokenStore) Settle(ctx context.Context, shards []windowstore.Shard, expireAt time.Time) error {
	if b.settle != nil {
		return b.settle(ctx, shards, expireAt)
	}
	return b.Store.Settle(ctx, shards, expireAt)
}

// brokenDocuments are documents in which some methods are replaced: those whose field is
// set.
type brokenDocuments struct {
	sharded.Documents
	merge        func(context.Context, []sharded.ShardWrite) error
	queryPending func(context.Context, sharded.Cursor, time.Time, int) ([]sharded.ShardInfo, time.Time, error)
	queryWindow  func(context.Context, time.Time) iter.Seq2[[]byte, error]
	settle       func(context.Context, []sharded.ShardInfo, time.Time) []error
}

func (b *brokenDocuments) Merge(ctx context.Context, writes []sharded.ShardWrite) error {
	if b.merge != nil {
		return b.merge(ctx, writes)
	}
	return b.Documents.Merge(ctx, writes)
}

func (b *brokenDocuments) QueryPending(ctx context.Context, after sharded.Cursor, through time.Time, limit int) ([]sharded.ShardInfo, time.Time, error) {
	if b.queryPending != nil {
		return b.queryPending(ctx, after, through, limit)
	}
	return b.Documents.QueryPending(ctx, after, through, limit)
}

func (b *brokenDocuments) QueryWindow(ctx context.Context, start time.Time) iter.Seq2[[]byte, error] {
	if b.queryWindow != nil {
		return b.queryWindow(ctx, start)
	}
	return b.Documents.QueryWindow(ctx, start)
}

func (b *brokenDocuments) Settle(ctx context.Context, shards []sharded.ShardInfo, expireAt time.Time) []error {
	if b.settle != nil {
		return b.settle(ctx, shards, expireAt)
	}
	return b.Documents.Settle(ctx, shards, expireAt)
}
