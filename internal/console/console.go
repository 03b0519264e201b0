// Package console writes warnings and a progress line for the user of a command that
// delivers messages. The progress line stays below the warnings: it is erased before each
// warning and drawn again after it.
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

// A Console writes warnings and the progress line. It ignores write errors, because they
// must not stop a delivery. Many goroutines may use a Console.
type Console struct {
	now func() time.Time

	mu     sync.Mutex
	w      io.Writer
	closed bool

	warned   map[int]time.Time // time of the last warning by HTTP status; 0 if no answer came
	refusals int

	progress func(now time.Time) string // nil for no progress line
	drawnAt  time.Time                  // zero before the first drawing
}

// New returns a console that writes to w. If progress is not nil, w must be a terminal, and
// the progress line is the text that progress returns. No call of progress overlaps with the
// change of an Update.
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
		return // a goroutine may outlive its run
	}
	c.erase()
	fmt.Fprintln(c.w, text)
	if c.drawn() {
		fmt.Fprint(c.w, c.progress(c.now()))
	}
}

// Observe warns of a failed attempt that another attempt will follow. For each status the
// first warning comes at once, and later ones at most every five seconds, since an
// unreachable server fails every attempt. The subject names what was to be delivered.
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

// GivenUp says that a delivery was given up, and why. After the first few it says once that
// there are more, and then nothing.
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

// Update runs change, which may change the values that the progress line shows. Then it
// draws the line, unless a call of Update drew it less than progressInterval ago.
func (c *Console) Update(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	if now := c.now(); now.Sub(c.drawnAt) >= progressInterval {
		c.draw(now)
	}
}

// DrawEvery draws the progress line once per interval until ctx ends.
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

// eraseLine moves the cursor to the beginning of the line and clears the line.
const eraseLine = "\r\x1b[K"

func (c *Console) drawn() bool { return !c.drawnAt.IsZero() }

func (c *Console) erase() {
	if c.drawn() {
		fmt.Fprint(c.w, eraseLine)
	}
}

// Close erases the progress line. Later calls write nothing.
func (c *Console) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	c.closed = true
}
