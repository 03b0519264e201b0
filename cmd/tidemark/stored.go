package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"time"

	"github.com/spf13/pflag"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/lab/replay"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// The tables that can be replayed. These words are used even if a setting gives the table
// another name.
const (
	rawTable        = "raw"
	deadLetterTable = "dead_letter"
)

// storedOptions are the flags that choose stored messages to send. The table is empty if
// the command sends no stored messages.
type storedOptions struct{ table, from, to string }

func (o *storedOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.table, "from-table", "", "send what is stored in a table of the configured backend: raw or dead_letter")
	flags.StringVar(&o.from, "from", "", "with --from-table: what was stored from this time on, as 2026-03-14T09:26:00Z (default the beginning)")
	flags.StringVar(&o.to, "to", "", "with --from-table: what was stored before this time (default no end)")
}

// A storedSpan is a part of a table: the messages stored in [from, to). A zero to means
// that the span has no end.
type storedSpan struct {
	table    string
	from, to time.Time
}

// check returns the span that the flags choose, or everything that is wrong with the
// flags.
func (o *storedOptions) check() (storedSpan, error) {
	span := storedSpan{table: o.table}
	var problems []error
	switch {
	case o.table == "" && (o.from != "" || o.to != ""):
		problems = append(problems, errors.New("--from and --to go with --from-table"))
	case o.table != "" && o.table != rawTable && o.table != deadLetterTable:
		problems = append(problems, fmt.Errorf("--from-table=%q: want %s or %s", o.table, rawTable, deadLetterTable))
	}
	var err error
	span.from, span.to, err = parseSpan(o.from, o.to, time.Time{})
	return span, errors.Join(append(problems, err)...)
}

// replayStored replays stored messages of the configured backend.
func replayStored(ctx context.Context, s settings.Settings, span storedSpan, o replay.Options, p process) (err error) {
	tables, err := service.OpenWarehouse(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tables.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	input, stop := pushBodies(storedMessages(ctx, tables, span, s))
	defer stop()
	defer cancel() // runs before stop, so that stop does not wait for a long query
	o.Input = input
	return runReplay(ctx, o, p)
}

// storedMessages yields the messages of the span.
func storedMessages(ctx context.Context, tables warehouse.Archive, span storedSpan, s settings.Settings) iter.Seq2[event.Message, error] {
	return func(yield func(event.Message, error) bool) {
		if span.table == deadLetterTable {
			for letter, err := range tables.DeadLetters(ctx, span.from, span.to) {
				m := letter.Message
				// The message came unwrapped, so all headers of its request became
				// attributes. Only the attributes that settings name matter for the
				// verdict.
				if m.CheckLimits() != nil {
					maps.DeleteFunc(m.Attributes, func(name, _ string) bool { return name != s.EventID.Attribute() && name != s.EventTime.Attribute() })
				}
				if !yield(m, err) {
					return
				}
			}
			return
		}
		for row, err := range tables.RawRows(ctx, span.from, span.to) {
			var m event.Message
			if err == nil {
				m, err = row.Message(s.PipelineFile.Schema, s.EventID, s.EventTime)
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// pushBodies returns a reader of the messages as push bodies, one a line. Each body is
// created when it is read. An error of the messages becomes an error of the reader. After
// stop has returned, pushBodies no longer uses the messages.
func pushBodies(messages iter.Seq2[event.Message, error]) (bodies io.Reader, stop func()) {
	reader, writer := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		writer.CloseWithError(writeBodies(writer, messages))
	}()
	return reader, func() {
		reader.Close() // ends a write that is waiting to be read
		<-done
	}
}

func writeBodies(w io.Writer, messages iter.Seq2[event.Message, error]) error {
	for m, err := range messages {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("it takes too long; narrow it by --from and --to, and replay one part after the other: %w", err)
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(append(envelope.Encode(m), '\n')); err != nil {
			return err
		}
	}
	return nil
}
