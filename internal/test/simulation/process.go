package simulation

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidemark-dev/tidemark/audit"
	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
	"github.com/tidemark-dev/tidemark/window"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

const (
	pipeline    = "traffic"
	idAttribute = "id"

	queueLength  = 50
	stepTimeout  = 10 * time.Second
	pushTimeout  = 25 * time.Second
	flushTimeout = 50 * time.Second
	holdMax      = 10 * time.Minute
)

// A process is one instance of the product. It has a clock and a connection to storage of
// its own. All of it is the real code, put together as package service does it.
type process struct {
	name         string
	dead         bool
	skew         atomic.Int64 // how far its clock is off, in nanoseconds
	stalledUntil time.Time    // its calls wait until then
	calls        []*call      // those that are not answered yet

	ctx       context.Context // for everything that the process does
	cancel    context.CancelFunc
	windows   window.Fixed
	classify  func(event.Message) event.Verdict
	committer *ingest.Committer
	submitter ingest.Submitter
	flusher   *flush.Flusher
	auditor   *audit.Auditor
	store     *sharded.Store
}

func (p *process) now() time.Time { return time.Now().Add(time.Duration(p.skew.Load())) }

func (w *world) idSource() event.IDSource {
	setting := "message"
	if w.config.idAttribute {
		setting = "attribute:" + idAttribute
	}
	ids, err := event.ParseIDSource(setting)
	if err != nil {
		panic(err)
	}
	return ids
}

func (w *world) timeSource() event.TimeSource {
	setting := "payload"
	if w.config.byPublish {
		setting = "publish"
	}
	times, err := event.ParseTimeSource(setting)
	if err != nil {
		panic(err)
	}
	return times
}

// start starts a new process.
func (w *world) start() {
	p := &process{name: fmt.Sprintf("p%02d", len(w.processes)+1)}
	w.processes = append(w.processes, p)
	w.trace.add("%s starts", p.name)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	ids := w.idSource()
	p.windows = w.config.windows
	if w.config.relateness {
		p.windows.AllowedLateness = pick(w.scheduler, latenesses...)
		w.trace.add("%s has an allowed lateness of %v", p.name, p.windows.AllowedLateness)
	}

	var documents sharded.Documents = faultyDocuments{w, p, w.database.Pipeline(pipeline)}
	if w.hooks.documents != nil {
		documents = w.hooks.documents(documents)
	}
	writer := p.name
	if w.hooks.writer != "" {
		writer = w.hooks.writer
	}
	p.store = sharded.New(sharded.Config{
		Documents: documents, Pipeline: pipeline, Writer: writer, Now: p.now,
		MaxCommitWrites: w.config.commits, PageSize: w.config.pageSize,
		Meaning: windowstore.Meaning{
			WindowDuration: w.config.windows.Duration, EventTime: w.timeSource().String(), EventID: ids.String(),
			RawTable: w.tables.names.Raw, AggTable: w.tables.names.Agg,
		},
	})
	var counters windowstore.Store = p.store
	if w.hooks.store != nil {
		counters = w.hooks.store(counters, documents)
	}
	tables := faultyTables{w: w, p: p}
	tables.Appender = bigquerytables.NewAppender(w.tables.names, tables.append)
	var house warehouse.Warehouse = tables
	if w.hooks.warehouse != nil {
		house = w.hooks.warehouse(house, counters, ids.String())
	}

	rules := event.Rules{
		Schema: accesslog.Schema(), Windows: p.windows, MaxClockSkew: w.config.maxClockSkew, EventTime: w.timeSource(), EventID: ids,
	}
	p.classify = event.NewClassifier(rules).Classify
	if w.hooks.classify != nil {
		p.classify = func(m event.Message) event.Verdict { return w.hooks.classify(p, rules, m) }
	}
	p.committer = ingest.New(ingest.Config{
		Warehouse: house, Counter: counters, IDKind: ids.String(),
		Interval: w.config.interval, QueueLength: queueLength, QueueBytes: 1 << 20,
		BatchRows: w.config.batchRows, BatchBytes: 1 << 20, StepTimeout: stepTimeout,
		Now: p.now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	p.submitter = p.committer
	if w.hooks.submitter != nil {
		p.submitter = w.hooks.submitter(p.submitter)
	}
	retention := w.config.retention
	if w.config.redeployed {
		retention = pick(w.scheduler, retentions...)
	}
	flushing := flush.Config{
		Counters: counters, Aggregate: house, Windows: p.windows,
		Quiet: w.config.quiet, HoldMax: holdMax, MaxWindows: w.config.maxWindows, Timeout: flushTimeout,
		Retention: retention, Early: w.config.early, Now: p.now,
	}
	if w.hooks.flush != nil {
		w.hooks.flush(&flushing)
	}
	p.flusher = flush.New(flushing)
	p.auditor = audit.New(audit.Config{
		Warehouse: house, Counters: counters, Windows: p.windows,
		Quiet: w.config.quiet, HoldMax: holdMax, Timeout: flushTimeout, Now: p.now,
	})
}

// kill ends a process at once. Its open calls get no answer from storage, but may still
// be applied.
func (w *world) kill(p *process) {
	if p.dead {
		return
	}
	w.trace.add("%s is killed", p.name)
	p.dead = true
	p.cancel()
	for _, c := range p.calls {
		c.settle(errDead)
	}
	p.calls = nil
	// The process's goroutines still exist in the test and must end. What they do no
	// longer counts.
	go func() { _ = p.committer.Close(p.ctx) }()
}

// anyProcess returns a living process, or nil if there is none.
func (w *world) anyProcess() *process {
	var alive []*process
	for _, p := range w.processes {
		if !p.dead {
			alive = append(alive, p)
		}
	}
	if len(alive) == 0 {
		return nil
	}
	return alive[w.rng.IntN(len(alive))]
}

// flushEachMinute does what Cloud Scheduler does: it calls a flush about once a minute,
// sometimes two at once, and sometimes none.
func (w *world) flushEachMinute() {
	w.after(w.between(50*time.Second, 70*time.Second), w.flushEachMinute)
	if time.Now().Before(w.flushFrom) {
		return
	}
	times := 1
	if !w.healing {
		times = pick(w.scheduler, 0, 1, 1, 1, 2)
	}
	for i := range times {
		w.after(time.Duration(i)*w.between(0, 100*time.Millisecond), func() {
			if p := w.anyProcess(); p != nil {
				w.flush(p)
			}
		})
	}
}

func (w *world) flush(p *process) {
	w.trace.add("%s flushes", p.name)
	ctx, cancel := context.WithCancel(p.ctx)
	if !w.healing && w.chance(0.1) {
		w.faults["flush cut off"]++
		w.after(w.between(0, 5*time.Second), cancel)
	}
	go func() {
		defer cancel()
		report := p.flusher.Run(ctx)
		detail := fmt.Sprintf("%d windows, %d held, %d left, %d errors", len(report.Windows), report.Held, report.Remaining, len(report.Errors))
		_ = w.register(context.Background(), &call{process: p, kind: "answer", detail: detail, apply: func() error {
			w.trace.add("%s has flushed: %s", p.name, detail)
			return nil
		}})
	}()
}

// auditAndEnd lets a process audit everything and repair the windows that are lower. Then
// it ends the run.
func (w *world) auditAndEnd() {
	w.checkRest()
	p := w.anyProcess()
	go func() {
		report, err := p.auditor.Run(p.ctx, time.Time{}, time.Now())
		_ = w.register(context.Background(), &call{process: p, kind: "answer", detail: "audit", apply: func() error {
			w.checkAudit(report, err)
			return nil
		}})
		report, err = p.auditor.Repair(p.ctx, time.Time{}, time.Now())
		_ = w.register(context.Background(), &call{process: p, kind: "answer", detail: "repair", apply: func() error {
			if left := slices.Concat(report.Lower, report.Higher, report.Waiting); err != nil || len(left) > 0 {
				w.violation("after the repair %d windows differ: %v", len(left), err)
			}
			w.over = true
			return nil
		}})
	}()
}
