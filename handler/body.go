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
	// uncounted is how much of each body is free of the bound on all bodies. A
	// push of an access-log record takes about 1 KiB.
	uncounted = 16 << 10
	// unknownLength is the first buffer for a body that does not say how long it
	// is.
	unknownLength = 2 << 10
)

// bodies reads request bodies, each of at most limit bytes, and bounds what all
// of them hold at once.
type bodies struct {
	limit int64
	large *semaphore.Weighted // bytes beyond the first uncounted ones of each body
}

func newBodies(limit, inFlight int64) *bodies {
	return &bodies{limit: limit, large: semaphore.NewWeighted(max(limit, inFlight))}
}

// read returns the whole body of r, and a function to call once neither the body
// nor anything decoded from it is needed any more. That function is never nil.
//
// The bound counts the size of the buffer that the body is in. A buffer has at
// most eight times the size of what has arrived, so that nobody can take up room
// by announcing much and sending nothing.
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

// firstBuffer returns the size of the first buffer: room for a short body and
// for the read that finds its end, and never more than is uncounted.
func (b *bodies) firstBuffer(contentLength int64) int64 {
	if contentLength < 0 {
		contentLength = unknownLength
	}
	return min(contentLength+1, uncounted, b.limit+1)
}

// nextBuffer returns the size of the buffer that follows a full one of the given
// size: as much as the client announced, once an eighth of it has arrived. Doubled
// up to the end, the buffers of a large body would take twice its size, and leave
// as much for the garbage collector.
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
	// First, because the server ends the context too when it gives up reading.
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(errSlowBody, fmt.Errorf("the body took too long to arrive: %w", err))
	case r.Context().Err() != nil:
		return refuse(errClientGone, fmt.Errorf("read the body: %w", err))
	}
	return refuse(errInvalid, fmt.Errorf("read the body: %w", err))
}
