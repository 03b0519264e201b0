package tidemark

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"

	"github.com/GoogleCloudPlatform/functions-framework-go/functions"

	"github.com/tidemark-dev/tidemark/handler"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// FunctionTarget is the entry point of a function that is deployed from this source: the
// name under which the functions framework serves Tidemark. The function is the whole
// router, so its paths are those of the service.
//
// The framework has neither time limits nor a shutdown, so the container runs
// [service.Service.Serve] instead. Stopping a function loses nothing that was
// acknowledged: a message that was not stored was not acknowledged, and Pub/Sub delivers
// the message again.
const FunctionTarget = "Tidemark"

func init() {
	functions.HTTP(FunctionTarget, (&function{lookup: os.LookupEnv, stderr: os.Stderr}).ServeHTTP)
}

// function holds the lazily created Service. The first request creates the Service, which
// then lives as long as the process. If that fails, the next request tries again, because
// credentials or a disk may be back. The settings are read only once, because they do not
// change.
type function struct {
	lookup func(name string) (string, bool) // looks up an environment variable
	stderr io.Writer

	mu       sync.Mutex
	log      *slog.Logger // nil before the settings are read
	settings settings.Settings
	err      error // from reading the settings
	service  *service.Service
}

// ServeHTTP answers 500 if the Service cannot be created; the log says why.
func (f *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	service, err := f.start()
	if err != nil {
		handler.WriteError(w, http.StatusInternalServerError, "the function cannot start; its log says why")
		return
	}
	service.Handler().ServeHTTP(w, r)
}

// start returns the Service, and creates it if there is none yet.
func (f *function) start() (*service.Service, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log == nil {
		f.readSettings()
	}
	if f.err != nil || f.service != nil {
		return f.service, f.err
	}
	service, err := service.New(context.Background(), f.settings, f.log)
	if err != nil {
		f.logFailure(err)
		return nil, err
	}
	f.service = service
	return service, nil
}

func (f *function) readSettings() {
	f.settings, f.err = settings.Load(nil, f.lookup)
	f.log = service.NewJSONLogger(f.stderr, f.settings.LogLevel, f.settings.Project)
	f.log.Info("starting", "settings", f.settings, "pipeline_file", f.settings.PipelineFile.String())
	if f.err != nil {
		f.logFailure(f.err)
	}
}

func (f *function) logFailure(err error) {
	f.log.Error("the function cannot start", "error", err.Error())
}
