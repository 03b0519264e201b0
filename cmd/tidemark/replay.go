package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/internal/replay"
)

// defaultPushURL is where a server with default settings takes pushes.
const defaultPushURL = "http://127.0.0.1:8080/push"

func replayCommand(p process) *cobra.Command {
	var o replay.Options
	var shiftTo string
	cmd := &cobra.Command{
		Use:   "replay FILE|-",
		Short: "Send stored messages to a server, as Pub/Sub pushes them",
		Long: `Send every line of a file, or of standard input, to a server as Pub/Sub pushes
messages: again and again until it is acknowledged. A line is a push body, or a
bare event, which becomes a push body with its own timestamp as publish time. The
file may be gzipped. Gives up on a line at once on status 400, 401, 403, 404, 405,
413 and 415. Exits with 1 if a line was not acknowledged.`,
		Example: `  tidemark replay testdata/nasa-1995-08-01-a.push.jsonl.gz
  tidemark replay --shift-to now --concurrency 64 events.json
  tail -f access.json | tidemark replay --publish-time now -`,
		Args: arguments(cobra.ExactArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.URL, "url", defaultPushURL, "where to push")
	flags.IntVar(&o.Concurrency, "concurrency", 16, "messages on their way at once; with 1, strictly in order")
	flags.Float64Var(&o.Rate, "rate", 0, "most messages a second; 0 for no limit")
	flags.StringVar(&o.PublishTime, "publish-time", replay.PublishAtEvent, "publish time of bare events: event (their timestamp) or now")
	flags.StringVar(&shiftTo, "shift-to", "", "now: move all times by one offset, so that the latest publish time is now")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if shiftTo != "" && shiftTo != "now" {
			return usageError{fmt.Errorf("--shift-to=%q: want now", shiftTo)}
		}
		o.ShiftToNow = shiftTo == "now"
		return runReplay(cmd.Context(), args[0], o, p)
	}
	return cmd
}

func runReplay(ctx context.Context, name string, o replay.Options, p process) error {
	o.Input = p.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		o.Input = file
	}
	if err := o.Validate(); err != nil {
		return usageError{err}
	}
	o.Log = p.stderr
	o.Progress = isTerminal(p.stderr)
	summary, err := replay.Run(ctx, o)
	if printErr := summary.Print(p.stdout); printErr != nil {
		return errors.Join(err, fmt.Errorf("print the summary: %w", printErr))
	}
	if err != nil {
		return err
	}
	if summary.NotAcknowledged > 0 {
		return errNo
	}
	return nil
}
