package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
	"github.com/tidemark-dev/tidemark/internal/lab/generator"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/window"
)

// devDefaults are the settings for which dev has other defaults: with them, the user sees
// final windows and late events within two minutes. With an allowed lateness of zero, as
// in the lab's pipeline, nearly every window of a stream with lag has late events.
var devDefaults = map[string]string{"ALLOWED_LATENESS": "0s", "LOG_LEVEL": "warn"}

func devCommand(p process) *cobra.Command {
	stream := generator.Default()
	stream.Lag, stream.Duplicates, stream.Malformed = true, 0.02, 0.005
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine and watch: server, generator, flush",
		Long: `Run the server, a generator that pushes the lab's event stream to it, and a flush
every 10 s, and say what happens: a line a minute for the windows that are still
open, with the events that came late since the line before, and a line for each
window that becomes final or, after that, gets more.

ALLOWED_LATENESS is 0s unless it is set, as in the lab's pipeline, so that about
one event in ten is late. Of the stream, one message in 50 is delivered twice, and
one in 200 is no valid event.`,
		Example: `  tidemark dev
  tidemark dev --window-duration 10s --rate 600 --lag=false`,
		Args: arguments(cobra.NoArgs),
	}
	settings := settingsFlags(cmd, p, settingsOptions{defaults: devDefaults, server: true})
	check := streamFlags(cmd.Flags(), &stream)
	every := 10 * time.Second
	cmd.Flags().Var((*durationValue)(&every), "flush-interval", "time between two flushes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := settings()
		if err == nil {
			err = check()
		}
		if err != nil {
			return err
		}
		if s.Auth != "none" {
			return usageError{fmt.Errorf("AUTH=%s: dev calls its own server, and has no token; leave it out", s.Auth)}
		}
		if every <= 0 {
			return usageError{fmt.Errorf("--flush-interval=%s: want more than 0", durations.Text(every))}
		}
		return dev(cmd.Context(), s, stream, every, p)
	}
	return cmd
}

// dev runs the server, the generator and the flushes until ctx ends or one of
// them fails.
func dev(ctx context.Context, s settings.Settings, stream generator.Config, every time.Duration, p process) error {
	return withListener(ctx, s, newLogger(p, s), func(service *service.Service, listener net.Listener) error {
		d := newDevRun(s, serverURL(listener), p.stdout)
		d.service = service
		service.Watch(d.observe)
		d.introduce(stream, every, time.Now())
		err := besideServer(ctx, service, listener, func(ctx context.Context) error {
			flushes, stop := context.WithCancel(ctx)
			var running sync.WaitGroup
			running.Go(func() { d.flushEvery(flushes, every) })
			err := d.generate(ctx, stream)
			stop()
			running.Wait()
			return err
		})
		fmt.Fprintf(p.stdout, "\nStopped. What is counted is kept in %s: the next flush writes the windows that were open.\n", s.DataDir)
		return err
	})
}

// besideServer runs f beside the server and returns when both have ended. When one ends,
// the other is stopped.
func besideServer(ctx context.Context, service *service.Service, listener net.Listener, f func(context.Context) error) error {
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	running, stopRunning := context.WithCancel(ctx)
	defer stopRunning()
	served := make(chan error, 1)
	go func() {
		served <- service.Serve(serving, listener)
		stopRunning()
	}()
	err := f(running)
	stopServing()
	return errors.Join(err, <-served)
}

// A devRun is the state behind the lines that dev prints.
type devRun struct {
	service  *service.Service
	settings settings.Settings
	windows  window.Fixed
	url      string
	out      io.Writer

	mu          sync.Mutex
	late        map[time.Time]map[string]bool // ids of late events by window
	untold      map[time.Time]int             // late events that no line has reported, by window
	final       map[time.Time]int64           // page views that were reported for final windows
	deadLetters int                           // since the last line about open windows
	toldAt      time.Time                     // the time of that line; zero before the first
}

func newDevRun(s settings.Settings, url string, out io.Writer) *devRun {
	return &devRun{
		settings: s, url: url, out: out,
		windows: window.Fixed{Duration: s.WindowDuration, AllowedLateness: s.AllowedLateness},
		late:    map[time.Time]map[string]bool{},
		untold:  map[time.Time]int{},
		final:   map[time.Time]int64{},
	}
}

// generate pushes the stream to the server until ctx ends, as Pub/Sub would.
func (d *devRun) generate(ctx context.Context, stream generator.Config) error {
	client := delivery.NewClient(generator.DefaultConcurrency)
	defer client.CloseIdleConnections()
	deliverer := &delivery.Deliverer{URL: d.url + "/push", Client: client}
	return generator.Run(ctx, stream, generator.Options{
		Publish: func(ctx context.Context, delivery generator.Delivery) error {
			_, err := deliverer.Deliver(ctx, envelope.Encode(delivery.Message))
			return err
		},
	})
}

// observe notes the verdict of a stored message.
func (d *devRun) observe(v event.Verdict) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch v.Status {
	case event.DeadLetter:
		d.deadLetters++
	case event.Late:
		if d.late[v.Window] == nil {
			d.late[v.Window] = map[string]bool{}
		}
		if !d.late[v.Window][v.EventID] {
			d.late[v.Window][v.EventID] = true
			d.untold[v.Window]++
		}
	}
}

// introduce prints what will happen and when, and what the user can try.
func (d *devRun) introduce(stream generator.Config, every time.Duration, now time.Time) {
	s := d.settings
	lag := "They publish at once: try --lag for users who go offline."
	if stream.Lag {
		lag = "They go offline now and then and publish what they did when they are back, so some events arrive late."
	}
	published := fmt.Sprintf("at most %s after the window's end", durations.Text(s.AllowedLateness))
	if s.AllowedLateness == 0 {
		published = "before the window's end"
	}
	fmt.Fprintf(d.out, `Tidemark counts page views per %s, exactly. Everything runs on this machine; Ctrl-C stops it.

%d users make about %.0f events a minute and push them to %s/push.
%s%s
An event counts in the window in which it happened, if it is published %s;
later it is late: stored, but not counted. Times are UTC, and it is %s now.
`, durations.Text(s.WindowDuration), stream.Users, stream.Rate, d.url, lag, onPurpose(stream), published, clock(now))
	start := d.windows.Start(now)
	fmt.Fprintf(d.out, `
  %s  the window that began at %s ends; it is the first, and not a whole one
  %s  it closes: its events are late from now on
  %s  it is due: one of the flushes, which run every %s, makes it final
`, clock(d.windows.End(start)), clock(start), clock(d.windows.DueAt(start, 0)), clock(d.windows.DueAt(start, s.FlushQuiet)), durations.Text(every))
	ago := 2 * (s.WindowDuration + s.AllowedLateness)
	fmt.Fprintf(d.out, `
In another terminal, make a late event now, of %[4]s ago (what does the answer say it is?):

  curl -s %[2]s/push/raw -d '{"ip": "198.51.100.23", "user_id": "1", "timestamp": "%[3]s",
    "http_request": "", "http_response": 200, "num_bytes": 1, "user_agent": "curl"}'

And look into the tables:

  sqlite3 %[1]s/warehouse.db 'SELECT timestamp, page_views FROM windowed_traffic ORDER BY timestamp'
  sqlite3 %[1]s/warehouse.db 'SELECT window_start, publish_time, user_id FROM events WHERE is_late'
  sqlite3 %[1]s/warehouse.db 'SELECT reason, error FROM dead_letters'
  curl -s %[2]s/audit      # the windows whose count differs from the raw rows: none
  curl -s %[2]s/metrics

`, s.DataDir, d.url, event.FormatTime(now.Add(-ago)), durations.Text(ago))
}

// onPurpose returns the faults that the stream has on purpose, in words.
func onPurpose(stream generator.Config) string {
	var faults []string
	fault := func(share float64, text string) {
		if share > 0 {
			faults = append(faults, fmt.Sprintf("one message in %.3g is %s", 1/share, text))
		}
	}
	fault(stream.Malformed, "spoilt, which makes it a dead letter")
	fault(stream.Duplicates, "delivered twice, and counted once")
	if faults == nil {
		return ""
	}
	return "\nOn purpose " + strings.Join(faults, ",\nand ") + "."
}

// flushEvery flushes at every multiple of the interval until ctx ends. Once a minute it
// prints the line about open windows.
func (d *devRun) flushEvery(ctx context.Context, every time.Duration) {
	for {
		next := time.Now().Truncate(every).Add(every)
		if delivery.Sleep(ctx, time.Until(next)) != nil {
			return
		}
		d.flush(ctx)
		if next.Truncate(time.Minute).Equal(next) || every > time.Minute {
			d.tellOpen(ctx, next)
		}
	}
}

func (d *devRun) flush(ctx context.Context) {
	report := d.service.Flush(ctx)
	d.tellFlush(report)
	if ctx.Err() != nil {
		return // errors after the end are expected
	}
	for _, err := range report.Errors {
		fmt.Fprintf(d.out, "%s  flush: %v\n", clock(report.ReadTime), err)
	}
}

// tellFlush prints a line for each window that has become final or has grown since. A
// redelivery can cause a window to be written again with the same count; such a window
// gets no line.
func (d *devRun) tellFlush(report flush.Report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := clock(report.ReadTime)
	for _, w := range report.Windows {
		told, again := d.final[w.Start]
		switch {
		case !w.Final:
			fmt.Fprintf(d.out, "%s  early  %s  %4d page views so far\n", at, clock(w.Start), w.PageViews)
			continue
		case !again:
			fmt.Fprintf(d.out, "%s  final  %s  %4d page views, %d late\n", at, clock(w.Start), w.PageViews, len(d.late[w.Start]))
			delete(d.untold, w.Start)
		case w.PageViews > told:
			fmt.Fprintf(d.out, "%s  more   %s  %4d page views\n", at, clock(w.Start), w.PageViews)
		}
		d.final[w.Start] = max(told, w.PageViews)
	}
}

// tellOpen prints a line about the windows that are not yet final, with the late events
// and the dead letters since the last such line.
func (d *devRun) tellOpen(ctx context.Context, now time.Time) {
	open, err := d.service.OpenWindows(ctx)
	if err != nil {
		if ctx.Err() == nil {
			fmt.Fprintf(d.out, "%s  open windows: %v\n", clock(now), err)
		}
		return
	}
	var texts []string
	for _, w := range open {
		texts = append(texts, fmt.Sprintf("%s  %4d page views so far", clock(w.Start), w.PageViews))
	}
	if texts == nil {
		texts = []string{"none"}
	}
	fmt.Fprintf(d.out, "%s  open   %s%s\n", clock(now), strings.Join(texts, "; "), d.takeAside(now))
}

// takeAside returns, in words, the late events and dead letters that no line has
// reported. It forgets the windows that are too old to appear in a line again.
func (d *devRun) takeAside(now time.Time) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	aside := ""
	if d.deadLetters > 0 {
		aside = fmt.Sprintf("; dead letters: %d", d.deadLetters)
	}
	if late := d.takeUntold(now); late != "" {
		since := ""
		if !d.toldAt.IsZero() {
			since = " since " + clock(d.toldAt)
		}
		aside += "; late" + since + ": " + late
	}
	d.deadLetters, d.toldAt = 0, now
	old := func(start time.Time) bool {
		return d.windows.DueAt(start, d.settings.FlushQuiet+d.settings.FlushHoldMax+time.Hour).Before(now)
	}
	maps.DeleteFunc(d.late, func(start time.Time, _ map[string]bool) bool { return old(start) })
	maps.DeleteFunc(d.final, func(start time.Time, _ int64) bool { return old(start) })
	return aside
}

// takeUntold returns the late events of windows for which no further "final" line will be
// printed.
func (d *devRun) takeUntold(now time.Time) string {
	var texts []string
	for _, start := range slices.SortedFunc(maps.Keys(d.untold), time.Time.Compare) {
		if !d.windows.DueAt(start, d.settings.FlushQuiet).After(now) {
			texts = append(texts, fmt.Sprintf("%d in %s", d.untold[start], clock(start)))
			delete(d.untold, start)
		}
	}
	return strings.Join(texts, ", ")
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05") }
