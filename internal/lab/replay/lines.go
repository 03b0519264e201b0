package replay

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

// maxLine is the longest line that is sent. It is longer than any body that a server accepts.
const maxLine = 15_000_000

// A line is one line of the input, without its line ending.
type line struct {
	number   int // from 1, blank lines counted
	text     []byte
	tooLong  bool  // longer than maxLine; text is empty
	consumed int64 // bytes of the input that were read so far; compressed bytes if the input is compressed
}

// lineReader reads the lines of an input.
type lineReader struct {
	input  *countingReader
	gzip   bool          // the input is compressed
	text   *bufio.Reader // the uncompressed input
	number int
}

// newLineReader returns a reader of input. It uncompresses the input if it begins like gzip.
func newLineReader(input io.Reader) (*lineReader, error) {
	counting := &countingReader{r: input}
	buffered := bufio.NewReaderSize(counting, 64<<10)
	r := &lineReader{input: counting, text: buffered}
	if magic, err := buffered.Peek(2); err != nil || !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return r, nil // the first line returns the error again
	}
	r.gzip = true
	uncompressed, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("read the beginning of the gzip file: %w", r.explain(err))
	}
	r.text = bufio.NewReaderSize(uncompressed, 64<<10)
	return r, nil
}

// next returns the next line that is not blank, or io.EOF. The caller may keep the text.
func (r *lineReader) next() (line, error) {
	for {
		r.number++
		text, tooLong, err := r.read()
		if err != nil && !errors.Is(err, io.EOF) {
			// The line is not complete, so it is not sent.
			return line{}, fmt.Errorf("read line %d: %w", r.number, r.explain(err))
		}
		if tooLong || len(bytes.TrimSpace(text)) > 0 {
			return line{number: r.number, text: text, tooLong: tooLong, consumed: r.input.n}, nil
		}
		if err != nil {
			return line{}, io.EOF
		}
	}
}

// read reads one line and removes its line ending, "\n" or "\r\n". With a last line that has
// no line ending it returns io.EOF. It returns no text of a line that is too long.
func (r *lineReader) read() (text []byte, tooLong bool, err error) {
	for {
		part, err := r.text.ReadSlice('\n')
		ended := err == nil
		part = bytes.TrimSuffix(part, []byte("\n"))
		if tooLong = tooLong || len(text)+len(part) > maxLine; tooLong {
			text = nil
		} else {
			text = append(text, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if ended {
			text = bytes.TrimSuffix(text, []byte("\r"))
		}
		return text, tooLong, err
	}
}

// explain returns an error that says in plain words what is wrong with a gzip file. It returns
// other errors unchanged.
func (r *lineReader) explain(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case !r.gzip:
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &delivery.PlainError{Text: "the gzip file ends too early, so it is not whole", Cause: err}
	case errors.As(err, &corrupt), errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		return &delivery.PlainError{Text: "the gzip file is damaged", Cause: err}
	}
	return err
}

// countingReader counts the bytes that were read from r.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// latestTime reads input to its end and returns the latest publish time. It returns false if
// the input has no time. The parameter field has the time of an event.
func latestTime(ctx context.Context, input io.Reader, field event.Field) (latest time.Time, found bool, err error) {
	lines, err := newLineReader(input)
	if err != nil {
		return time.Time{}, false, err
	}
	for ctx.Err() == nil {
		l, err := lines.next()
		if errors.Is(err, io.EOF) {
			return latest, found, nil
		}
		if err != nil {
			return time.Time{}, false, err
		}
		if t, ok := latestTimeOf(l.text, field); ok && (!found || t.After(latest)) {
			latest, found = t, true
		}
	}
	return time.Time{}, false, ctx.Err()
}

// rereadable returns an input that can be read twice, from the position start. It is input
// itself if input can seek, and otherwise a copy in a temporary file. The caller must call
// close, which deletes the copy.
func rereadable(input io.Reader) (again io.ReadSeeker, start int64, close func(), err error) {
	if seeker, ok := input.(io.ReadSeeker); ok {
		if start, err := seeker.Seek(0, io.SeekCurrent); err == nil { // a pipe has the method too, but it fails
			return seeker, start, func() {}, nil
		}
	}
	file, err := os.CreateTemp("", "tidemark-replay-*")
	if err != nil {
		return nil, 0, nil, fmt.Errorf("copy the input, to read it twice: %w", err)
	}
	// If the system allows it, remove the name at once: then no file remains if the process
	// is killed. Otherwise close removes it.
	removed := os.Remove(file.Name()) == nil
	close = func() {
		file.Close()
		if !removed {
			os.Remove(file.Name())
		}
	}
	if _, err = io.Copy(file, input); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		close()
		return nil, 0, nil, fmt.Errorf("copy the input, to read it twice: %w", err)
	}
	return file, 0, close, nil
}

// sizeOf returns the size of an input that is a regular file. For another input it returns 0.
func sizeOf(input io.Reader) int64 {
	file, ok := input.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return 0
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}
