package replay

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/deliver"
)

const (
	warningInterval  = 5 * time.Second        // between two warnings of the same kind
	progressInterval = 100 * time.Millisecond // between two drawings of the progress line
	maxRefusals      = 5                      // refusals that are printed in full
)

// A console writes to the person who watches: warnings, and the progress line,
// which it takes away before a warning and draws again after it.
type console struct {
	now   func() time.Time
	start time.Time

	mu     sync.Mutex
	w      io.Writer // write errors are dropped: they must not stop a replay
	closed bool

	warned   map[int]time.Time // by HTTP status, 0 without answer: when last
	refusals int

	progress bool
	size     int64 // bytes of the input; 0 if unknown
	drawnAt  time.Time
	lines    int   // done
	consumed int64 // bytes of the input up to the last line done
}

// showProgress turns the progress line on; size is the input's in bytes, 0 if
// unknown.
func (c *console) showProgress(size int64) { c.progress, c.size = true, size }

func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.print(fmt.Sprintf(format, args...))
}

// print writes one line. The caller holds mu.
func (c *console) print(text string) {
	if c.closed {
		return // a reader that outlived its run has nothing more to tell
	}
	c.erase()
	fmt.Fprintln(c.w, text)
	if c.drawn() {
		fmt.Fprint(c.w, c.progressLine(c.now()))
	}
}

// observe warns of an attempt that will be made again: the first of its kind at
// once, and then one in five seconds, since an unreachable server fails every
// attempt of every line.
func (c *console) observe(line int, a deliver.Attempt) {
	if a.Acknowledged() || a.Hopeless() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if last, ok := c.warned[a.Status]; ok && now.Sub(last) < warningInterval {
		return
	}
	if c.warned == nil {
		c.warned = map[int]time.Time{}
	}
	c.warned[a.Status] = now
	c.print(fmt.Sprintf("line %d, attempt %d: %v; trying again", line, a.Number, a))
}

// refused tells of a line that is given up: the first few, and then that there
// are more.
func (c *console) refused(line int, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals++
	switch {
	case c.refusals <= maxRefusals:
		c.print(fmt.Sprintf("line %d, given up: %s", line, why))
	case c.refusals == maxRefusals+1:
		c.print("more lines are given up; they are counted at the end")
	}
}

// lineDone moves the progress line on by a line, whatever became of it.
func (c *console) lineDone(consumed int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines++
	c.consumed = max(c.consumed, consumed)
	if now := c.now(); c.progress && now.Sub(c.drawnAt) >= progressInterval {
		c.drawnAt = now
		fmt.Fprint(c.w, eraseLine+c.progressLine(now))
	}
}

// eraseLine returns the cursor to the line's beginning and clears it.
const eraseLine = "\r\x1b[K"

func (c *console) drawn() bool { return !c.drawnAt.IsZero() }

func (c *console) erase() {
	if c.drawn() {
		fmt.Fprint(c.w, eraseLine)
	}
}

// progressLine is a bar, where the size of the input is known, and the lines
// done.
func (c *console) progressLine(now time.Time) string {
	var b strings.Builder
	if c.size > 0 {
		const width = 30
		done := min(float64(c.consumed)/float64(c.size), 1)
		full := int(done * width)
		fmt.Fprintf(&b, "[%s%s] %3.0f %%  ", strings.Repeat("=", full), strings.Repeat(" ", width-full), 100*done)
	}
	fmt.Fprintf(&b, "%d lines", c.lines)
	if elapsed := now.Sub(c.start); elapsed >= time.Second {
		fmt.Fprintf(&b, ", %.0f/s", float64(c.lines)/elapsed.Seconds())
	}
	return b.String()
}

// close takes the progress line away, and ends all writing.
func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	c.closed = true
}

func formatTime(t time.Time) string { return event.FormatTime(t) }
