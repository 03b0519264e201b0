package emulator

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// childVariable is set in the environment of a test process that another test process
// started.
const childVariable = "TIDEMARK_EMULATOR_TEST_CHILD"

// TestChild is not a test of its own: the other tests here run it in a separate process.
func TestChild(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		t.Skip("runs only in a process that another test starts")
	}
	fmt.Printf("emulator at %s.\n", Firestore(t))
	panic("dies")
}

// child runs TestChild in a separate process with the given variables added to the
// environment, and returns what it printed.
func child(t *testing.T, environment ...string) (output string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), childVariable+"=1", firestore.variable+"=")
	cmd.Env = append(cmd.Env, environment...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

func TestAnEmulatorEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	output, _ := child(t)
	if strings.Contains(output, "SKIP") {
		t.Skip("no emulator is installed")
	}
	found := regexp.MustCompile(`emulator at (127\.0\.0\.1:\d+)\.`).FindStringSubmatch(output)
	if found == nil || !strings.Contains(output, "panic: dies") {
		t.Fatalf("the child printed:\n%s", output)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", found[1])
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatalf("the emulator at %s outlives the process that started it", found[1])
		}
	}
}

func TestWithoutAnEmulatorTestsAreSkippedExceptInCI(t *testing.T) {
	t.Parallel()
	output, err := child(t, "PATH=", "CI=", "TIDEMARK_EMULATORS=")
	if err != nil || !strings.Contains(output, "--- SKIP") || !strings.Contains(output, "java: not installed") {
		t.Errorf("%v; the child printed:\n%s", err, output)
	}
	output, err = child(t, "PATH=", "CI=true", "TIDEMARK_EMULATORS=")
	if err == nil || !strings.Contains(output, "--- FAIL") || !strings.Contains(output, "java: not installed") {
		t.Errorf("in CI: %v; the child printed:\n%s", err, output)
	}
}

func TestAnEmulatorInTheEnvironmentIsUsed(t *testing.T) {
	t.Setenv(firestore.variable, "host:1")
	if host := Firestore(t); host != "host:1" {
		t.Errorf("the emulator is %s", host)
	}
}
