// Command tidemark counts the events of a Pub/Sub topic per event-time window, exactly.
// README.md describes its use, and tidemark COMMAND --help describes one command.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // after the first signal, a second one ends the process at once
	os.Exit(run(ctx, os.Args[1:], process{
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
		lookup: os.LookupEnv,
	}))
}

// process is what a command uses of its process.
type process struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookup         func(name string) (string, bool) // looks up an environment variable
}

// token returns the identity token for calls of servers, or an empty string.
func (p process) token() string {
	token, _ := p.lookup(delivery.TokenVariable)
	return token
}

// The exit codes.
const (
	exitDone  = 0
	exitNo    = 1 // the answer is no, or the command failed
	exitUsage = 2 // the command was called wrongly
)

// errNo is returned by a command that has printed its result, if the result is "no".
var errNo = errors.New("the answer is no")

// A usageError is returned if the command was called wrongly.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run runs the command that args name, and returns the exit code.
func run(ctx context.Context, args []string, p process) int {
	root := &cobra.Command{
		Use:   "tidemark",
		Short: "Counts events per event-time window, exactly",
		Long: `Tidemark counts the events of a Pub/Sub topic per event-time window, exactly.

With nothing configured it runs whole on one machine, on SQLite files in ./data.
Every setting is an environment variable, and a flag of the commands that work on
those files: serve, dev, flush, audit, check and replay.`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetVersionTemplate(versionLine())
	root.SetHelpCommand(helpCommand(root))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{flagError(cmd, err)} })
	root.AddCommand(serveCommand(p), devCommand(p), generateCommand(p), replayCommand(p), flushCommand(p), auditCommand(p), checkCommand(p), initCommand(p), versionCommand(p), settingsTopic())

	called, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errNo):
		return exitNo
	case errors.As(err, &usage) || called == root: // cobra's own errors, such as an unknown command, come from root
		fmt.Fprintf(p.stderr, "tidemark: %v\nSee %q.\n", err, called.CommandPath()+" --help")
		return exitUsage
	}
	fmt.Fprintf(p.stderr, "tidemark %s: %v\n", called.Name(), err)
	return exitNo
}

// helpCommand returns cobra's help command, with one change: help about an unknown
// command is a usage error.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Print the help of a command",
		Example: "  tidemark help serve",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = fmt.Errorf("no command %q", args)
			}
			if err != nil {
				return usageError{err}
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// arguments makes a wrong number of arguments a usage error.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
