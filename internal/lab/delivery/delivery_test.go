package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const body = `{"message": {"messageId": "17"}}`

// transport answers requests without a network, so that a test can run in a
// synctest bubble, where pauses take no real time.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func client(f transport) *http.Client { return &http.Client{Transport: f} }

func answer(status int, header http.Header) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody}
}

func TestOnlyPubSubsAckStatusesAcknowledge(t *testing.T) {
	t.Parallel()
	acks := []int{102, 200, 201, 202, 204}
	for status := range 600 {
		if got, want := (Attempt{Status: status}).Acknowledged(), slices.Contains(acks, status); got != want {
			t.Errorf("status %d acknowledges: %v, want %v", status, got, want)
		}
	}
}

// A delivery that may succeed later is repeated until it does. A hopeless delivery is tried
// once.
func TestStatusDecidesWhetherToTryAgain(t *testing.T) {
	t.Parallel()
	hopeless := []int{400, 401, 403, 404, 405, 413, 415}
	for _, status := range []int{0, 203, 206, 301, 302, 307, 308, 400, 401, 403, 404, 405, 408, 409, 413, 415, 418, 429, 500, 502, 503, 504} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				d := Deliverer{URL: "http://server/push", Client: client(func(*http.Request) (*http.Response, error) {
					attempts++
					switch {
					case attempts > 3:
						return answer(http.StatusOK, nil), nil
					case status == 0:
						return nil, errors.New("connection reset")
					}
					return answer(status, http.Header{"Location": {"http://elsewhere/"}}), nil
				})}
				a, err := d.Deliver(t.Context(), []byte(body))
				if slices.Contains(hopeless, status) {
					var refused *RefusedError
					if !errors.As(err, &refused) || refused.Attempt.Status != status || attempts != 1 {
						t.Errorf("%d attempts, %v, want a refusal at the first", attempts, err)
					}
					return
				}
				if err != nil || a.Number != 4 || a.Status != 200 || attempts != 4 {
					t.Errorf("%d attempts, the last %+v, %v, want success at the fourth", attempts, a, err)
				}
			})
		})
	}
}

func TestEveryAttemptPostsTheSameBody(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type")+" "+string(sent))
		if len(got) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, `{"status": "counted"}`)
	}))
	defer server.Close()
	d := Deliverer{URL: server.URL + "/push", Client: NewClient(4), Sleep: func(context.Context, time.Duration) error { return nil }}
	a, err := d.Deliver(t.Context(), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if string(a.Body) != `{"status": "counted"}` {
		t.Errorf("answer is %q", a.Body)
	}
	one := "POST /push application/json " + body
	if diff := cmp.Diff([]string{one, one, one}, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// If a redirect were followed, the request would become a GET, and its status 200 would
// not mean that anything is stored.
func TestRedirectIsNeverFollowed(t *testing.T) {
	t.Parallel()
	var gets atomic.Int32
	var posts atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			gets.Add(1)
			return
		}
		if posts.Add(1) == 1 {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}
	}))
	defer server.Close()
	for _, c := range []*http.Client{nil, server.Client()} {
		posts.Store(0)
		d := Deliverer{URL: server.URL, Client: c, Sleep: func(context.Context, time.Duration) error { return nil }}
		if a, err := d.Deliver(t.Context(), []byte(body)); err != nil || a.Number != 2 {
			t.Errorf("attempt %d, %v, want success at the second", a.Number, err)
		}
	}
	if gets.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

func TestPausesGrowToTenSecondsWithJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		d := Deliverer{URL: "http://server/push", Client: client(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Now())
			if len(at) == 60 {
				return answer(http.StatusNoContent, nil), nil
			}
			return answer(http.StatusServiceUnavailable, nil), nil
		})}
		if _, err := d.Deliver(t.Context(), []byte(body)); err != nil {
			t.Fatal(err)
		}
		want := 100 * time.Millisecond
		distinct := map[time.Duration]bool{}
		for i := 1; i < len(at); i++ {
			got := at[i].Sub(at[i-1])
			if got < want/2 || got > want {
				t.Errorf("pause %d is %v, want %v to %v", i, got, want/2, want)
			}
			distinct[got] = true
			want = min(2*want, 10*time.Second)
		}
		if len(distinct) < 40 {
			t.Errorf("only %d different pauses: no jitter", len(distinct))
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	// A bubble's clock starts at a whole second, midnight UTC 2000-01-01.
	for header, want := range map[string]time.Duration{
		"7":                             7 * time.Second,
		"0":                             0,
		"Sat, 01 Jan 2000 00:00:09 GMT": 9 * time.Second,
		"Sat, 01 Jan 1999 00:00:09 GMT": 0,
		"99999":                         60 * time.Second,
		"soon":                          0,
		"-5":                            0,
	} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				d := Deliverer{URL: "http://server/push", Client: client(func(*http.Request) (*http.Response, error) {
					at = append(at, time.Now())
					if len(at) == 2 {
						return answer(http.StatusOK, nil), nil
					}
					return answer(http.StatusServiceUnavailable, http.Header{"Retry-After": {header}}), nil
				})}
				if _, err := d.Deliver(t.Context(), []byte(body)); err != nil {
					t.Fatal(err)
				}
				if got := at[1].Sub(at[0]); got < want || got > want+100*time.Millisecond {
					t.Errorf("pause is %v, want %v and at most 100 ms more", got, want)
				}
			})
		})
	}
}

func TestAttemptWithoutAnswerEndsAtTheAckDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []Attempt
		d := Deliverer{URL: "http://server/push",
			Observe: func(a Attempt) { seen = append(seen, a) },
			Client: client(func(r *http.Request) (*http.Response, error) {
				if len(seen) == 1 {
					return answer(http.StatusOK, nil), nil
				}
				<-r.Context().Done()
				return nil, r.Context().Err()
			})}
		if _, err := d.Deliver(t.Context(), []byte(body)); err != nil {
			t.Fatal(err)
		}
		if len(seen) != 2 || seen[0].Status != 0 || seen[0].Latency != 60*time.Second || !strings.Contains(seen[0].String(), "60s") {
			t.Errorf("attempts %v, want the first to end after a minute", seen)
		}
	})
}

func TestDeliverEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, respond := range map[string]transport{
		"while an attempt runs": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
		"while it pauses": func(*http.Request) (*http.Response, error) {
			return answer(http.StatusServiceUnavailable, http.Header{"Retry-After": {"50"}}), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				d := Deliverer{URL: "http://server/push", Client: client(respond)}
				_, err := d.Deliver(ctx, []byte(body))
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
					t.Errorf("ended after %v with %v, want after 1 s with the context's error", time.Since(start), err)
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := Deliverer{URL: "http://server/push", Client: client(func(*http.Request) (*http.Response, error) {
		t.Error("an attempt was made after the context had ended")
		return answer(http.StatusOK, nil), nil
	})}
	if _, err := d.Deliver(ctx, []byte(body)); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want the context's error", err)
	}
}

func TestServerThatComesUpLaterGetsTheMessage(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()

	var attempts []Attempt
	d := Deliverer{URL: "http://" + address + "/push", Observe: func(a Attempt) { attempts = append(attempts, a) }}
	d.Sleep = func(ctx context.Context, _ time.Duration) error {
		if len(attempts) != 3 {
			return nil
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("another program took the port: %w", err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		t.Cleanup(func() { server.Close() })
		go server.Serve(listener)
		return nil
	}
	a, err := d.Deliver(t.Context(), []byte(body))
	if err != nil || a.Number != 4 {
		t.Fatalf("attempt %d, %v, want success at the fourth", a.Number, err)
	}
	if text := attempts[0].String(); !strings.Contains(text, "connection refused") || strings.Contains(text, "Post ") {
		t.Errorf("first attempt is %q, want it to say only that the connection was refused", text)
	}
}

func TestAttemptTellsTheServersMessage(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		`{"error": {"status": "INVALID_ARGUMENT", "message": "body is empty"}}`: "400 Bad Request: body is empty",
		"<html>\n<body>":               "400 Bad Request: <html>",
		"":                             "400 Bad Request",
		strings.Repeat("é", 150):       "400 Bad Request: " + strings.Repeat("é", 100) + "...",
		"x" + strings.Repeat("é", 150): "400 Bad Request: x" + strings.Repeat("é", 99) + "?...",
	} {
		if got := (Attempt{Status: 400, Body: []byte(answer)}).String(); got != want {
			t.Errorf("answer %q: %q, want %q", answer, got, want)
		}
	}
}

func TestURLThatCannotBePostedToIsAnErrorAtOnce(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "localhost:8080/push", "127.0.0.1:8080", "ftp://host/", "http://", "/push", "http://a b/"} {
		d := Deliverer{URL: bad}
		if _, err := d.Deliver(t.Context(), nil); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if err := CheckURL("https://service.example/push"); err != nil {
		t.Error(err)
	}
}

// Connections stay open and are used for more than one body.
func TestClientKeepsAConnectionPerConcurrentDelivery(t *testing.T) {
	t.Parallel()
	const concurrency = 8
	var opened atomic.Int32
	arrived := make(chan struct{}, concurrency)
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := NewClient(concurrency)
	defer c.CloseIdleConnections()
	d := Deliverer{URL: server.URL, Client: c}
	for range 3 {
		var wg sync.WaitGroup
		for range concurrency {
			wg.Go(func() {
				if _, err := d.Deliver(t.Context(), []byte(body)); err != nil {
					t.Error(err)
				}
			})
		}
		for range concurrency { // all at once, so that each needs its own connection
			<-arrived
		}
		for range concurrency {
			release <- struct{}{}
		}
		wg.Wait()
	}
	if got := opened.Load(); got != concurrency {
		t.Errorf("%d connections opened, want %d", got, concurrency)
	}
}
