// Package emulator starts Google's emulators for tests. A test process starts each
// emulator at most once. The emulator stops when the process ends, also if the process is
// killed.
//
// Tests share an emulator. Each test uses a [Project] of its own, so tests do not see
// each other's data. If the environment names an emulator, it is used, and it keeps
// running afterwards.
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

// startTimeout is how long an emulator may take to start on a busy machine.
const startTimeout = 90 * time.Second

// Firestore returns the host and port of a Firestore emulator. If FIRESTORE_EMULATOR_HOST
// names an emulator, it is that one. If not, Firestore starts one. For this it needs java
// and the component cloud-firestore-emulator of the Google Cloud CLI. If these are not
// installed, the test is skipped; with CI=true it fails, so that CI cannot skip the tests
// on emulators unnoticed.
func Firestore(t testing.TB) string {
	t.Helper()
	return firestore.use(t)
}

// Project returns the id of a project that no other test uses.
func Project() string {
	return "test-" + strings.ToLower(rand.Text()[:12])
}

// firestore is the Firestore emulator of this process. It is a global variable because
// the tests that share it have nothing else in common.
var firestore = emulator{
	name:     "Firestore",
	variable: "FIRESTORE_EMULATOR_HOST",
	file:     "cloud-firestore-emulator/cloud-firestore-emulator.jar",
	arguments: func(jar, port string) []string {
		return []string{"-Xmx512m", "-XX:+UseSerialGC", "-Duser.language=en", "-cp", jar,
			"com.google.cloud.datastore.emulator.firestore.CloudFirestore", "--host=127.0.0.1", "--port=" + port}
	},
}

// An emulator describes one kind of emulator, and holds the address of its process once
// that is started.
type emulator struct {
	name, variable string
	file           string // below the directory platform of the Google Cloud CLI
	arguments      func(file, port string) []string

	once sync.Once
	host string
	err  error
}

// errMissing means that something the emulator needs is not installed.
var errMissing = errors.New("not installed")

// skipIfOff skips the test if TIDEMARK_EMULATORS=off. make test sets this, since it must
// need nothing but Go.
func skipIfOff(t testing.TB) {
	t.Helper()
	if os.Getenv("TIDEMARK_EMULATORS") == "off" {
		t.Skip("emulators are off (TIDEMARK_EMULATORS=off); make test-all uses those that it finds")
	}
}

// require ends the test if err is not nil. If something is not installed, the test is
// skipped with the remedy as advice, but with CI=true it fails. After any other error it
// fails.
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

// find returns the path of a file that is installed with the Google Cloud CLI.
func find(file string) (string, error) {
	for _, root := range []func() string{debianSDK, askedSDK} {
		path := filepath.Join(root(), "platform", file)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s of the Google Cloud CLI: %w", file, errMissing)
}

// debianSDK returns the directory where Debian's package installs the Google Cloud CLI.
func debianSDK() string { return "/usr/lib/google-cloud-sdk" }

// askedSDK asks the Google Cloud CLI where it is installed. This takes about a second.
func askedSDK() string {
	root, _ := exec.Command("gcloud", "info", "--format=value(installation.sdk_root)").Output()
	return strings.TrimSpace(string(root))
}

// CloudCLI returns the path of a command of the Google Cloud CLI, for example bq, and the
// directory of the CLI. If the CLI is not installed, the test is skipped; with CI=true it
// fails.
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

// keeper is a shell script that runs a command and kills it when the script's standard
// input ends. The input ends when the test process is gone, however it died. The script
// ignores the signals of a terminal, so that it lives longer than the test process.
const keeper = `trap '' INT HUP TERM; "$@" & pid=$!; cat >/dev/null; kill -9 $pid; wait $pid 2>/dev/null`

// spawn starts a command that is killed when this process ends. It returns the command's
// output, which grows while the command runs.
func spawn(command []string) (*output, error) {
	var out output
	cmd := exec.Command("sh", append([]string{"-c", keeper, "sh"}, command...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if _, err := cmd.StdinPipe(); err != nil { // cmd holds the pipe open: the goroutine that copies the output keeps cmd alive
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command[0], err)
	}
	go cmd.Wait()
	return &out, nil
}

// await sends GET requests to the url until the answer is 200.
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

// output keeps the first 8 KiB that a process prints.
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
