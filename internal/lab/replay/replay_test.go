package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
)

const (
	bare     = `{"ip": "198.51.100.23", "timestamp": "2026-03-14T09:26:53.589793Z", "num_bytes": 287}`
	bareTime = "2026-03-14T09:26:53.589793Z"
	half     = `{"ip": "192.0.2.141", "timestamp": "2026-03-14T09:27:05.0000`
)

func TestPushBodiesAreSentByteForByteInOrder(t *testing.T) {
	t.Parallel()
	var want []string
	for i := range 200 {
		want = append(want, pushLine(fmt.Sprint(i), "2026-03-14T09:26:58.401Z", []byte(bare)))
	}
	text := strings.Join(want, "\n")
	for name, input := range map[string]string{
		"text":              text + "\n",
		"no end":            text,
		"Windows line ends": strings.ReplaceAll(text, "\n", "\r\n") + "\r\n",
		"blank lines":       "\n \n" + strings.ReplaceAll(text, "\n", "\n\t\n\n") + "\n\n",
		"gzip":              zipped(t, text+"\n"),
		"gzip in two parts": zipped(t, text[:1000]) + zipped(t, text[1000:]),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, nil)
			summary := replay(t, options(s.URL, input))
			if diff := cmp.Diff(want, s.received()); diff != "" {
				t.Errorf("bodies (-want +got):\n%s", diff)
			}
			if summary.Lines != 200 || summary.Acknowledged != 200 || summary.Deliveries != 200 || summary.NotAcknowledged != 0 {
				t.Errorf("summary is %+v, want 200 lines, each acknowledged at once", summary)
			}
		})
	}
}

// A file of events without the time that the pipeline file names may be the file of another
// pipeline.
func TestReplaySaysOnceThatEventsHaveNoTime(t *testing.T) {
	t.Parallel()
	for input, want := range map[string]string{
		bare + "\n{\"a\": 1}\n{\"b\": 1}\n": "line 2 has no time in \"timestamp\", so it is published now, as are later lines like it; --pipeline-file names the field with the time\n",
		bare + "\n" + half:                  "",
	} {
		for publishTime, want := range map[string]string{PublishAtEvent: want, PublishNow: ""} {
			var log bytes.Buffer
			o := options(newServer(t, nil).URL, input)
			o.PublishTime, o.Log = publishTime, &log
			replay(t, o)
			if log.String() != want {
				t.Errorf("%q, published at %s: log %q, want %q", input, publishTime, &log, want)
			}
		}
	}
}

func TestBareEventIsPublishedAtItsOwnTime(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		line, publishTime, want string
	}{
		"by default":             {bare, "", bareTime},
		"asked for":              {bare, PublishAtEvent, bareTime},
		"now":                    {bare, PublishNow, event.FormatTime(now)},
		"without time":           {`{"ip": "x"}`, PublishAtEvent, event.FormatTime(now)},
		"with a bad time":        {`{"timestamp": "yesterday"}`, PublishAtEvent, event.FormatTime(now)},
		"message is no object":   {`{"message": "hello", "timestamp": "2026-03-14 09:26:53.589793"}`, PublishAtEvent, bareTime},
		"with spaces around it":  {"  " + bare + " ", PublishAtEvent, bareTime},
		"with bytes not in UTF8": {strings.Replace(bare, "198", "\xff", 1), PublishAtEvent, bareTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, nil)
			o := options(s.URL, tt.line+"\n")
			o.PublishTime = tt.publishTime
			replay(t, o)
			m := message(t, s.received()[0])
			if got := event.FormatTime(m.PublishTime); got != tt.want {
				t.Errorf("publish time is %s, want %s", got, tt.want)
			}
			if string(m.Data) != tt.line {
				t.Errorf("data is %q, want the line %q", m.Data, tt.line)
			}
			if want := event.DerivedID([]byte(tt.line), nil); m.ID != want {
				t.Errorf("id is %q, want %q", m.ID, want)
			}
		})
	}
}

// Two users may do the same in the same microsecond. So equal lines are different events, and
// the same file has the same events when it is sent again.
func TestEqualLinesOfAFileAreEventsOfTheirOwn(t *testing.T) {
	t.Parallel()
	body := pushLine("1", "2026-03-14T09:26:58.401Z", []byte(bare))
	other := strings.Replace(bare, "287", "288", 1)
	input := strings.Join([]string{bare, half, body, bare, other, "", half, body, bare}, "\n")
	ids := func(input string, concurrency int, shift bool) []string {
		s := newServer(t, nil)
		o := options(s.URL, input)
		o.Concurrency, o.ShiftToNow = concurrency, shift
		replay(t, o)
		var ids []string
		for _, body := range s.received() {
			ids = append(ids, message(t, body).ID)
		}
		return slices.Sorted(slices.Values(ids))
	}
	got := ids(input, 1, false)
	if n := len(slices.Compact(slices.Clone(got))); len(got) != 8 || n != 7 {
		t.Errorf("%d lines have %d ids, want 8 and 7, since only the push bodies are equal: %q", len(got), n, got)
	}
	for _, line := range []string{bare, half, other} {
		if id := event.DerivedID([]byte(line), nil); !slices.Contains(got, id) {
			t.Errorf("the first of the equal lines has the id %s; without the others it has %s", line, id)
		}
	}
	if diff := cmp.Diff(got, ids(input, 8, false)); diff != "" {
		t.Errorf("ids of the file sent again (-first +second):\n%s", diff)
	}
	if shifted := ids(input, 1, true); len(slices.Compact(shifted)) != 7 {
		t.Errorf("with shifted times the ids are %q, want 7 different ones", shifted)
	}
}

// A line that was cut off while it was written is sent too, and becomes a dead letter at
// the server.
func TestLineThatIsNoObjectIsSentAsData(t *testing.T) {
	t.Parallel()
	garbageLines := []string{half, "null", "[1, 2]", `"text"`, "\xff\xfe", half + bare, bare + bare}
	s := newServer(t, nil)
	replay(t, options(s.URL, strings.Join(garbageLines, "\n")))
	var got []string
	for _, body := range s.received() {
		m := message(t, body)
		got = append(got, string(m.Data))
		if !m.PublishTime.Equal(now) {
			t.Errorf("%q is published at %v, want now", m.Data, m.PublishTime)
		}
	}
	if diff := cmp.Diff(garbageLines, got); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
}

func TestUnavailableServerGetsTheMessageAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, delivery int, _ []byte) {
		if delivery <= 2 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"error": {"status": "UNAVAILABLE", "message": "queue is full"}}`)
			return
		}
		fmt.Fprint(w, `{"status": "late"}`)
	})
	var log bytes.Buffer
	o := options(s.URL, bare+"\n"+half+"\n")
	o.Log = &log
	summary := replay(t, o)
	got := s.received()
	if len(got) != 4 || got[0] != got[1] || got[1] != got[2] || got[2] == got[3] {
		t.Errorf("bodies are %q, want the first three times and then the second", got)
	}
	want := Summary{Lines: 2, Deliveries: 4, Acknowledged: 2, ByHTTPStatus: map[int]int{503: 2, 200: 2}, ByVerdict: map[string]int{"late": 2}, ByReason: map[string]int{}}
	if diff := cmp.Diff(want, summary); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "queue is full") {
		t.Errorf("log is %q, want one warning with the server's message", text)
	}
}

func TestRefusedLineIsGivenUpAndNamed(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, delivery int, _ []byte) {
		if delivery%2 == 0 {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error": {"status": "INVALID_ARGUMENT", "message": "problem %d"}}`, delivery)
			return
		}
		fmt.Fprint(w, `{"status": "dead_letter", "reason": "missing_field"}`)
	})
	var log bytes.Buffer
	var input strings.Builder
	for i := range 20 {
		fmt.Fprintf(&input, "{\"n\": %d}\n", i)
	}
	o := options(s.URL, input.String())
	o.Log, o.PublishTime = &log, PublishNow
	summary := replay(t, o)
	want := Summary{Lines: 20, Deliveries: 20, Acknowledged: 10, NotAcknowledged: 10, ByHTTPStatus: map[int]int{400: 10, 200: 10},
		ByVerdict: map[string]int{"dead_letter": 10}, ByReason: map[string]int{"missing_field": 10}}
	if diff := cmp.Diff(want, summary); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 6 || lines[0] != "line 2, given up: 400 Bad Request: problem 2" || !strings.HasPrefix(lines[5], "more are given up") {
		t.Errorf("log is\n%s\nwant the first five refusals and that there are more", &log)
	}
}

func TestServerThatComesUpLaterGetsEverything(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()

	var log bytes.Buffer
	o := options("http://"+address+"/push", bare+"\n"+half+"\n")
	o.Log = &log
	clock, pauses := now, 0
	o.Now = func() time.Time { return clock }
	o.Sleep = func(_ context.Context, d time.Duration) error {
		clock = clock.Add(d)
		if pauses++; pauses != 12 {
			return nil
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("another program took the port: %w", err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		t.Cleanup(func() { s.Close() })
		go s.Serve(listener)
		return nil
	}
	summary := replay(t, o)
	want := map[int]int{0: 12, 200: 2}
	if diff := cmp.Diff(want, summary.ByHTTPStatus); diff != "" || summary.Acknowledged != 2 {
		t.Errorf("%d acknowledged; answers (-want +got):\n%s", summary.Acknowledged, diff)
	}
	if first, _, _ := strings.Cut(log.String(), "\n"); !strings.Contains(first, "line 1, attempt 1") || !strings.Contains(first, "connection refused") {
		t.Errorf("first warning is %q", first)
	}
}

// transport answers requests without a network, so that a test can run in a
// synctest bubble.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestUnreachableServerIsWarnedOfEveryFiveSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 62*time.Second)
		defer cancel()
		attempts := 0
		var mu sync.Mutex
		summary, err := Run(ctx, Options{
			Input: strings.NewReader(strings.Repeat(bare+"\n", 20)), URL: "http://server/push", Concurrency: 20, Anyway: true, Log: &log,
			Client: &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
				mu.Lock()
				defer mu.Unlock()
				attempts++
				return nil, errors.New("connection refused")
			})},
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want the context's error", err)
		}
		if summary.NotAcknowledged != 20 || summary.Deliveries != attempts {
			t.Errorf("%d attempts, summary %+v, want them all and 20 not acknowledged", attempts, summary)
		}
		warnings := strings.Count(log.String(), "\n")
		if warnings < 2 || warnings > 13 {
			t.Errorf("%d warnings of %d failures in a minute, want at most one in 5 s:\n%s", warnings, attempts, &log)
		}
	})
}

// unanswered stands for a server that accepts requests and never answers.
func unanswered(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestAServerThatNeverAnswersEndsTheReplay(t *testing.T) {
	t.Parallel()
	for _, anyway := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			var log bytes.Buffer
			summary, err := Run(t.Context(), Options{
				Input: strings.NewReader(strings.Repeat(bare+"\n", 1000)), URL: "http://server/push", Concurrency: 16, Anyway: anyway,
				Timeout: 30 * time.Second, GiveUpAfter: 5 * time.Minute, Log: &log, Client: &http.Client{Transport: transport(unanswered)},
			})
			if err == nil || !strings.Contains(err.Error(), " 5m; ") || summary.Acknowledged != 0 {
				t.Errorf("error is %v, summary %+v, want that nothing was acknowledged in 5 minutes", err, summary)
			}
			if took := time.Since(start); took > 6*time.Minute {
				t.Errorf("it took %v to give up", took)
			}
			if first, _, _ := strings.Cut(log.String(), "\n"); first != "line 1, attempt 1: no answer: none within 30s; trying again" && !anyway {
				t.Errorf("first warning is %q", first)
			}
		})
	}
}

// A message that always crashes the server must not stop the other messages. It is given
// up after some time.
func TestALineThatAlwaysFailsIsGivenUpAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad := pushLine("bad", "2026-03-14T09:26:58.401Z", []byte(bare))
		good := pushLine("good", "2026-03-14T09:26:58.401Z", []byte(bare)) + "\n"
		var log bytes.Buffer
		summary := replay(t, Options{
			Input: strings.NewReader(good + bad + "\n" + strings.Repeat(good, 1000)), URL: "http://server/push", Concurrency: 2, Rate: 2,
			GiveUpAfter: 5 * time.Minute, Log: &log,
			Client: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return nil, err
				}
				if string(body) == bad {
					return &http.Response{StatusCode: http.StatusInternalServerError, Body: http.NoBody}, nil
				}
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			})},
		})
		if summary.Lines != 1002 || summary.NotAcknowledged != 1 || summary.Acknowledged != 1001 {
			t.Errorf("summary is %+v, want all lines but one acknowledged", summary)
		}
		if !strings.Contains(log.String(), "line 2, given up: not acknowledged within 5m; the last of ") {
			t.Errorf("log is\n%s\nwant line 2 given up", &log)
		}
	})
}

func TestStoppedReplayTellsWhatIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := newServer(t, func(w http.ResponseWriter, delivery int, _ []byte) {
		if delivery > 3 {
			cancel()
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	var log bytes.Buffer
	o := options(s.URL, strings.Repeat(bare+"\n", 1000))
	o.Log = &log
	summary, err := Run(ctx, o)
	if !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "interrupted at line ") {
		t.Errorf("error is %v, want the context's, and the line", err)
	}
	if summary.Acknowledged != 3 || summary.NotAcknowledged == 0 || summary.NotAcknowledged > 2 || summary.Lines > 5 {
		t.Errorf("summary is %+v, want 3 acknowledged and the one or two lines that were read after them not", summary)
	}
	if strings.Contains(log.String(), "canceled") {
		t.Errorf("log is %q, want no warning of our own doing", &log)
	}
}

// An interrupted replay ends even while it waits for input from a terminal.
func TestWaitingForInputEndsWithTheContext(t *testing.T) {
	t.Parallel()
	for _, shift := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			input, writer := io.Pipe()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := Run(ctx, Options{Input: input, URL: "http://server/push", Concurrency: 2, ShiftToNow: shift})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error is %v, want the context's error", err)
			}
			writer.Close() // so that the goroutine that reads ends
		})
	}
}

func TestConcurrencyIsUsedAndNotExceeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		summary := replay(t, Options{
			Input: strings.NewReader(strings.Repeat(bare+"\n", 50)), URL: "http://server/push", Concurrency: 5, Anyway: true,
			Client: &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				time.Sleep(time.Second) // virtual time: the test does not wait
				mu.Lock()
				running--
				mu.Unlock()
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			})},
		})
		if most != 5 || summary.Elapsed != 10*time.Second || summary.Throughput() != 5 {
			t.Errorf("at most %d at once, %v, %v lines/s; want 5, 10 s, 5", most, summary.Elapsed, summary.Throughput())
		}
		if want := (Latency{time.Second, time.Second, time.Second, time.Second}); summary.Latency != want {
			t.Errorf("latency is %+v, want a second throughout", summary.Latency)
		}
	})
}

func TestRateSpacesLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		replay(t, Options{
			Input: strings.NewReader(strings.Repeat(bare+"\n", 6)), URL: "http://server/push", Concurrency: 1, Anyway: true, Rate: 4,
			Client: &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
				at = append(at, time.Since(start))
				if len(at) == 3 {
					time.Sleep(2 * time.Second) // virtual time: the server is slow once
				}
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			})},
		})
		ms := time.Millisecond
		// While the third request was slow, one line waited for a worker, and the line
		// after it became overdue. Both are then sent at once. The time that was lost is
		// not made up for by sending more lines faster.
		want := []time.Duration{0, 250 * ms, 500 * ms, 2500 * ms, 2500 * ms, 2650 * ms}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("times of requests (-want +got):\n%s", diff)
		}
	})
}

func TestPacerCatchesUpNoMoreThanAMoment(t *testing.T) {
	t.Parallel()
	clock := now
	p := pacer{rate: 100, now: func() time.Time { return clock }, sleep: func(_ context.Context, d time.Duration) error {
		clock = clock.Add(d)
		return nil
	}}
	lines := func(n int) time.Duration {
		start := clock
		for range n {
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return clock.Sub(start)
	}
	if got := lines(101); got != time.Second {
		t.Errorf("101 lines at 100/s take %v, want 1 s", got)
	}
	clock = clock.Add(time.Hour)
	if got := lines(111); got != time.Second {
		t.Errorf("after an hour away, 111 lines take %v, want 1 s: the first 10 at once", got)
	}
}

func TestBadOptionsAreAllReported(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), Options{URL: "localhost:8080", Concurrency: -1, Rate: -2, PublishTime: "later"})
	for _, part := range []string{"input", "localhost:8080", "-1", "-2", "later"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not mention %q", err, part)
		}
	}
}

// Every message of the project's test data arrives. Only the redeliveries in it are
// duplicates.
func TestDataSetArrivesWhole(t *testing.T) {
	t.Parallel()
	file, err := os.Open(filepath.Join("..", "..", "..", "testdata", "nasa-1995-08-01-a.push.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := newServer(t, nil)
	o := options(s.URL, "")
	o.Input, o.Concurrency = file, 4
	summary := replay(t, o)
	if summary.Acknowledged != 8377 || summary.NotAcknowledged != 0 {
		t.Errorf("summary is %+v, want 8377 acknowledged", summary)
	}
	got := slices.Sorted(slices.Values(s.received()))
	if n := len(slices.Compact(got)); n < 8248 {
		t.Errorf("%d different bodies, want at least 8248", n)
	}
}
