package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/console"
	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
	"github.com/tidemark-dev/tidemark/internal/lab/generator"
)

// streamFlags adds the flags of the generated stream to a command. After the flags are
// parsed, the returned function reads them into config.
func streamFlags(flags *pflag.FlagSet, config *generator.Config) func() error {
	flags.BoolVar(&config.Lag, "lag", config.Lag, "users go offline now and then, and publish what they did when they are back")
	flags.IntVar(&config.Users, "users", config.Users, "number of users")
	flags.Float64Var(&config.Rate, "rate", config.Rate, "events a minute, all users together")
	flags.Uint64Var(&config.Seed, "seed", 0, "the same seed makes the same stream; without, every run differs")
	flags.Float64Var(&config.Malformed, "malformed", config.Malformed, "share of messages that are no valid event, 0 to 1")
	flags.Float64Var(&config.Duplicates, "duplicates", config.Duplicates, "share of messages that are delivered twice, 0 to 1")
	return func() error {
		if !flags.Changed("seed") {
			config.Seed = rand.Uint64()
		}
		if err := config.Validate(); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// settled is how far back the end of a stream lies if the stream is printed at once. With
// default settings, every window of such a stream is due.
const settled = 5 * time.Minute

func generateCommand(p process) *cobra.Command {
	config := generator.Default()
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Generate the lab's event stream: page views of some users, with or without lag",
		Long: `Generate the lab's event stream and deliver it to a server as Pub/Sub does (--url:
again and again until each message is acknowledged), or publish it to a Pub/Sub
topic (--topic), or print it as push bodies, one a line, as replay reads them
(--stdout).

With --url and --topic a failure is told at once, and on a terminal a line shows each
second how far the stream is.

Runs until --count or --duration is reached or it is interrupted, and publishes
what its users still hold before it exits. A stream that is printed and has an end,
or a start, is generated at once, not in real time: without --start it is a past stream,
which ended five minutes ago; with a start and no end it goes on until it is
interrupted. Interrupted, such a stream ends with a whole line, wherever it is.

A topic's messages have one attribute, timestamp, with the event's time, as the
lab's have. Pub/Sub gives each message an id and a publish time of its own, so one
of --duplicates, published twice, is two messages there: a server counts it twice
with EVENT_ID=message, the default. The credentials are those of the environment,
or none where PUBSUB_EMULATOR_HOST names an emulator. A message is tried for half
a minute; after an interrupt, what is under way may take as long.

Exits with 1 if a message was not acknowledged, or not accepted by the topic; an
interrupt is a normal end.`,
		Example: `  tidemark generate --url http://127.0.0.1:8080/push --lag
  tidemark generate --topic projects/my-project/topics/my-topic --lag --malformed 0.01
  tidemark generate --stdout --seed 7 --count 20000 --lag --duplicates 0.02 | tidemark replay -`,
		Args: arguments(cobra.NoArgs),
	}
	flags := cmd.Flags()
	check := streamFlags(flags, &config)
	target := flags.String("url", "", "push endpoint to deliver to, as "+defaultPushURL+"; "+delivery.TokenVariable+", if set, is sent along")
	topicName := flags.String("topic", "", "Pub/Sub topic to publish to, as projects/my-project/topics/my-topic")
	emulator := emulatorFlag(flags, p)
	toStdout := flags.Bool("stdout", false, "print push bodies")
	start := flags.String("start", "", "with --stdout: when the stream starts, as 2026-03-14T09:26:00Z")
	flags.IntVar(&config.Count, "count", 0, "end after so many messages; 0 for no limit")
	flags.Var((*durationValue)(&config.Duration), "duration", "end after so long; 0 for no limit")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if count(*target != "", *topicName != "", *toStdout) != 1 {
			return usageError{errors.New("want exactly one of --url, --topic and --stdout")}
		}
		if *start != "" && !*toStdout {
			return usageError{errors.New("--start goes with --stdout")}
		}
		if *start != "" {
			if config.Start, err = event.ParseTime(*start); err != nil {
				return usageError{fmt.Errorf("--start: %w", err)}
			}
		}
		if err := check(); err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "the seed is %d\n", config.Seed)
		if *toStdout {
			return printStream(cmd.Context(), config, p.stdout)
		}
		if *topicName != "" {
			to, err := parseTopic(*topicName)
			var emulatorErr error
			to.emulator, emulatorErr = emulator()
			if err := errors.Join(err, emulatorErr); err != nil {
				return usageError{err}
			}
			return publishStream(cmd.Context(), config, to, p)
		}
		if err := delivery.CheckURL(*target); err != nil {
			return usageError{fmt.Errorf("--url: %w", err)}
		}
		if err := delivery.CheckToken(*target, p.token()); err != nil {
			return usageError{fmt.Errorf("--url: %w", err)}
		}
		return deliverStream(cmd.Context(), config, *target, p)
	}
	return cmd
}

// count returns how many of the conditions are true.
func count(conditions ...bool) (n int) {
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

// printStream prints a stream as push bodies: at once if the stream has an end or a
// start, else in real time. The end of ctx ends the stream without an error.
func printStream(ctx context.Context, config generator.Config, out io.Writer) error {
	if config.Count == 0 && config.Duration == 0 && config.Start.IsZero() {
		return generator.Run(ctx, config, generator.Options{
			Concurrency: 1,
			Publish: func(_ context.Context, d generator.Delivery) error {
				return printBody(out, d)
			},
		})
	}
	stream, err := generator.Simulate(ctx, config, time.Now().Add(-settled))
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return usageError{err}
	}
	buffered := bufio.NewWriter(out)
	for d := range stream {
		if ctx.Err() != nil {
			break
		}
		if err := printBody(buffered, d); err != nil {
			return err
		}
	}
	return buffered.Flush()
}

func printBody(out io.Writer, d generator.Delivery) error {
	if _, err := fmt.Fprintf(out, "%s\n", envelope.Encode(d.Message)); err != nil {
		return fmt.Errorf("print the stream: %w", err)
	}
	return nil
}

// deliverStream delivers a stream in real time. At the end it prints how many messages
// were accepted and refused.
func deliverStream(ctx context.Context, config generator.Config, target string, p process) error {
	client := delivery.NewClient(generator.DefaultConcurrency)
	defer client.CloseIdleConnections()
	watched := watchStream(ctx, p, "deliveries acknowledged")
	err := generator.Run(ctx, config, generator.Options{
		Publish: watched.publish(func(ctx context.Context, d generator.Delivery) error {
			subject := "message " + d.Message.ID
			deliverer := &delivery.Deliverer{URL: target, Token: p.token(), Client: client}
			deliverer.Observe = func(a delivery.Attempt) {
				if ctx.Err() == nil {
					watched.console.Observe(subject, a)
				}
			}
			_, err := deliverer.Deliver(ctx, envelope.Encode(d.Message))
			var refusal *delivery.RefusedError
			if errors.As(err, &refusal) {
				watched.console.GivenUp(subject, refusal.Attempt.String())
				return errRefused
			}
			return err
		}),
	})
	return watched.end(err)
}

// errRefused is returned for a message that the receiver refuses. It does not end the
// stream.
var errRefused = errors.New("refused")

// A watchedStream counts the outcomes of a stream's messages and shows the user the
// progress.
type watchedStream struct {
	out     io.Writer
	success string // name of the accepted ones, as "messages accepted"
	console *console.Console
	stop    func()

	start                    time.Time
	begun, accepted, refused atomic.Int64
}

// progressInterval is the time between two updates of the progress line on a terminal.
const progressInterval = time.Second

// watchStream starts to show the progress. The caller must call end.
func watchStream(ctx context.Context, p process, success string) *watchedStream {
	w := &watchedStream{out: p.stderr, success: success, start: time.Now()}
	if !isTerminal(p.stderr) {
		w.console, w.stop = console.New(p.stderr, time.Now, nil), func() {}
		return w
	}
	w.console = console.New(p.stderr, time.Now, w.line)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var drawing sync.WaitGroup
	drawing.Go(func() { w.console.DrawEvery(ctx, progressInterval) })
	w.stop = func() {
		cancel()
		drawing.Wait()
	}
	return w
}

// publish returns f with its outcomes counted.
func (w *watchedStream) publish(f func(context.Context, generator.Delivery) error) func(context.Context, generator.Delivery) error {
	return func(ctx context.Context, d generator.Delivery) error {
		w.begun.Add(1)
		err := f(ctx, d)
		switch {
		case err == nil:
			w.accepted.Add(1)
		case errors.Is(err, errRefused):
			w.refused.Add(1)
			return nil
		}
		return err
	}
}

// line returns the progress line.
func (w *watchedStream) line(now time.Time) string {
	accepted, refused := w.accepted.Load(), w.refused.Load()
	return fmt.Sprintf("%s: %d %s, %d on their way, %d refused",
		durations.Text(now.Sub(w.start).Round(time.Second)), accepted, w.success, w.begun.Load()-accepted-refused, refused)
}

// end prints the totals of the stream. It returns the stream's error, or an error if a
// message was refused.
func (w *watchedStream) end(err error) error {
	w.stop()
	w.console.Close()
	fmt.Fprintf(w.out, "%d %s, %d refused\n", w.accepted.Load(), w.success, w.refused.Load())
	if err == nil && w.refused.Load() > 0 {
		return errNo
	}
	return err
}
