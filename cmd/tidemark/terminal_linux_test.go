package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A terminal is a real pseudo-terminal, so that a test sees what a user would see.
type terminal struct {
	command *exec.Cmd
	mu      sync.Mutex
	text    bytes.Buffer
	closed  chan struct{} // closed when everything was read
}

// startOnTerminal starts the program with a terminal as its standard output and standard
// error.
func startOnTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	terminal := &terminal{command: exec.Command(os.Args[0], args...), closed: make(chan struct{})}
	terminal.command.Env = append(os.Environ(), asProgram+"=1")
	terminal.command.Stdout, terminal.command.Stderr = slave, slave
	err = terminal.command.Start()
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = terminal.command.Process.Kill() // it has usually exited before
		_ = terminal.command.Wait()
		<-terminal.closed
		master.Close()
	})
	go func() {
		defer close(terminal.closed)
		for buffer := make([]byte, 4096); ; {
			n, err := master.Read(buffer)
			terminal.mu.Lock()
			terminal.text.Write(buffer[:n])
			terminal.mu.Unlock()
			if err != nil { // the last process that had the terminal open has ended
				return
			}
		}
	}()
	return terminal
}

// shown returns what was written to the terminal so far, with plain line ends.
func (s *terminal) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.text.String(), "\r\n", "\n")
}

// waitToShow waits until the text was written to the terminal.
func (s *terminal) waitToShow(t *testing.T, text string) {
	t.Helper()
	waitFor(t, fmt.Sprintf("the terminal to show %q", text), func() bool { return strings.Contains(s.shown(), text) })
}

// interrupt ends the program as Ctrl-C does. After this, shown returns everything.
func (s *terminal) interrupt(t *testing.T) {
	t.Helper()
	if err := s.command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := s.command.Wait()
	<-s.closed
	if err != nil {
		t.Errorf("exit on an interrupt: %v\n%s", err, s.shown())
	}
}

// On a terminal, serve prints a few short lines with what a user needs. Into a file it
// writes its complete log.
func TestServeTellsAUserWhereItIsAndThatNothingFlushes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	shown := startOnTerminal(t, "serve", "--port", "0", "--host", "0.0.0.0", "--data-dir", dir)
	shown.waitToShow(t, "done\n\n")
	shown.interrupt(t)
	text := shown.shown()
	address := regexp.MustCompile(`serves at (http://127\.0\.0\.1:[1-9][0-9]*) until`).FindStringSubmatch(text)
	if address == nil {
		t.Fatalf("no address that can be opened:\n%s", text)
	}
	for _, want := range []string{
		"Settings that are not the defaults: PORT=0 HOST=0.0.0.0 DATA_DIR=" + dir + "\n",
		"Nothing flushes by itself", "curl -sX POST " + address[1] + "/flush",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing is said of %q:\n%s", want, text)
		}
	}
	for _, unwanted := range []string{"WINDOW_DURATION", "msg=starting"} {
		if strings.Contains(text, unwanted) {
			t.Errorf("a user on a terminal is shown %q:\n%s", unwanted, text)
		}
	}
	s := startServer(t, t.TempDir())
	if err := s.stop(t, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if log := s.log.String(); !strings.Contains(log, `"WINDOW_DURATION":"60s"`) || strings.Contains(log, "Nothing flushes") {
		t.Errorf("the log has not all settings, or is no log:\n%s", log)
	}
}

// On a terminal, generate shows how far it is.
func TestGenerateShowsOnATerminalHowFarItIs(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	shown := startOnTerminal(t, "generate", "--url", s.url+"/push", "--rate", "6000", "--seed", "3")
	shown.waitToShow(t, "\r\x1b[K1s: ")
	shown.waitToShow(t, "\r\x1b[K2s: ")
	shown.interrupt(t)
	if text := shown.shown(); !strings.Contains(text, " acknowledged, ") || !strings.Contains(text, ", 0 refused\n") {
		t.Errorf("shown: %q", text)
	}
}
