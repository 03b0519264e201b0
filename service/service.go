// Package service builds the running parts from the settings: the stores, the group
// commit, the flush and the HTTP handler.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tidemark-dev/tidemark/audit"
	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/handler"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/metrics"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// maxHeaderBytes leaves room for the attributes of an unwrapped push, which are headers.
// Pub/Sub allows 100 attributes, with names of 256 bytes and values of 1024 bytes.
const maxHeaderBytes = 256 << 10

// maxInFlight is how many request bodies of the largest size may be in memory at the same
// time.
const maxInFlight = 16

// A Service is the whole of Tidemark in one process. [New] creates a Service, and
// [Service.Serve] makes it listen.
type Service struct {
	settings  settings.Settings
	log       *slog.Logger
	counters  windowstore.Store
	warehouse warehouse.Warehouse
	committer *ingest.Committer
	metrics   *metrics.Metrics
	flush     func(context.Context) flush.Report
	auditor   *audit.Auditor
	handler   *handler.Handler
	watch     func(event.Verdict) // called for every stored message; may be nil
}

// New opens the stores and builds the other parts on them. The caller closes the service,
// also after an error of Serve.
func New(ctx context.Context, s settings.Settings, log *slog.Logger) (*Service, error) {
	mayCall, err := newCallers(s)
	if err != nil {
		return nil, err
	}
	t := &Service{settings: s, log: log, metrics: metrics.New(time.Now)}
	if err := t.openStores(ctx); err != nil {
		return nil, errors.Join(err, t.closeStores())
	}
	flusher := flush.New(flush.Config{
		Counters:   t.counters,
		Aggregate:  t.warehouse,
		Windows:    s.Windows(),
		Quiet:      s.FlushQuiet,
		HoldMax:    s.FlushHoldMax,
		MaxWindows: s.FlushMaxWindows,
		Timeout:    s.FlushTimeout,
		Retention:  s.CounterRetention,
		Early:      s.Emit == "early",
		Now:        time.Now,
	})
	t.flush = t.metrics.Flush(flusher.Run)
	t.auditor = audit.New(audit.Config{
		Warehouse: t.warehouse,
		Counters:  t.counters,
		Windows:   s.Windows(),
		Count:     s.PipelineFile.Count,
		Quiet:     s.FlushQuiet,
		HoldMax:   s.FlushHoldMax,
		Timeout:   s.FlushTimeout,
		Now:       time.Now,
	})
	t.committer = ingest.New(ingest.Config{
		Warehouse:   t.warehouse,
		Counter:     t.metrics.Counter(t.counters),
		IDKind:      s.EventID.String(),
		Interval:    s.CommitInterval,
		QueueLength: s.QueueLength,
		QueueBytes:  maxInFlight * s.MaxBody,
		BatchRows:   s.BatchRows,
		BatchBytes:  s.BatchBytes,
		StepTimeout: settings.StepTimeout,
		Now:         time.Now,
		Logger:      log,
	})
	t.metrics.QueueLength(t.committer.QueueLength)
	t.handler = handler.New(handler.Config{
		Callers: mayCall,
		Classifier: event.NewClassifier(event.Rules{
			Schema:       s.PipelineFile.Schema,
			Windows:      s.Windows(),
			MaxClockSkew: s.MaxClockSkew,
			EventTime:    s.EventTime,
			EventID:      s.EventID,
		}),
		Ingest:           t.metrics.Submitter(watched{t}),
		Flush:            t.Flush,
		Metrics:          t.metrics.Handler(),
		Audit:            t.auditor,
		MaxBody:          int64(s.MaxBody),
		MaxInFlightBytes: maxInFlight * int64(s.MaxBody),
		RequestTimeout:   settings.PushTimeout,
		RequireMessageID: !s.Local(),
		Now:              time.Now,
		Logger:           log,
	})
	return t, nil
}

// Handler returns the HTTP handler, for a test or for a server of the caller.
func (t *Service) Handler() http.Handler { return t.handler }

// maxFlushErrors is how many errors of a flush are logged. The report has all of them.
const maxFlushErrors = 5

// Flush runs what POST /flush runs, and logs the result in one line.
func (t *Service) Flush(ctx context.Context) flush.Report {
	start := time.Now()
	report := t.flush(ctx)
	report.Count = t.settings.PipelineFile.Count
	var final int
	var pageViews int64
	for _, w := range report.Windows {
		pageViews += w.PageViews
		if w.Final {
			final++
		}
	}
	level, status, attrs := slog.LevelInfo, "ok", []slog.Attr{
		slog.String("read_time", event.FormatTime(report.ReadTime)),
		slog.Int("windows", len(report.Windows)), slog.Int("final", final), slog.Int64("page_views", pageViews),
		slog.Int("held", report.Held), slog.Int("remaining", report.Remaining), slog.Int("errors", len(report.Errors)),
		slog.Float64("duration_ms", float64(time.Since(start).Microseconds())/1000),
	}
	if report.RemainingAtLeast {
		attrs = append(attrs, slog.Bool("remaining_at_least", true))
	}
	if n := len(report.Windows); n > 0 {
		attrs = append(attrs, slog.String("first_window", event.FormatTime(report.Windows[0].Start)), slog.String("last_window", event.FormatTime(report.Windows[n-1].Start)))
	}
	if len(report.Errors) > 0 {
		level, status = slog.LevelError, "failed"
		some := report.Errors[:min(len(report.Errors), maxFlushErrors)]
		attrs = append(attrs, slog.String("error", errors.Join(some...).Error()))
	}
	// An alert in infra/metrics.tf matches this status.
	t.log.LogAttrs(ctx, level, "flush", append(attrs, slog.String("status", status))...)
	return report
}

// Auditor returns what the routes of /audit run.
func (t *Service) Auditor() *audit.Auditor { return t.auditor }

// Watch sets f to be called with the verdict of every message, after the message is
// stored. Watch must be called before the first request; f is called from many
// goroutines.
func (t *Service) Watch(f func(event.Verdict)) { t.watch = f }

// watched is the group commit, followed by the call of the watcher.
type watched struct{ t *Service }

func (w watched) Submit(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
	v, err := w.t.committer.Submit(ctx, m, v)
	if err == nil && w.t.watch != nil {
		w.t.watch(v)
	}
	return v, err
}

// OpenWindows returns the windows that have counted events and are not yet due, with
// their counts so far. The oldest window is first.
func (t *Service) OpenWindows(ctx context.Context) ([]flush.Window, error) {
	windows := t.settings.Windows()
	now := time.Now()
	first := windows.End(windows.LastDue(now, t.settings.FlushQuiet)) // the end of the last window that is due
	latest := windows.Start(now.Add(t.settings.MaxClockSkew))
	var open []flush.Window
	for w, err := range t.counters.Pending(ctx, first, latest) {
		if err != nil {
			return nil, err
		}
		n, err := t.counters.Count(ctx, w.Start)
		if err != nil {
			return nil, err
		}
		open = append(open, flush.Window{Start: w.Start, PageViews: n})
	}
	return open, nil
}

// Serve answers requests on the listener until ctx ends. Then Serve refuses new requests,
// answers the accepted ones, and returns nil. Serve closes the listener. The caller holds
// the data directory's [Lock].
func (t *Service) Serve(ctx context.Context, listener net.Listener) error {
	accepted, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	// Cloud Run speaks HTTP/1 or h2c to a container; a setting of the Cloud Run service
	// decides. h2c is HTTP/2 without TLS, from a client that knows beforehand that the
	// server speaks it.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           t.handler,
		Protocols:         &protocols,
		BaseContext:       func(net.Listener) context.Context { return accepted },
		ReadHeaderTimeout: settings.ReadHeaderTimeout,
		ReadTimeout:       settings.ReadTimeout,
		WriteTimeout:      settings.WriteTimeout,
		IdleTimeout:       settings.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(t.log.Handler(), slog.LevelWarn),
		// Without this, net/http answers OPTIONS * itself, although it is no route.
		DisableGeneralOptionsHandler: true,
	}
	if address, ok := listener.Addr().(*net.TCPAddr); ok && t.settings.Auth == "none" && !address.IP.IsLoopback() {
		t.log.Warn("AUTH=none on an address that others may reach: whoever can connect may push, flush and read; set AUTH=oidc, or HOST=127.0.0.1", "address", address.String())
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	return t.drain(ctx, server, giveUp)
}

// errShutdown ends the requests that still wait for storage at the end of the shutdown's
// grace.
var errShutdown = errors.New("shutting down")

// drain answers the requests that the server has accepted. Messages that are not stored
// in time are refused, and Pub/Sub delivers them again. A request whose body has not
// arrived by then counts as not accepted.
func (t *Service) drain(ctx context.Context, server *http.Server, giveUp context.CancelCauseFunc) error {
	t.log.Info("shutting down", "waiting", t.committer.QueueLength())
	t.handler.Drain()
	defer time.AfterFunc(settings.ShutdownGrace, func() { giveUp(errShutdown) }).Stop()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settings.ShutdownTimeout)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		t.log.Warn("requests that had not arrived are cut off")
		err = server.Close()
	}
	if err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}

// Close stores and answers the messages that still wait, bounded by ctx. Then it closes
// the stores.
func (t *Service) Close(ctx context.Context) error {
	return errors.Join(t.committer.Close(ctx), t.closeStores())
}

func (t *Service) closeStores() error {
	var errs []error
	if t.counters != nil {
		errs = append(errs, t.counters.Close())
	}
	if t.warehouse != nil {
		errs = append(errs, t.warehouse.Close())
	}
	return errors.Join(errs...)
}
