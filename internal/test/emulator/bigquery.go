package emulator

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// BigQuery returns the host and port of the REST side and of the gRPC side of a BigQuery
// emulator. If BIGQUERY_EMULATOR_HOST and BIGQUERY_STORAGE_EMULATOR_HOST name an
// emulator, it is that one. If not, BigQuery starts one. For this it needs a Python that
// has bqemulator: the one that make bqemulator installs, or the one that
// BQEMULATOR_PYTHON names. If there is no such Python, the test is skipped; with CI=true
// it fails.
//
// The emulator is not Google's: docs/bigquery-emulator.md lists the differences.
func BigQuery(t testing.TB) (restHost, grpcHost string) {
	t.Helper()
	skipIfOff(t)
	restHost, grpcHost = os.Getenv("BIGQUERY_EMULATOR_HOST"), os.Getenv("BIGQUERY_STORAGE_EMULATOR_HOST")
	if restHost != "" && grpcHost != "" {
		return restHost, grpcHost
	}
	bigQuery.once.Do(func() { bigQuery.err = bigQuery.start() })
	require(t, "BigQuery emulator", bigQuery.err, "install it by make bqemulator, or name a running one in BIGQUERY_EMULATOR_HOST and BIGQUERY_STORAGE_EMULATOR_HOST")
	return bigQuery.restHost, bigQuery.grpcHost
}

// bigQuery is the BigQuery emulator of this process. All its tests share it.
var bigQuery bigQueryEmulator

type bigQueryEmulator struct {
	once               sync.Once
	restHost, grpcHost string
	err                error
}

// serveBigQuery is the program that runs the emulator.
//
//go:embed serve_bigquery.py
var serveBigQuery string

func (e *bigQueryEmulator) start() (err error) {
	python, err := findPython()
	if err != nil {
		return err
	}
	if e.restHost, err = freeHost(); err != nil {
		return err
	}
	if e.grpcHost, err = freeHost(); err != nil {
		return err
	}
	_, restPort, _ := net.SplitHostPort(e.restHost)
	_, grpcPort, _ := net.SplitHostPort(e.grpcHost)
	output, err := spawn([]string{python, "-c", serveBigQuery, restPort, grpcPort})
	if err != nil {
		return err
	}
	if err := await("http://" + e.restHost + "/bigquery/v2/projects/" + Project() + "/datasets"); err != nil {
		return fmt.Errorf("%w; it printed:\n%s", err, output)
	}
	return nil
}

// findPython returns the path of the Python that has bqemulator.
func findPython() (string, error) {
	if python := os.Getenv("BQEMULATOR_PYTHON"); python != "" {
		return exec.LookPath(python)
	}
	dir, err := os.Getwd() // the directory of the package that is tested
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the tests do not run in a directory of the module")
		}
	}
	python := filepath.Join(dir, ".bqemulator", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		return "", fmt.Errorf("bqemulator: %w", errMissing)
	}
	return python, nil
}
