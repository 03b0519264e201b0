package handler

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"golang.org/x/sync/semaphore"
)

const (
	// uncounted is how many bytes of each body do not count towards the bound on all
	// bodies. A push of an access-log record has about 1 KiB.
	uncounted = 16 << 10
	// unknownLength is the size of the first buffer for a request without
	// Content-Length.
	unknownLength = 2 << 10
)

// bodies reads request bodies of at most limit bytes each. It bounds the memory that all
// of them hold at the same time.
type bodies struct {
	limit int64
	large *semaphore.Weighted // for the bytes of each body after the first uncounted ones
}

func newBodies(limit, inFlight int64) *bodies {
	return &bodies{limit: limit, large: semaphore.NewWeighted(max(limit, inFlight))}
}

// read returns the whole body of r and a release function, which is never nil. The caller
// calls release when nothing needs the body any more, nor what was decoded from it.
//
// The bound counts the size of the buffer that holds the body. A buffer has at most
// eight times the size of what has arrived. So a client that announces much and sends
// nothing takes up little memory.
func (b *bodies) read(r *http.Request) (body []byte, release func(), err error) {
	var held int64
	release = func() { b.large.Release(held) }
	if r.ContentLength > b.limit {
		return nil, release, b.tooLarge()
	}
	buf := make([]byte, 0, b.firstBuffer(r.ContentLength))
	for {
		if len(buf) == cap(buf) {
			size := b.nextBuffer(int64(cap(buf)), r.ContentLength)
			if more := size - uncounted - held; more > 0 {
				if !b.large.TryAcquire(more) {
					return nil, release, errBusy
				}
				held += more
			}
			buf = append(make([]byte, 0, size), buf...)
		}
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > b.limit:
			return nil, release, b.tooLarge()
		case err == io.EOF:
			return buf, release, nil
		case err != nil:
			return nil, release, readError(r, err)
		}
	}
}

// firstBuffer returns the size of the first buffer. It has room for a short body and one
// byte more, for the read that finds the end. It is never greater than uncounted.
func (b *bodies) firstBuffer(contentLength int64) int64 {
	if contentLength < 0 {
		contentLength = unknownLength
	}
	return min(contentLength+1, uncounted, b.limit+1)
}

// nextBuffer returns the size of the buffer that follows a full buffer of the given
// size. As soon as an eighth of the announced length has arrived, it is that length;
// before, it is the double. If sizes only doubled, a large body could end in a buffer of
// twice its size, and would leave as many bytes to the garbage collector.
func (b *bodies) nextBuffer(size, contentLength int64) int64 {
	if size <= contentLength && contentLength <= 8*size {
		return contentLength + 1
	}
	return min(2*size, b.limit+1)
}

func (b *bodies) tooLarge() error {
	return refuse(errTooLarge, fmt.Errorf("the body is over the limit of %d bytes, which the setting MAX_BODY sets", b.limit))
}

func readError(r *http.Request, err error) error {
	switch {
	// This case is first, because the server also ends the context when it stops reading.
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(errSlowBody, fmt.Errorf("the body took too long to arrive: %w", err))
	case r.Context().Err() != nil:
		return refuse(errClientGone, fmt.Errorf("read the body: %w", err))
	}
	return refuse(errInvalid, fmt.Errorf("read the body: %w", err))
}
