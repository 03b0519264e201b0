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

// FunctionTarget is the name under which the functions framework serves Tidemark:
// the entry point of a function that is deployed from this source. The function is
// the whole router, so it is called by the paths of a service.
//
// The framework has neither time limits nor a shutdown, so the container runs
// [service.Service.Serve] instead. Nothing that was acknowledged is lost where a function is
// stopped: what was not stored was not answered, and comes again.
const FunctionTarget = "Tidemark"

func init() {
	functions.HTTP(FunctionTarget, (&function{lookup: os.LookupEnv, stderr: os.Stderr}).ServeHTTP)
}

// A function has the service of a function, which a request makes and which lives
// as long as the process. Where making it fails, the next request tries again, since
// credentials or a disk may be back; settings are read once, since they stay as they
// are.
type function struct {
	lookup func(name string) (string, bool) // of the environment
	stderr io.Writer

	mu       sync.Mutex
	log      *slog.Logger // nil before the settings are read
	settings settings.Settings
	err      error // of the settings
	service  *service.Service
}

// ServeHTTP answers 500 where there is no service: the log says why.
func (f *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	service, err := f.start()
	if err != nil {
		handler.WriteError(w, http.StatusInternalServerError, "the function cannot start; its log says why")
		return
	}
	service.Handler().ServeHTTP(w, r)
}

// start returns the service, and makes it if there is none.
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
