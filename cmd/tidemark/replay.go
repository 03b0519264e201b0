package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
	"github.com/tidemark-dev/tidemark/internal/lab/replay"
)

// defaultPushURL is the push route of a server with default settings on this machine.
const defaultPushURL = "http://127.0.0.1:8080/push"

const (
	replayTimeout     = 30 * time.Second // longer than a server takes for any push
	replayGiveUpAfter = 5 * time.Minute
)

func replayCommand(p process) *cobra.Command {
	var o replay.Options
	var shiftTo string
	var stored storedOptions
	cmd := &cobra.Command{
		Use:   "replay FILE|- | --from-table raw|dead_letter",
		Short: "Send stored messages to a server, as Pub/Sub pushes them",
		Long: `Send every line of a file, or of standard input, to a server as Pub/Sub pushes
messages: again and again until it is acknowledged. A line is a push body, or a
bare event, which becomes a push body with its own event time as publish time. (The
field with the time is the pipeline file's; the access log's is timestamp.) The file
may be gzipped. Two equal lines of bare events are two events; the same file
sent again is the same events.

If none of the first hundred lines is a push body or an event, nothing is sent,
since each would be kept as a dead letter; --anyway sends them. (For that a server
is asked about the first bare lines with dry_run=1, which stores nothing.)

A line that is refused with status 400, 401, 403, 404, 405, 413 or 415 is given up
at once, and any other line after --give-up-after; if nothing was acknowledged in
that time, the replay stops. Exits with 1 if a line was not acknowledged.

With --from-table, send what the configured backend has stored instead, each
message once, with the id and publish time it had. That is safe at any time, since
a server counts nothing twice. Replay from dead_letter after the cause was fixed (a
setting, or the rows): what is an event now is counted, and the rest is a dead letter
again. Replay from raw after counters were lost: events are counted in the windows
they were in.`,
		Example: `  tidemark replay testdata/nasa-1995-08-01-a.push.jsonl.gz
  tidemark replay --shift-to now --concurrency 64 events.json
  tail -f access.json | tidemark replay --publish-time now -
  tidemark replay --from-table dead_letter --from 2026-03-14T00:00:00Z`,
		Args: arguments(func(_ *cobra.Command, args []string) error {
			switch {
			case stored.table == "" && len(args) != 1:
				return errors.New("want a file, or - for standard input, or --from-table")
			case stored.table != "" && len(args) > 0:
				return fmt.Errorf("want a file or --from-table, not both: there is %q", args)
			}
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.URL, "url", defaultPushURL, "where to push; "+delivery.TokenVariable+", if set, is sent along")
	flags.IntVar(&o.Concurrency, "concurrency", 16, "messages on their way at once; with 1, strictly in order")
	flags.Float64Var(&o.Rate, "rate", 0, "most messages a second; 0 for no limit")
	flags.StringVar(&o.PublishTime, "publish-time", replay.PublishAtEvent, "publish time of bare events: event (their own time) or now")
	o.Timeout, o.GiveUpAfter = replayTimeout, replayGiveUpAfter
	flags.Var((*durationValue)(&o.Timeout), "timeout", "how long one delivery waits for its answer")
	flags.Var((*durationValue)(&o.GiveUpAfter), "give-up-after", "how long a line is delivered again without success; 0 for no limit")
	flags.BoolVar(&o.Anyway, "anyway", false, "send a file even if none of its first hundred lines is an event")
	flags.StringVar(&shiftTo, "shift-to", "", "now: move all times by one offset, so that the latest publish time is now")
	stored.addFlags(flags)
	settings := settingsFlags(cmd, p, settingsOptions{})
	completeChoices(cmd, "publish-time", replay.PublishAtEvent, replay.PublishNow)
	completeChoices(cmd, "shift-to", "now")
	completeChoices(cmd, "from-table", rawTable, deadLetterTable)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if shiftTo != "" && shiftTo != "now" {
			return usageError{fmt.Errorf("--shift-to=%q: want now", shiftTo)}
		}
		o.ShiftToNow = shiftTo == "now"
		span, err := stored.check()
		if err != nil {
			return usageError{err}
		}
		s, err := settings()
		if err != nil {
			return err
		}
		schema := s.PipelineFile.Schema
		if i := schema.Index(schema.Time); i >= 0 {
			o.Time = schema.Fields[i]
		}
		o.TimeAttribute = cmp.Or(s.EventTime.Attribute(), "timestamp")
		if stored.table == "" {
			return replayFile(cmd.Context(), args[0], o, p)
		}
		return replayStored(cmd.Context(), s, span, o, p)
	}
	return cmd
}

// replayFile replays the named file, or standard input if the name is "-".
func replayFile(ctx context.Context, name string, o replay.Options, p process) error {
	input, closeInput, err := openInput(name, p)
	if err != nil {
		return err
	}
	defer closeInput()
	o.Input = input
	return runReplay(ctx, o, p)
}

// openInput opens the named file, or standard input if the name is "-".
func openInput(name string, p process) (input io.Reader, closeInput func() error, err error) {
	if name == "-" {
		return p.stdin, func() error { return nil }, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return file, file.Close, nil
}

// runReplay replays the input that the options name, and prints the summary.
func runReplay(ctx context.Context, o replay.Options, p process) error {
	o.Token = p.token()
	if err := o.Validate(); err != nil {
		return usageError{err}
	}
	o.Log = p.stderr
	o.Progress = isTerminal(p.stderr)
	summary, err := replay.Run(ctx, o)
	if err != nil && summary.Lines == 0 {
		return err
	}
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
