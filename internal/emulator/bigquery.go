package emulator

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// BigQuery returns the host and port of the REST and of the gRPC side of a BigQuery
// emulator: those of BIGQUERY_EMULATOR_HOST and BIGQUERY_STORAGE_EMULATOR_HOST, or
// of one that it starts, for which it needs the command bqemulator, in the path or
// named by BQEMULATOR. Where that is not installed it skips the test, in CI too: it
// does not hold well enough yet to hold up a build.
//
// The emulator is not Google's: docs/bigquery-emulator.md says how it is installed
// and where it differs.
func BigQuery(t testing.TB) (restHost, grpcHost string) {
	t.Helper()
	skipIfOff(t)
	restHost, grpcHost = os.Getenv("BIGQUERY_EMULATOR_HOST"), os.Getenv("BIGQUERY_STORAGE_EMULATOR_HOST")
	if restHost != "" && grpcHost != "" {
		return restHost, grpcHost
	}
	bigQuery.once.Do(func() { bigQuery.err = bigQuery.start() })
	if errors.Is(bigQuery.err, errMissing) {
		t.Skipf("BigQuery emulator: %v; install it as docs/bigquery-emulator.md says, or name a running one in BIGQUERY_EMULATOR_HOST and BIGQUERY_STORAGE_EMULATOR_HOST", bigQuery.err)
	}
	if bigQuery.err != nil {
		t.Fatalf("BigQuery emulator: %v", bigQuery.err)
	}
	return bigQuery.restHost, bigQuery.grpcHost
}

// bigQuery is the process's emulator, as firestore is.
var bigQuery bigQueryEmulator

type bigQueryEmulator struct {
	once               sync.Once
	restHost, grpcHost string
	err                error
}

func (e *bigQueryEmulator) start() (err error) {
	command := os.Getenv("BQEMULATOR")
	if command == "" {
		command = "bqemulator"
	}
	path, err := exec.LookPath(command)
	if err != nil {
		return fmt.Errorf("%s: %w", command, errMissing)
	}
	if e.restHost, err = freeHost(); err != nil {
		return err
	}
	if e.grpcHost, err = freeHost(); err != nil {
		return err
	}
	_, restPort, _ := net.SplitHostPort(e.restHost)
	_, grpcPort, _ := net.SplitHostPort(e.grpcHost)
	output, err := spawn([]string{path, "start", "--rest-port", restPort, "--grpc-port", grpcPort, "--log-level", "warning"})
	if err != nil {
		return err
	}
	if err := await("http://" + e.restHost + "/bigquery/v2/projects/" + Project() + "/datasets"); err != nil {
		return fmt.Errorf("%w; it printed:\n%s", err, output)
	}
	return nil
}
