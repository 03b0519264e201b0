// Package tidemark builds the running parts from the settings: the stores, the
// group commit, the flush and the HTTP handler over them.
package tidemark

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/handler"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/warehouse/sqlitehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sqlitestore"
)

// Time limits of the server. A push is answered well inside the subscription's
// ack deadline of 60 s, and everything accepted is answered within the 10 s that
// Cloud Run leaves between SIGTERM and SIGKILL.
const (
	stepTimeout     = 10 * time.Second // one write of a batch
	pushTimeout     = 25 * time.Second // one push, with its wait for a batch
	shutdownTimeout = 9 * time.Second

	readHeaderTimeout = 10 * time.Second
	readTimeout       = time.Minute
	writeTimeout      = 2 * time.Minute // longer than any answer takes to make
	idleTimeout       = 2 * time.Minute
)

// maxInFlight is how many of the largest bodies may be held in memory at once.
const maxInFlight = 16

// A Service is the whole of Tidemark in one process. [New] makes it; nothing
// listens until [Service.Serve].
type Service struct {
	settings  Settings
	log       *slog.Logger
	lock      *flock.Flock
	counters  windowstore.Store
	warehouse warehouse.Warehouse
	committer *ingest.Committer
	flusher   *flush.Flusher
	handler   *handler.Handler
}

// New opens the stores and builds the parts over them. The caller closes the
// service, also after an error of Serve.
func New(ctx context.Context, s Settings, log *slog.Logger) (*Service, error) {
	t := &Service{settings: s, log: log}
	if err := t.openStores(ctx); err != nil {
		return nil, errors.Join(err, t.closeStores())
	}
	t.flusher = flush.New(flush.Config{
		Counters:   t.counters,
		Aggregate:  t.warehouse,
		Windows:    s.windows(),
		Quiet:      s.FlushQuiet,
		HoldMax:    s.FlushHoldMax,
		MaxWindows: s.FlushMaxWindows,
		Timeout:    s.FlushTimeout,
		Retention:  s.CounterRetention,
		Early:      s.Emit == "early",
		Now:        time.Now,
	})
	t.committer = ingest.New(ingest.Config{
		Warehouse:   t.warehouse,
		Counter:     t.counters,
		IDKind:      s.EventID.String(),
		Interval:    s.CommitInterval,
		QueueLength: s.QueueLength,
		BatchRows:   s.BatchRows,
		BatchBytes:  s.BatchBytes,
		StepTimeout: stepTimeout,
		Now:         time.Now,
		Logger:      log,
	})
	t.handler = handler.New(handler.Config{
		Classifier: event.Classifier{
			Windows:      s.windows(),
			MaxClockSkew: s.MaxClockSkew,
			EventTime:    s.EventTime,
			EventID:      s.EventID,
		},
		Ingest:           t.committer,
		Flush:            t.flusher.Run,
		MaxBody:          int64(s.MaxBody),
		MaxInFlightBytes: maxInFlight * int64(s.MaxBody),
		RequestTimeout:   pushTimeout,
		RequireMessageID: s.Backend != "local",
		Now:              time.Now,
		Logger:           log,
	})
	return t, nil
}

// openStores opens the embedded stores. The counters have a file of their own,
// so that the append of one batch and the increment of the one before it can be
// written side by side: SQLite has one writer per file.
func (t *Service) openStores(ctx context.Context) (err error) {
	dir := t.settings.DataDir
	if t.lock, err = lockDir(dir); err != nil {
		return err
	}
	rows, err := sqlitehouse.Open(ctx, sqlitehouse.Config{
		Path:  filepath.Join(dir, "warehouse.db"),
		Names: t.settings.Tables,
	})
	if err != nil {
		return err
	}
	t.warehouse = rows
	counters, err := sqlitestore.Open(ctx, sqlitestore.Config{
		Path:     filepath.Join(dir, "counters.db"),
		Pipeline: t.settings.Pipeline,
		Meaning: windowstore.Meaning{
			WindowDuration: t.settings.WindowDuration,
			EventTime:      t.settings.EventTime.String(),
			EventID:        t.settings.EventID.String(),
			RawTable:       t.settings.Tables.Raw,
			AggTable:       t.settings.Tables.Agg,
		},
		Now: time.Now,
	})
	if err != nil {
		return err
	}
	t.counters = counters
	return nil
}

// ErrInUse is wrapped by the error of [New] for a data directory that another
// process has open.
var ErrInUse = errors.New("another tidemark process uses it")

// lockDir makes the data directory if needed and takes the lock that keeps other
// processes out of it.
func lockDir(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data directory %s: %w", dir, err)
	}
	if !locked {
		return nil, fmt.Errorf("data directory %s: %w; stop it, give this process another DATA_DIR, or ask that server with --url", dir, ErrInUse)
	}
	return lock, nil
}

// Handler returns the HTTP handler, for a test or another server to hold.
func (t *Service) Handler() http.Handler { return t.handler }

// Flush runs what POST /flush runs.
func (t *Service) Flush(ctx context.Context) flush.Report { return t.flusher.Run(ctx) }

// Serve answers requests on the listener until ctx ends. Then it refuses new
// requests, answers those it has accepted, and returns nil; or an error if they
// took longer than the shutdown may.
func (t *Service) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           t.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(t.log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	t.log.Info("shutting down", "waiting", t.committer.QueueLength())
	t.handler.Drain()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return fmt.Errorf("answer the accepted requests before shutdown: %w", errors.Join(err, server.Close()))
	}
	return nil
}

// Close stores and answers what still waits, bounded by ctx, and releases the
// stores.
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
	if t.lock != nil {
		errs = append(errs, t.lock.Unlock())
	}
	return errors.Join(errs...)
}
