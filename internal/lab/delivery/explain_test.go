package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// If there is no answer, the error says why in plain words, and not in Go's words.
func TestAnAttemptWithoutAnswerSaysWhyInPlainWords(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	// talks starts a server that writes a text to each connection and closes it.
	talks := func(text string) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(conn, text)
				_, _ = conn.Read(make([]byte, 4096))
				conn.Close()
			}
		}()
		return listener.Addr().String()
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	for url, want := range map[string]string{
		"http://" + nobody + "/push":                               "connection refused: nothing listens on " + nobody,
		strings.Replace(plain.URL, "http:", "https:", 1) + "/push": "does not speak HTTPS; try http://",
		secure.URL + "/push":                                       "is not trusted: ",
		"http://" + talks("SSH-2.0-server\r\n") + "/push":          "does not speak HTTP; try https://, or another port",
		"http://" + talks("") + "/push":                            "closed the connection before it answered",
	} {
		var first Attempt
		ctx, cancel := context.WithCancel(t.Context())
		d := Deliverer{URL: url, Observe: func(a Attempt) { first = a }, Sleep: func(context.Context, time.Duration) error { cancel(); return ctx.Err() }}
		_, err := d.Deliver(ctx, []byte(body))
		text := first.String()
		if err == nil || !strings.HasPrefix(text, "no answer: ") || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want that it says %q", url, text, want)
		}
		for _, raw := range []string{"dial tcp", "Post ", "read tcp", "EOF"} {
			if strings.Contains(text, raw) {
				t.Errorf("%s: %q still has Go's words %q", url, text, raw)
			}
		}
		cancel()
	}
}

func TestAnExplainedErrorStillWrapsItsCause(t *testing.T) {
	t.Parallel()
	lookup := &net.DNSError{Err: "no such host", Name: "no-such-host", UnwrapErr: syscall.ECONNREFUSED} // the name server refused the connection
	if got, want := Explain(lookup, "http://no-such-host/push").Error(), "the host no-such-host is not found: no such host"; got != want {
		t.Errorf("an unknown host is %q, want %q", got, want)
	}
	err := Explain(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "http://127.0.0.1:1/push")
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v wraps %v, want nothing wrapped", err, errors.Unwrap(err))
	}
}

func TestAServerThatNeverAnswersIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		attempts, start := 0, time.Now()
		d := Deliverer{URL: "http://server/push", Timeout: 30 * time.Second, GiveUpAfter: 5 * time.Minute,
			Client: client(func(r *http.Request) (*http.Response, error) {
				attempts++
				<-r.Context().Done()
				return nil, r.Context().Err()
			})}
		a, err := d.Deliver(t.Context(), []byte(body))
		var gaveUp *GaveUpError
		if !errors.As(err, &gaveUp) || gaveUp.Last.Number != attempts || a.Number != attempts {
			t.Fatalf("error is %v after %d attempts, want that the last was given up", err, attempts)
		}
		if took := time.Since(start); took < 4*time.Minute || took > 5*time.Minute+30*time.Second {
			t.Errorf("given up after %v, want about 5 minutes", took)
		}
	})
}
