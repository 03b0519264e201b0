package handler_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/handler"
)

func maxBody(n int64) func(*handler.Config) {
	return func(c *handler.Config) { c.MaxBody, c.MaxInFlightBytes = n, n }
}

// The sizes are around those at which a buffer grows. Each body is sent with and without
// Content-Length.
func TestBodyOfTheLimitPassesAndOneByteMoreDoesNot(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{1, 2048, 2049, 16 << 10, 16<<10 + 1, 32 << 10, 100_000} {
		f := newFixture(t, maxBody(limit))
		server := httptest.NewServer(f)
		defer server.Close()
		for _, chunked := range []bool{false, true} {
			for _, size := range []int64{limit - 1, limit, limit + 1, 3 * limit} {
				t.Run(fmt.Sprintf("%d of %d, chunked %v", size, limit, chunked), func(t *testing.T) {
					var body io.Reader = bytes.NewReader(bytes.Repeat([]byte("x"), int(size)))
					if chunked {
						body = io.MultiReader(body) // hides the length, so that the client sends no Content-Length
					}
					before := len(f.ingest.submissions())
					res, err := http.Post(server.URL+"/push/raw", "", body)
					if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
					if size > limit {
						wantError(t, res, http.StatusRequestEntityTooLarge, "INVALID_ARGUMENT")
						return
					}
					wantOK(t, res)
					stored := f.ingest.submissions()
					if len(stored) != before+1 || int64(len(stored[before].Message.Data)) != size {
						t.Errorf("the body was not stored whole")
					}
				})
			}
		}
	}
}

func TestCompressedBodyIsRefused(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/push", "/push/raw"} {
		for _, encodings := range [][]string{{"gzip"}, {"identity, gzip"}, {"identity", "gzip"}, {"br"}, {"nonsense"}} {
			f := newFixture(t)
			r := post(target, wrapped(record, "42", onTime))
			r.Header["Content-Encoding"] = encodings
			wantError(t, f.do(r), http.StatusUnsupportedMediaType, "INVALID_ARGUMENT")
			if n := len(f.ingest.submissions()); n != 0 {
				t.Errorf("%s %s: %d messages were stored", target, encodings, n)
			}
		}
		for _, encoding := range []string{"identity", "Identity", ""} {
			wantOK(t, newFixture(t).do(post(target, wrapped(record, "42", onTime), "Content-Encoding", encoding)))
		}
	}
}

// brokenBody is a body whose reading fails after some bytes.
type brokenBody struct {
	io.Reader
	err error
}

func (b brokenBody) Read(p []byte) (int, error) {
	if n, err := b.Reader.Read(p); err == nil {
		return n, nil
	}
	return 0, b.err
}

func TestBodyThatDoesNotArriveWholeIsNotStored(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		err    error
		gone   bool
		code   int
		status string
	}{
		{"it ends early", io.ErrUnexpectedEOF, false, http.StatusBadRequest, "INVALID_ARGUMENT"},
		{"it stalls until the server stops reading", fmt.Errorf("read tcp: %w", os.ErrDeadlineExceeded), false, http.StatusServiceUnavailable, "UNAVAILABLE"},
		{"the client goes away", io.ErrUnexpectedEOF, true, 499, "CANCELLED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			r := httptest.NewRequest(http.MethodPost, "/push/raw", brokenBody{strings.NewReader(record), test.err})
			if test.gone {
				ctx, leave := context.WithCancel(t.Context())
				leave()
				r = r.WithContext(ctx)
			}
			wantError(t, f.do(r), test.code, test.status)
			if n := len(f.ingest.submissions()); n != 0 {
				t.Errorf("%d messages were stored", n)
			}
			if line := f.lastLine(t); line["level"] == "ERROR" {
				t.Errorf("logged as an error: %v", line)
			}
		})
	}
}

// If a body takes too long, the server stops reading it and cancels the request's
// context. The answer must not be the one for a client that has gone away.
func TestASlowBodyIsToComeAgain(t *testing.T) {
	t.Parallel()
	for _, major := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", major), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			server := httptest.NewUnstartedServer(f)
			server.Config.ReadTimeout = 100 * time.Millisecond
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetHTTP1(major == 1)
			server.Config.Protocols.SetUnencryptedHTTP2(major == 2)
			server.Start()
			defer server.Close()
			transport := &http.Transport{Protocols: server.Config.Protocols}
			defer transport.CloseIdleConnections()

			body, slow := io.Pipe()
			defer slow.Close()
			go slow.Write([]byte(record[:10])) // after this, nothing more is sent
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/push/raw", body)
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = int64(len(record))
			res, err := (&http.Client{Transport: transport}).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			wantError(t, res, http.StatusServiceUnavailable, "UNAVAILABLE")
			if n := len(f.ingest.submissions()); n != 0 {
				t.Errorf("%d messages were stored", n)
			}
		})
	}
}

// held sends a large push that is not answered until the returned function is called.
// That function returns the answer.
func held(f *fixture, size int) (finish func() *http.Response) {
	arrived, leave, answer := make(chan struct{}), make(chan struct{}), make(chan *http.Response)
	f.ingest.hook = func(_ context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
		if len(m.Data) == size {
			close(arrived)
			<-leave
		}
		return v, nil
	}
	go func() { answer <- f.do(post("/push/raw", strings.Repeat("x", size))) }()
	<-arrived
	return func() *http.Response {
		close(leave)
		return <-answer
	}
}

func TestLargeBodiesAtOnceAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, maxBody(64<<10))
	finish := held(f, 60_000)
	wantError(t, f.do(post("/push/raw", strings.Repeat("x", 59_999))), http.StatusServiceUnavailable, "UNAVAILABLE")
	wantOK(t, finish())
	wantOK(t, f.do(post("/push/raw", strings.Repeat("x", 59_999))))
}

// If a body is announced and most of it does not come, it takes at most eight times the
// memory of what has come.
func TestAnAnnouncedBodyTakesNoRoomBeforeItComes(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	for _, test := range []struct {
		comes int
		code  int // the answer to another body, of half the limit
	}{
		{17 << 10, http.StatusOK},
		{limit/16 + 1, http.StatusOK},
		{limit/8 + 1, http.StatusServiceUnavailable},
	} {
		f := newFixture(t, maxBody(limit))
		rest, done := make(chan struct{}), make(chan struct{})
		stalled := post("/push/raw", "")
		stalled.ContentLength = limit
		arrived := &stallingBody{Reader: strings.NewReader(strings.Repeat("x", test.comes)), stalls: make(chan struct{}), rest: rest}
		stalled.Body = io.NopCloser(arrived)
		go func() {
			defer close(done)
			f.do(stalled)
		}()
		<-arrived.stalls
		if res := f.do(post("/push/raw", strings.Repeat("x", limit/2))); res.StatusCode != test.code {
			t.Errorf("while %d bytes of an announced body of %d have come, a body of %d is answered %d, want %d", test.comes, limit, limit/2, res.StatusCode, test.code)
		}
		close(rest)
		<-done
	}
}

// stallingBody is a body that stalls before its end.
type stallingBody struct {
	io.Reader
	stalls, rest chan struct{}
}

func (b *stallingBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		close(b.stalls)
		<-b.rest
	}
	return n, err
}

// If a buffer only doubled when it is full, a large body would leave up to twice its size
// as garbage. (Not parallel, since all tests share one heap.)
func TestALargeBodyIsReadWithoutMuchGarbage(t *testing.T) {
	const size = 9 << 20
	f := newFixture(t, maxBody(10<<20))
	r := post("/push/raw?dry_run=1", strings.Repeat("x", size))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	wantOK(t, f.do(r))
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > size*3/2 {
		t.Errorf("%d bytes were allocated for a body of %d", allocated, size)
	}
}

// However the reading of a body ends, the memory that is reserved for it must be
// released.
func TestRefusedBodiesHoldNoRoom(t *testing.T) {
	t.Parallel()
	f := newFixture(t, maxBody(64<<10))
	large := strings.Repeat("x", 64<<10)
	for range 3 {
		tooLarge := post("/push/raw", large+"x")
		tooLarge.ContentLength = -1
		f.do(tooLarge)
		f.do(httptest.NewRequest(http.MethodPost, "/push/raw", brokenBody{strings.NewReader(large), io.ErrUnexpectedEOF}))
		f.do(post("/push", large))
		f.ingest.fail(io.ErrClosedPipe)
		f.do(post("/push/raw", large))
		f.ingest.hook = func(context.Context, event.Message, event.Verdict) (event.Verdict, error) { panic("bug") }
		f.do(post("/push/raw", large))
		f.ingest.hook = nil
		wantOK(t, f.do(post("/push/raw", large)))
	}
}

func TestAThousandSmallPushesAtOnceAllPassWhileALargeOneIsHeld(t *testing.T) {
	t.Parallel()
	const pushes = 1000
	f := newFixture(t, maxBody(64<<10))
	finish := held(f, 64<<10)
	hold := f.ingest.hook
	var all sync.WaitGroup // all of them arrive before the first is answered
	all.Add(pushes)
	f.ingest.hook = func(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
		all.Done()
		all.Wait()
		return hold(ctx, m, v)
	}
	codes := make(chan int)
	for i := range pushes {
		go func() {
			r := post("/push/raw", record+strings.Repeat(" ", 8<<10))
			if i%2 == 0 {
				r.ContentLength = -1
			}
			res := f.do(r)
			if res.StatusCode != http.StatusOK {
				all.Done() // this push was refused before it was submitted
			}
			codes <- res.StatusCode
		}()
	}
	for range pushes {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("a small push was answered %d", code)
		}
	}
	wantOK(t, finish())
}

// Otherwise a body could never pass that is within MaxBody, but larger than
// MaxInFlightBytes.
func TestOneBodyOfTheLimitPassesHoweverLowTheBound(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *handler.Config) { c.MaxBody, c.MaxInFlightBytes = 1<<20, 1 })
	wantOK(t, f.do(post("/push/raw", strings.Repeat("x", 1<<20))))
}
