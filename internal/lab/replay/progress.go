package replay

import (
	"fmt"
	"strings"
	"time"
)

// progress has the numbers of the progress line. The console's lock guards them.
type progress struct {
	start    time.Time
	size     int64 // bytes of the input; 0 if unknown
	lines    int   // done, with any outcome
	consumed int64 // bytes of the input up to the last line that is done
}

func (p *progress) done(consumed int64) {
	p.lines++
	p.consumed = max(p.consumed, consumed)
}

// line returns the progress line: a bar, if the size of the input is known, and the number
// of lines done.
func (p *progress) line(now time.Time) string {
	var b strings.Builder
	if p.size > 0 {
		const width = 30
		done := min(float64(p.consumed)/float64(p.size), 1)
		full := int(done * width)
		fmt.Fprintf(&b, "[%s%s] %3.0f %%  ", strings.Repeat("=", full), strings.Repeat(" ", width-full), 100*done)
	}
	fmt.Fprintf(&b, "%d lines", p.lines)
	if elapsed := now.Sub(p.start); elapsed >= time.Second {
		fmt.Fprintf(&b, ", %.0f/s", float64(p.lines)/elapsed.Seconds())
	}
	return b.String()
}
