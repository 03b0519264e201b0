package tidemark

import (
	"context"
	"net/http"
	"os"
	"sync"

	"github.com/GoogleCloudPlatform/functions-framework-go/functions"

	"github.com/tidemark-dev/tidemark/handler"
)

// FunctionTarget is the name under which the functions framework serves Tidemark:
// the entry point of a function that is deployed from this source. The function is
// the whole router, so it is called by the paths of a service.
//
// The framework has neither time limits nor a shutdown, so the container runs
// [Service.Serve] instead. Nothing that was acknowledged is lost where a function is
// stopped: what was not stored was not answered, and comes again.
const FunctionTarget = "Tidemark"

func init() { functions.HTTP(FunctionTarget, serveFunction) }

// function is the service of a function, which is made from the environment by the
// first request and lives as long as the process.
var function = sync.OnceValues(func() (*Service, error) {
	settings, err := Load(nil, os.LookupEnv)
	log := NewJSONLogger(os.Stderr, settings.LogLevel, settings.Project)
	if err == nil {
		var service *Service
		if service, err = New(context.Background(), settings, log); err == nil {
			return service, nil
		}
	}
	log.Error("the function cannot start", "error", err.Error())
	return nil, err
})

// serveFunction answers 500 where the settings are at fault: the log says how.
func serveFunction(w http.ResponseWriter, r *http.Request) {
	service, err := function()
	if err != nil {
		handler.WriteError(w, http.StatusInternalServerError, "INTERNAL", "the function cannot start; its log says why")
		return
	}
	service.Handler().ServeHTTP(w, r)
}
