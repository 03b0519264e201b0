package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/console"
	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

// The choices of Options.PublishTime.
const (
	PublishAtEvent = "event" // a bare event is published at its own time
	PublishNow     = "now"   // a bare event is published when it is sent
)

// minRate is about one line in a quarter of an hour.
const minRate = 0.001

// Options say what to replay, to which server, and how.
type Options struct {
	// Input has the lines to send: see the package comment. Its own goroutine reads it, so
	// that Run can end while a read waits for a terminal or a pipe. After Run has ended
	// early, one read may still be waiting.
	Input io.Reader
	// URL is the push endpoint.
	URL string
	// Token is sent with each message; if it is empty, no token is sent. See
	// [delivery.CheckToken].
	Token string
	// Concurrency is how many messages are sent at once. If it is 1, each message is
	// acknowledged before the next one is sent, in the order of the input.
	Concurrency int
	// Rate is the most lines per second; 0 means no limit. Redeliveries do not count.
	Rate float64
	// PublishTime is the publish time of bare events: PublishAtEvent or PublishNow. Empty
	// means PublishAtEvent.
	PublishTime string
	// Time is the TIMESTAMP field with the time of an event. If it has no name, no event has
	// a time.
	Time event.Field
	// TimeAttribute is the attribute whose time ShiftToNow moves too; empty means none.
	TimeAttribute string
	// ShiftToNow moves all times so that the latest publish time is now.
	ShiftToNow bool
	// Anyway sends the input even if none of its first lines is an event.
	Anyway bool
	// Timeout limits one delivery; 0 means [delivery.AckDeadline].
	Timeout time.Duration
	// GiveUpAfter limits how long a line is delivered again; 0 means no limit.
	GiveUpAfter time.Duration

	// Log receives warnings, and with Progress the progress line; nil discards them.
	Log io.Writer
	// Progress draws a progress line. Log must then be a terminal.
	Progress bool

	// Client sends the requests. If it is nil, Run creates a client for Concurrency, and
	// closes its connections at the end.
	Client *http.Client
	// Now and Sleep are the clock; nil means the real clock. See [delivery.Deliverer].
	Now   func() time.Time
	Sleep func(context.Context, time.Duration) error
}

// Validate returns all problems of the options, joined, with the wrong values.
func (o Options) Validate() error {
	var problems []error
	if o.Input == nil {
		problems = append(problems, errors.New("there is no input"))
	}
	if err := delivery.CheckURL(o.URL); err != nil {
		problems = append(problems, fmt.Errorf("url: %w", err))
	} else if err := delivery.CheckToken(o.URL, o.Token); err != nil {
		problems = append(problems, fmt.Errorf("url: %w", err))
	}
	if o.Concurrency < 1 {
		problems = append(problems, fmt.Errorf("concurrency is %d, want at least 1", o.Concurrency))
	}
	if o.Rate != 0 && !(o.Rate >= minRate) { // also if it is not a number
		problems = append(problems, fmt.Errorf("rate is %v a second, want 0 for no limit, or at least %v", o.Rate, minRate))
	}
	if o.Timeout < 0 || o.GiveUpAfter < 0 {
		problems = append(problems, fmt.Errorf("the time limits are %s and %s, want 0 or more", durations.Text(o.Timeout), durations.Text(o.GiveUpAfter)))
	}
	switch o.PublishTime {
	case "", PublishAtEvent, PublishNow:
	default:
		problems = append(problems, fmt.Errorf("publish time is %q, want %s or %s", o.PublishTime, PublishAtEvent, PublishNow))
	}
	return errors.Join(problems...)
}

// Run sends every line of the input until the line is acknowledged, refused (see
// [delivery.RefusedError]) or given up, or ctx ends. The summary covers everything that was
// done, also if there is an error. The error says why Run did not finish: bad options, a read
// that failed, a file without events, a server that acknowledges nothing, or ctx's error.
// Refused lines are not an error: see Summary.NotAcknowledged.
func Run(ctx context.Context, options Options) (Summary, error) {
	if err := options.Validate(); err != nil {
		return Summary{}, err
	}
	r := newRun(options)
	start := r.now()
	err := r.run(ctx)
	r.console.Close()
	if options.Client == nil {
		r.deliverer.Client.CloseIdleConnections()
	}
	return r.tally.summary(r.now().Sub(start)), err
}

// A run is the state of one call of Run.
type run struct {
	options   Options
	now       func() time.Time
	sleep     func(context.Context, time.Duration) error
	deliverer *delivery.Deliverer
	tally     *tally
	progress  progress
	console   *console.Console
	stop      context.CancelCauseFunc // ends the run, and records the reason

	finished    atomic.Int64 // lines acknowledged or refused
	withoutTime sync.Once    // warns of events that are published now
}

func newRun(options Options) *run {
	r := &run{options: options, now: options.Now, sleep: options.Sleep, tally: newTally()}
	if r.now == nil {
		r.now = time.Now
	}
	if r.sleep == nil {
		r.sleep = delivery.Sleep
	}
	log := options.Log
	if log == nil {
		log = io.Discard
	}
	r.progress.start = r.now()
	var line func(time.Time) string
	if options.Progress {
		r.progress.size = sizeOf(options.Input)
		line = r.progress.line
	}
	r.console = console.New(log, r.now, line)
	client := options.Client
	if client == nil {
		client = delivery.NewClient(options.Concurrency)
	}
	r.deliverer = &delivery.Deliverer{
		URL: options.URL, Token: options.Token, Client: client, Timeout: options.Timeout, GiveUpAfter: options.GiveUpAfter, Now: r.now, Sleep: r.sleep,
	}
	return r
}

// run reads lines and passes them to the workers, one at a time, until the input or ctx ends.
// It returns when the workers are done.
func (r *run) run(ctx context.Context) error {
	ctx, r.stop = context.WithCancelCause(ctx)
	defer r.stop(nil)
	work := make(chan job)
	var workers sync.WaitGroup
	for range r.options.Concurrency {
		workers.Go(func() {
			for j := range work {
				r.send(ctx, j)
			}
		})
	}
	err := r.feed(ctx, r.read(ctx), work)
	close(work)
	workers.Wait()
	if err == nil && ctx.Err() != nil && r.tally.unfinished() {
		err = stopped(ctx, " after the last line was sent")
	}
	return err
}

// feed passes jobs to the workers until the source or ctx ends.
func (r *run) feed(ctx context.Context, source source, work chan<- job) error {
	pace := pacer{rate: r.options.Rate, now: r.now, sleep: r.sleep}
	for {
		j, err := source.next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r.tally.line()
		if pace.wait(ctx) == nil {
			select {
			case work <- j:
				continue
			case <-ctx.Done():
			}
		}
		return stopped(ctx, " at "+j.subject())
	}
}

// stopped returns an error that says why ctx ended, and at which place of the input.
func stopped(ctx context.Context, where string) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		return &delivery.PlainError{Text: "interrupted" + where, Cause: cause}
	}
	return fmt.Errorf("stopped%s: %w", where, cause)
}

// A job is a line and what to do with it.
type job struct {
	line  line
	copy  int   // its number among equal lines, from 1; 0 for a push body
	shift int64 // seconds to move its times by
}

func (j job) subject() string { return fmt.Sprintf("line %d", j.line.number) }

// A source delivers the jobs of the input. After the last job it delivers the error that
// ended the reading, which is io.EOF if all lines were read.
type source struct {
	jobs <-chan job
	err  <-chan error
}

// next returns the next job, or io.EOF after the last job. If ctx ends, it returns an error at
// once, even while a read is waiting.
func (s source) next(ctx context.Context) (job, error) {
	select {
	case j, ok := <-s.jobs:
		if ctx.Err() != nil {
			return job{}, stopped(ctx, "")
		}
		if !ok {
			return job{}, <-s.err
		}
		return j, nil
	case <-ctx.Done():
		return job{}, stopped(ctx, "")
	}
}

// read starts a goroutine that reads the input until the input or ctx ends.
func (r *run) read(ctx context.Context) source {
	jobs := make(chan job)
	done := make(chan error, 1)
	go func() {
		defer close(jobs)
		done <- r.readInto(ctx, jobs)
	}()
	return source{jobs: jobs, err: done}
}

func (r *run) readInto(ctx context.Context, jobs chan<- job) error {
	input := r.options.Input
	var shift int64
	if r.options.ShiftToNow {
		again, start, release, err := rereadable(input)
		if err != nil {
			return err
		}
		defer release()
		if shift, err = r.findShift(ctx, again); err != nil {
			return err
		}
		if _, err := again.Seek(start, io.SeekStart); err != nil {
			return fmt.Errorf("read the input a second time: %w", err)
		}
		input = again
	}
	lines, err := newLineReader(input)
	if err != nil {
		return err
	}
	head, equals := head{}, copies{}
	for {
		l, err := lines.next()
		if errors.Is(err, io.EOF) {
			return cmp.Or(head.none(), err)
		}
		if err != nil {
			return err
		}
		j := job{line: l, copy: equals.number(l.text), shift: shift}
		ready, err := r.begin(ctx, &head, j)
		if err != nil {
			return err
		}
		for _, j := range ready {
			select {
			case jobs <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// findShift reads the whole input and returns by how many seconds its times move.
func (r *run) findShift(ctx context.Context, input io.Reader) (int64, error) {
	latest, found, err := latestTime(ctx, input, r.options.Time)
	if err != nil {
		return 0, err
	}
	if !found {
		r.console.Printf("no line has a time, so none is moved")
		return 0, nil
	}
	shift := offsetTo(r.now(), latest)
	r.console.Printf("all times are moved by %d seconds: the latest, %s, becomes %s",
		shift, event.FormatTime(latest), event.FormatTime(time.Unix(latest.Unix()+shift, int64(latest.Nanosecond()))))
	return shift, nil
}

// send delivers one line and records the outcome.
func (r *run) send(ctx context.Context, j job) {
	defer r.console.Update(func() { r.progress.done(j.line.consumed) })
	if j.line.tooLong {
		r.console.GivenUp(j.subject(), fmt.Sprintf("longer than %d bytes, not sent", maxLine))
		return
	}
	// Each line gets a copy of the deliverer, so that Observe can name the line.
	deliverer := *r.deliverer
	deliverer.Observe = func(a delivery.Attempt) {
		r.tally.attempt(a)
		r.warn(ctx, j, a)
	}
	finished := r.finished.Load()
	a, err := deliverer.Deliver(ctx, r.body(j))
	var refused *delivery.RefusedError
	var gaveUp *delivery.GaveUpError
	switch {
	case err == nil:
		r.tally.acknowledged(a)
		r.finished.Add(1)
	case errors.As(err, &refused):
		r.console.GivenUp(j.subject(), refused.Attempt.String())
		r.finished.Add(1)
	case errors.As(err, &gaveUp):
		r.console.GivenUp(j.subject(), gaveUp.Error())
		if r.finished.Load() == finished { // no other line was finished either
			r.stop(fmt.Errorf("no line was acknowledged for %s; is this the right server? (--give-up-after sets that time)", durations.Text(gaveUp.After)))
		}
	}
}

// warn reports a failed attempt at a line, unless it failed because ctx ended.
func (r *run) warn(ctx context.Context, j job, a delivery.Attempt) {
	if ctx.Err() == nil {
		r.console.Observe(j.subject(), a)
	}
}

// body returns the push body of a line.
func (r *run) body(j job) []byte {
	text := j.line.text
	if r.options.ShiftToNow {
		text = shift{r.options.Time, r.options.TimeAttribute, j.shift}.line(text)
	}
	if j.copy == 0 {
		return text
	}
	published := r.now()
	if r.options.PublishTime != PublishNow {
		t, ok := r.options.Time.TimeIn(text)
		if ok {
			published = t
		} else if kind, _ := classify(text); kind == bareEvent && r.options.Time.Name != "" {
			r.withoutTime.Do(func() {
				r.console.Printf("%s has no time in %q, so it is published now, as are later lines like it; --pipeline-file names the field with the time", j.subject(), r.options.Time.Key())
			})
		}
	}
	return pushBodyOf(text, j.copy, published)
}

// A pacer spaces lines evenly. Only one goroutine may use it.
type pacer struct {
	rate  float64 // lines per second; 0 means no limit
	now   func() time.Time
	sleep func(context.Context, time.Duration) error
	next  time.Time // when the next line is due
}

// maxCatchUp is how much lost time a pacer makes up for: enough for a timer that fires late,
// but too little for a burst after the server was unavailable.
const maxCatchUp = 100 * time.Millisecond

// wait waits until the next line is due.
func (p *pacer) wait(ctx context.Context) error {
	if p.rate == 0 {
		return nil
	}
	now := p.now()
	if p.next.IsZero() {
		p.next = now
	}
	if earliest := now.Add(-maxCatchUp); p.next.Before(earliest) {
		p.next = earliest
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(float64(time.Second) / p.rate))
	if wait <= 0 {
		return nil
	}
	return p.sleep(ctx, wait)
}
