package service_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// A virtualServer is a service that serves in virtual time, over connections in memory.
type virtualServer struct {
	listener pipeListener
	began    time.Time
	stop     func() // as SIGTERM does
	served   chan error
	service  *service.Service
	dir      string
}

// serveInVirtualTime runs f with a server in a bubble of testing/synctest. In virtual
// time, what a limit ends takes exactly as long as the limit.
func serveInVirtualTime(t *testing.T, flags map[string]string, f func(t *testing.T, s *virtualServer)) {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"data-dir": dir}
	maps.Copy(all, flags)
	synctest.Test(t, func(t *testing.T) {
		settings, err := settings.Load(all, func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		service, err := service.New(t.Context(), settings, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		s := &virtualServer{
			listener: pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})},
			began:    time.Now(), stop: stop, served: make(chan error, 1), service: service, dir: dir,
		}
		go func() { s.served <- service.Serve(ctx, &s.listener) }()
		f(t, s)
		stop()
		if err := <-s.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := service.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// since returns the time since the server started.
func (s *virtualServer) since() time.Duration { return time.Since(s.began) }

// A client is the client's end of a connection.
type client struct {
	net.Conn
	closed chan struct{} // closed when the server has closed its end
}

// dial connects and sends the text, which may be only a part of a request.
func (s *virtualServer) dial(t *testing.T, text string) client {
	t.Helper()
	ours, theirs := net.Pipe()
	c := client{ours, make(chan struct{})}
	s.listener.conns <- &closeNoter{Conn: theirs, closed: c.closed}
	c.send(t, text)
	return c
}

func (c client) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Error(err)
	}
}

// answer waits for the answer and returns its status and Retry-After.
func (c client) answer(t *testing.T) (status int, retryAfter string) {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	io.Copy(io.Discard, response.Body)
	return response.StatusCode, response.Header.Get("Retry-After")
}

// A pipeListener accepts connections in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "pipe"} }

// A closeNoter is a connection that records when it is closed.
type closeNoter struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (c *closeNoter) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// No client can hold a connection for longer than the server's limits.
func TestTheServerBoundsEachWaitForAClient(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, sends string
		reads       bool
		limit       time.Duration
	}{
		{"headers that do not end", "POST /push HTTP/1.1\r\nHost: localhost\r\n", true, settings.ReadHeaderTimeout},
		{"a body that does not come", "POST /push HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", true, settings.ReadTimeout},
		{"an answer that is not read", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", false, settings.WriteTimeout},
		{"no further request", "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", true, settings.IdleTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			serveInVirtualTime(t, nil, func(t *testing.T, s *virtualServer) {
				c := s.dial(t, tc.sends)
				defer c.Close()
				if tc.reads {
					go io.Copy(io.Discard, c)
				}
				<-c.closed
				if took := s.since(); took != tc.limit {
					t.Errorf("the server closed the connection after %v, want %v", took, tc.limit)
				}
			})
		})
	}
}

const pushRequest = "POST /push/raw HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nno event"

// lockTables locks the tables, so that the service cannot write to them until unlock is
// called.
func (s *virtualServer) lockTables(t *testing.T) (unlock func()) {
	t.Helper()
	other, err := sql.Open("sqlite", "file:"+filepath.Join(s.dir, "warehouse.db")+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		other.Close()
	})
}

// An unwrapped push has the message's attributes as headers. All attributes that Pub/Sub
// allows fit into the server's limit, and not many more.
func TestTheAttributesOfAnUnwrappedPushFitIntoItsHeaders(t *testing.T) {
	t.Parallel()
	serveInVirtualTime(t, nil, func(t *testing.T, s *virtualServer) {
		for attributes, want := range map[int]int{100: http.StatusOK, 250: http.StatusRequestHeaderFieldsTooLarge} {
			var headers strings.Builder
			for i := range attributes {
				fmt.Fprintf(&headers, "%0256d: %s\r\n", i, strings.Repeat("v", 1024))
			}
			c := s.dial(t, "")
			defer c.Close()
			go io.WriteString(c, strings.Replace(pushRequest, "Host:", headers.String()+"Host:", 1)) // the write may fail when the server refuses the headers
			if status, _ := c.answer(t); status != want {
				t.Errorf("a push of %d attributes is answered %d, want %d", attributes, status, want)
			}
		}
	})
}

// If storage is slow, a caller waits no longer than a push may take, and a write no
// longer than a step.
func TestWhatStorageKeepsWaitingIsRefusedInTime(t *testing.T) {
	t.Parallel()
	serveInVirtualTime(t, map[string]string{"batch-rows": "1"}, func(t *testing.T, s *virtualServer) {
		defer s.lockTables(t)()
		var pushes [4]client // each is a batch of its own, and waits for the batch before it
		for i := range pushes {
			pushes[i] = s.dial(t, pushRequest)
			defer pushes[i].Close()
			synctest.Wait()
		}
		for i, want := range []time.Duration{settings.StepTimeout, 2 * settings.StepTimeout, settings.PushTimeout, settings.PushTimeout} {
			if status, retry := pushes[i].answer(t); status != http.StatusServiceUnavailable || retry == "" || s.since() != want {
				t.Errorf("push %d is answered %d, Retry-After %q, after %v; want 503 with Retry-After after %v", i+1, status, retry, s.since(), want)
			}
		}
	})
}

// If storage is slow at shutdown, waiting messages are refused early enough for the
// refusal to reach the client. Everything has ended before SIGKILL.
func TestAtSIGTERMWhatIsNotStoredInTimeIsRefused(t *testing.T) {
	t.Parallel()
	serveInVirtualTime(t, nil, func(t *testing.T, s *virtualServer) {
		defer s.lockTables(t)()
		waiting := s.dial(t, pushRequest)
		defer waiting.Close()
		synctest.Wait()
		s.stop()
		status, retry := waiting.answer(t)
		if took := s.since(); status != http.StatusServiceUnavailable || retry == "" || took != settings.ShutdownGrace {
			t.Errorf("a push that storage keeps waiting is answered %d, Retry-After %q, after %v; want 503 with Retry-After after %v", status, retry, took, settings.ShutdownGrace)
		}
	})
}

func TestAtSIGTERMWhatIsStoredInTimeIsAcknowledged(t *testing.T) {
	t.Parallel()
	serveInVirtualTime(t, nil, func(t *testing.T, s *virtualServer) {
		unlock := s.lockTables(t)
		waiting := s.dial(t, pushRequest)
		defer waiting.Close()
		synctest.Wait()
		s.stop()
		time.Sleep(settings.ShutdownGrace / 2)
		unlock()
		if status, _ := waiting.answer(t); status != http.StatusOK || s.since() >= settings.ShutdownGrace {
			t.Errorf("a push that is stored in time is answered %d after %v, want 200", status, s.since())
		}
	})
}

// At shutdown the server closes idle connections. If a request comes nevertheless, for
// example through another server that uses the handler, it is refused.
func TestAfterSIGTERMRequestsAreRefused(t *testing.T) {
	t.Parallel()
	serveInVirtualTime(t, nil, func(t *testing.T, s *virtualServer) {
		ask := func(route string) *httptest.ResponseRecorder {
			method, path, _ := strings.Cut(route, " ")
			answer := httptest.NewRecorder()
			s.service.Handler().ServeHTTP(answer, httptest.NewRequest(method, "http://localhost"+path, strings.NewReader("no event")))
			return answer
		}
		s.stop()
		synctest.Wait()
		for _, route := range []string{"POST /push", "POST /push/raw", "POST /flush", "GET /audit", "POST /audit", "GET /health"} {
			if answer := ask(route); answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
				t.Errorf("%s is answered %d %s; want 503 with Retry-After", route, answer.Code, answer.Body)
			}
		}
		if answer := ask("GET /metrics"); answer.Code != http.StatusOK {
			t.Errorf("GET /metrics is answered %d, want 200: the last values are worth having", answer.Code)
		}
	})
}

func TestAtSIGTERMWhatDoesNotArriveIsCutOff(t *testing.T) {
	t.Parallel()
	serveInVirtualTime(t, nil, func(t *testing.T, s *virtualServer) {
		c := s.dial(t, strings.TrimSuffix(pushRequest, "event"))
		defer c.Close()
		synctest.Wait()
		s.stop()
		<-c.closed
		if took := s.since(); took != settings.ShutdownTimeout {
			t.Errorf("a push whose body does not arrive is cut off after %v, want %v", took, settings.ShutdownTimeout)
		}
	})
}

// A process whose storage is slow must have ended before Cloud Run kills it.
func TestAProcessThatStorageKeepsWaitingHasEndedBeforeSIGKILL(t *testing.T) {
	t.Parallel()
	serveInVirtualTime(t, nil, func(t *testing.T, s *virtualServer) {
		defer s.lockTables(t)()
		waiting := s.dial(t, pushRequest)
		defer waiting.Close()
		go io.Copy(io.Discard, waiting)
		synctest.Wait()
		s.stop()
		err := <-s.served
		s.served <- err
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), settings.CloseTimeout)
		defer cancel()
		_ = s.service.Close(ctx) // its error says what could not be stored
		if took := s.since(); took >= 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
