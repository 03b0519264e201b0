package replay

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/tidemark-dev/tidemark/internal/envelope"
)

// Events yields the data of the event on each line of input, which is read as [Run]
// reads it: gzip or not, blank lines passed over, a line a push body or a bare event.
// An error ends the sequence: input cannot be read, or a line is too long.
func Events(input io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		lines, err := newLineReader(input)
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			line, err := lines.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil && line.tooLong {
				err = fmt.Errorf("line %d has more than %d bytes", line.number, maxLine)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(dataOf(line.text), nil) {
				return
			}
		}
	}
}

// dataOf returns the data of the event on a line.
func dataOf(line []byte) []byte {
	if kind, _ := classify(line); kind == pushBody {
		if m, err := envelope.Decode(line, time.Time{}); err == nil {
			return m.Data
		}
	}
	return line
}
