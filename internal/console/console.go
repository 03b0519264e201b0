// Package console writes to the user who watches a command that delivers messages:
// warnings, and below them a progress line, which makes way for a warning and is
// drawn again after it.
package console

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

const (
	warningInterval  = 5 * time.Second        // between two warnings of the same kind
	progressInterval = 100 * time.Millisecond // between two drawings by Update
	maxRefusals      = 5                      // refusals that are printed in full
)

// A Console writes warnings and the progress line. Write errors are dropped: they must
// not stop a delivery. It may be used by many goroutines.
type Console struct {
	now func() time.Time

	mu     sync.Mutex
	w      io.Writer
	closed bool

	warned   map[int]time.Time // by HTTP status, 0 without answer: when last
	refusals int

	progress func(now time.Time) string // nil is no progress line
	drawnAt  time.Time                  // zero before the first drawing
}

// New returns a console that writes to w. With progress it draws what that returns,
// for a w that is a terminal; progress is called while no Update runs.
func New(w io.Writer, now func() time.Time, progress func(now time.Time) string) *Console {
	return &Console{w: w, now: now, warned: map[int]time.Time{}, progress: progress}
}

// Printf writes one line.
func (c *Console) Printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.print(fmt.Sprintf(format, args...))
}

// print writes one line. The caller holds mu.
func (c *Console) print(text string) {
	if c.closed {
		return // a goroutine that outlived its run has nothing more to tell
	}
	c.erase()
	fmt.Fprintln(c.w, text)
	if c.drawn() {
		fmt.Fprint(c.w, c.progress(c.now()))
	}
}

// Observe warns of an attempt that will be made again: the first of its kind at
// once, and then one in five seconds, since an unreachable server fails every
// attempt. The subject is what was to be delivered.
func (c *Console) Observe(subject string, a delivery.Attempt) {
	if a.Acknowledged() || a.Hopeless() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if last, ok := c.warned[a.Status]; ok && now.Sub(last) < warningInterval {
		return
	}
	c.warned[a.Status] = now
	c.print(fmt.Sprintf("%s, attempt %d: %v; trying again", subject, a.Number, a))
}

// GivenUp tells of something that is delivered no more: the first few times, and
// then that there are more.
func (c *Console) GivenUp(subject, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals++
	switch {
	case c.refusals <= maxRefusals:
		c.print(fmt.Sprintf("%s, given up: %s", subject, why))
	case c.refusals == maxRefusals+1:
		c.print("more are given up; they are counted at the end")
	}
}

// Update runs change, which may change what the progress line shows, and draws the
// line unless it was drawn a moment ago.
func (c *Console) Update(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	if now := c.now(); now.Sub(c.drawnAt) >= progressInterval {
		c.draw(now)
	}
}

// DrawEvery draws the progress line again and again until ctx ends.
func (c *Console) DrawEvery(ctx context.Context, interval time.Duration) {
	for delivery.Sleep(ctx, interval) == nil {
		c.mu.Lock()
		c.draw(c.now())
		c.mu.Unlock()
	}
}

func (c *Console) draw(now time.Time) {
	if c.progress == nil || c.closed {
		return
	}
	c.drawnAt = now
	fmt.Fprint(c.w, eraseLine+c.progress(now))
}

// eraseLine returns the cursor to the line's beginning and clears it.
const eraseLine = "\r\x1b[K"

func (c *Console) drawn() bool { return !c.drawnAt.IsZero() }

func (c *Console) erase() {
	if c.drawn() {
		fmt.Fprint(c.w, eraseLine)
	}
}

// Close takes the progress line away, and ends all writing.
func (c *Console) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	c.closed = true
}
