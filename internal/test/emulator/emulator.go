// Package emulator starts Google's emulators for tests, one for a test process,
// and stops them when that ends, however it ends.
//
// Tests share an emulator and keep apart by [Project]. An emulator that is named
// in the environment is used and left running.
package emulator

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// startTimeout is how long an emulator may take to start, on a machine that does
// much else.
const startTimeout = 90 * time.Second

// Firestore returns the host and port of a Firestore emulator: that of
// FIRESTORE_EMULATOR_HOST, or one that it starts, for which it needs java and the
// component cloud-firestore-emulator of the Google Cloud CLI. Where these are not
// installed it skips the test; where CI is true it fails it, so that tests on an
// emulator cannot disappear unseen.
func Firestore(t testing.TB) string {
	t.Helper()
	return firestore.use(t)
}

// Project returns the id of a project that nobody has used.
func Project() string {
	return "test-" + strings.ToLower(rand.Text()[:12])
}

// firestore is the process's emulator. Tests of a process share it, and have
// nothing else in common that could hold it.
var firestore = emulator{
	name:     "Firestore",
	variable: "FIRESTORE_EMULATOR_HOST",
	file:     "cloud-firestore-emulator/cloud-firestore-emulator.jar",
	arguments: func(jar, port string) []string {
		return []string{"-Xmx512m", "-XX:+UseSerialGC", "-Duser.language=en", "-cp", jar,
			"com.google.cloud.datastore.emulator.firestore.CloudFirestore", "--host=127.0.0.1", "--port=" + port}
	},
}

// An emulator is one kind of emulator, and the process of it, if there is one.
type emulator struct {
	name, variable string
	file           string // in the Google Cloud CLI's directory platform
	arguments      func(file, port string) []string

	once sync.Once
	host string
	err  error
}

// errMissing says that something that the emulator needs is not installed.
var errMissing = errors.New("not installed")

// skipIfOff skips the test where TIDEMARK_EMULATORS is off, as for make test,
// which needs nothing that is not Go.
func skipIfOff(t testing.TB) {
	t.Helper()
	if os.Getenv("TIDEMARK_EMULATORS") == "off" {
		t.Skip("emulators are off (TIDEMARK_EMULATORS=off); make test-all uses those that it finds")
	}
}

// require ends the test unless err is nil: it is skipped, with what to do, where
// something is not installed, and fails where that is CI, or for any other error.
func require(t testing.TB, what string, err error, remedy string) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errMissing) && os.Getenv("CI") != "true":
		t.Skipf("%s: %v; %s", what, err, remedy)
	default:
		t.Fatalf("%s: %v", what, err)
	}
}

func (e *emulator) use(t testing.TB) string {
	t.Helper()
	skipIfOff(t)
	if host := os.Getenv(e.variable); host != "" {
		return host
	}
	e.once.Do(func() { e.host, e.err = e.start() })
	require(t, e.name+" emulator", e.err, "install it, or name a running one in "+e.variable)
	return e.host
}

func (e *emulator) start() (host string, err error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return "", fmt.Errorf("java: %w", errMissing)
	}
	file, err := find(e.file)
	if err != nil {
		return "", err
	}
	host, err = freeHost()
	if err != nil {
		return "", err
	}
	_, port, _ := net.SplitHostPort(host)
	output, err := spawn(append([]string{java}, e.arguments(file, port)...))
	if err != nil {
		return "", err
	}
	if err := await("http://" + host + "/"); err != nil {
		return "", fmt.Errorf("%w; it printed:\n%s", err, output)
	}
	return host, nil
}

// find returns where the Google Cloud CLI has the file.
func find(file string) (string, error) {
	for _, root := range []func() string{debianSDK, askedSDK} {
		path := filepath.Join(root(), "platform", file)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s of the Google Cloud CLI: %w", file, errMissing)
}

// debianSDK is where Debian's package has the Google Cloud CLI.
func debianSDK() string { return "/usr/lib/google-cloud-sdk" }

// askedSDK is where the Google Cloud CLI says that it is, which takes it a second.
func askedSDK() string {
	root, _ := exec.Command("gcloud", "info", "--format=value(installation.sdk_root)").Output()
	return strings.TrimSpace(string(root))
}

// CloudCLI returns the path of a command of the Google Cloud CLI, as bq, and the
// directory of the CLI. Where it is not installed it skips the test; where CI is true
// it fails it.
func CloudCLI(t testing.TB, name string) (command, sdk string) {
	t.Helper()
	skipIfOff(t)
	command, err := exec.LookPath(name)
	if err != nil {
		err = fmt.Errorf("%w: %w", errMissing, err)
	}
	require(t, name, err, "it comes with the Google Cloud CLI")
	sdk = debianSDK()
	if _, err := os.Stat(sdk); err != nil {
		sdk = askedSDK()
	}
	return command, sdk
}

func freeHost() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// keeper runs a command until its own standard input ends, which it does when the
// process at the other end is gone, by whatever death. It ignores the signals of
// a terminal, so as to outlive that process.
const keeper = `trap '' INT HUP TERM; "$@" & pid=$!; cat >/dev/null; kill -9 $pid; wait $pid 2>/dev/null`

// spawn starts the command, to be killed when this process ends, and returns what
// it prints.
func spawn(command []string) (*output, error) {
	var out output
	cmd := exec.Command("sh", append([]string{"-c", keeper, "sh"}, command...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if _, err := cmd.StdinPipe(); err != nil { // held open by cmd, which the copying of the output holds
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command[0], err)
	}
	go cmd.Wait()
	return &out, nil
}

// await polls until a GET of the url is answered with 200.
func await(url string) error {
	client := http.Client{Timeout: time.Second}
	deadline := time.Now().Add(startTimeout)
	for {
		response, err := client.Get(url)
		if err == nil {
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v: %w", startTimeout, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// output is the first part of what a process prints.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := 8<<10 - len(o.text); room > 0 {
		o.text = append(o.text, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}
