package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/internal/memfirestore"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// A place is where a program runs: a directory, free ports, and fakes of Google's
// services that record the requests they get.
type place struct {
	settings map[string]string
	words    map[string]string // what each word in capitals stands for here, as DIR or REST1
	counters map[string]*memfirestore.Server

	mu       sync.Mutex
	requests []string // requests to the fakes; each begins with the name of the fake
}

// newPlace returns a place with the given settings, each as NAME=VALUE. If a name occurs
// twice, the later value counts. A setting with an empty value is not set.
func newPlace(t *testing.T, settings []string) *place {
	t.Helper()
	p := &place{
		settings: map[string]string{"DATA_DIR": "DIR/data", "PORT": "0"}, counters: map[string]*memfirestore.Server{},
		words: map[string]string{"DIR": t.TempDir(), "PORT1": freePort(t), "PORT2": freePort(t)},
	}
	for _, n := range []string{"1", "2"} {
		p.words["REST"+n] = p.serveREST(t, "REST"+n)
		p.words["STORAGE"+n] = p.serveGRPC(t, "STORAGE"+n)
		counters := memfirestore.New(time.Now)
		p.counters["FIRESTORE"+n], p.words["FIRESTORE"+n] = counters, counters.Start(t)
	}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		p.settings[name] = value
	}
	for name, value := range p.settings {
		p.settings[name] = p.fill(value)
	}
	return p
}

// fill replaces the words in capitals by what they stand for in this place.
func (p *place) fill(text string) string {
	for word, meaning := range p.words {
		text = regexp.MustCompile(`\b`+word+`\b`).ReplaceAllString(text, meaning)
	}
	return text
}

func (p *place) lookup(name string) (string, bool) {
	value := p.settings[name]
	return value, value != ""
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

func (p *place) note(request string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, request)
}

// serveREST serves a fake of BigQuery. It is empty at first, records what is created, and
// refuses all queries.
func (p *place) serveREST(t *testing.T, name string) (host string) {
	made := map[string]bool{}
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.note(name + " " + r.Method + " " + r.URL.Path + " " + string(body))
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		path := strings.TrimSuffix(r.URL.Path, "/insertAll")
		switch {
		case strings.HasSuffix(path, "/jobs"), strings.HasSuffix(path, "/queries"):
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error": {"code": 400, "errors": [{"reason": "invalidQuery"}]}}`)
		case r.Method == http.MethodPost && path == r.URL.Path:
			var resource struct {
				DatasetReference, TableReference struct{ DatasetID, TableID string }
			}
			json.Unmarshal(body, &resource)
			made[path+"/"+resource.DatasetReference.DatasetID+resource.TableReference.TableID] = true
			w.Write(body)
		case !made[path]:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"error": {"code": 404, "errors": [{"reason": "notFound"}]}}`)
		default:
			io.WriteString(w, `{}`)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// serveGRPC serves a fake that refuses every call.
func (p *place) serveGRPC(t *testing.T, name string) (host string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		p.note(name + " " + method)
		return status.Error(codes.PermissionDenied, "denied")
	}))
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// submatch returns the first group of the first match in the lines.
func submatch(pattern string, lines ...string) string {
	for _, line := range lines {
		if match := regexp.MustCompile(pattern).FindStringSubmatch(line); match != nil {
			return match[1]
		}
	}
	return ""
}

// A running is a service that runs in a place.
type running struct {
	*service.Service
	*place
	began time.Time
}

// on returns a function that starts a service in a place, in real time, and returns what
// see sees of it.
func on(see func(t *testing.T, s running) string) func(t *testing.T, p *place) string {
	return func(t *testing.T, p *place) string {
		t.Helper()
		settings, err := settings.Load(nil, p.lookup)
		if err != nil {
			t.Fatal(err)
		}
		service, err := service.New(t.Context(), settings, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := service.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}()
		return see(t, running{service, p, time.Now()})
	}
}

// virtually does the same as on, but in virtual time: it begins at midnight on
// 2000-01-01, and work takes no time.
func virtually(see func(t *testing.T, s running) string) func(t *testing.T, p *place) string {
	return func(t *testing.T, p *place) (seen string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { seen = on(see)(t, p) })
		return seen
	}
}

// An answer is the answer to a request, and the time until it came.
type answer struct {
	code int
	body []byte
	took time.Duration
}

func (a answer) String() string { return fmt.Sprintf("%d after %v", a.code, a.took) }

// ask sends a request to a route, for example "POST /flush", with headers of the form
// "Name: value".
func (s running) ask(route string, body io.Reader, headers ...string) answer {
	method, path, _ := strings.Cut(route, " ")
	request := httptest.NewRequest(method, "http://localhost"+path, body)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
		if name == "Host" {
			request.Host = value
		}
	}
	response := httptest.NewRecorder()
	began := time.Now()
	s.Handler().ServeHTTP(response, request)
	return answer{response.Code, response.Body.Bytes(), time.Since(began)}
}

// A message is an event. Its times are durations after midnight.
type message struct {
	id                  string // 1 if it is empty
	happened, published time.Duration
	attributes          map[string]string
}

// push pushes a message and returns its answer.
func (s running) push(t *testing.T, m message) answer {
	t.Helper()
	midnight := time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)
	data, err := accesslog.Record{Timestamp: midnight.Add(m.happened)}.Data()
	if err != nil {
		t.Fatal(err)
	}
	if m.id == "" {
		m.id = "1"
	}
	return s.ask("POST /push", bytes.NewReader(envelope.Encode(event.Message{
		ID: m.id, Data: data, PublishTime: midnight.Add(m.published), Attributes: m.attributes,
	})))
}

// flush sends a flush and returns its report.
func (s running) flush(t *testing.T) (report struct {
	Windows []struct {
		Final bool `json:"is_final"`
	}
	Remaining int
}) {
	t.Helper()
	if a := s.ask("POST /flush", nil); a.code != http.StatusOK {
		t.Errorf("flush is answered %d %s", a.code, a.body)
	} else if err := json.Unmarshal(a.body, &report); err != nil {
		t.Error(err)
	}
	return report
}

// answered sees the status of the answer to a request.
func answered(route, body string, headers ...string) func(t *testing.T, p *place) string {
	return on(func(t *testing.T, s running) string {
		return strconv.Itoa(s.ask(route, strings.NewReader(body), headers...).code)
	})
}

// token returns a header with a token of the account, as Cloud Run passes it on after
// checking it.
func token(audience, email string) (header string) {
	claims := fmt.Sprintf(`{"iss": "https://accounts.google.com", "aud": %q, "sub": "1", "email": %q, "email_verified": true, "iat": %d, "exp": %d}`,
		audience, email, time.Now().Unix(), time.Now().Add(time.Hour).Unix())
	part := base64.RawURLEncoding.EncodeToString
	return "Authorization: Bearer " + part([]byte(`{"alg": "RS256"}`)) + "." + part([]byte(claims)) + ".SIGNATURE_REMOVED_BY_GOOGLE"
}

// asked sees the requests that a push sends to Google's services: the part of them that
// the pattern's group matches.
func asked(pattern string) func(t *testing.T, p *place) string {
	return on(func(t *testing.T, s running) string {
		s.push(t, message{})
		return s.requested(pattern)
	})
}

// askedByAudit sees the same for an audit of one day.
func askedByAudit(pattern string) func(t *testing.T, p *place) string {
	return on(func(t *testing.T, s running) string {
		s.ask("GET /audit?from=2000-01-03T00:00:00Z&to=2000-01-04T00:00:00Z", nil)
		return s.requested(pattern)
	})
}

func (p *place) requested(pattern string) string {
	var lines []string
	for name, counters := range p.counters {
		for _, request := range counters.Requests() {
			lines = append(lines, name+" "+fmt.Sprint(request))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fill(submatch(pattern, append(lines, p.requests...)...))
}

// verdict sees a member of the verdict on a message.
func verdict(member string, m message) func(t *testing.T, p *place) string {
	return virtually(func(t *testing.T, s running) string {
		var members map[string]string
		if err := json.Unmarshal(s.push(t, m).body, &members); err != nil {
			t.Error(err)
		}
		return members[member]
	})
}

// burst sees the answers to n messages that come at the same time. The batch of one
// earlier message has just been written.
func burst(n int) func(t *testing.T, p *place) string {
	return virtually(func(t *testing.T, s running) string {
		s.push(t, message{})
		answers := make([]string, n)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { answers[i] = s.push(t, message{id: strconv.Itoa(2 + i)}).String() })
			synctest.Wait()
		}
		all.Wait()
		return strings.Join(answers, ", ")
	})
}

// refusedInFlight sees how many of n bodies of the given size are refused while none of
// them has come completely.
func refusedInFlight(n, size int) func(t *testing.T, p *place) string {
	return virtually(func(t *testing.T, s running) string {
		codes := make([]int, n)
		arrive := make(chan struct{})
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				body := io.MultiReader(io.LimitReader(zeros{}, int64(size)), never{arrive})
				codes[i] = s.ask("POST /push/raw", body).code
			})
			synctest.Wait()
		}
		refused := slices.Clone(codes)
		close(arrive)
		all.Wait()
		return fmt.Sprintf("%d of %d", len(slices.DeleteFunc(refused, func(code int) bool { return code != http.StatusServiceUnavailable })), n)
	})
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// never is the end of a body that stalls and is then cut off.
type never struct{ until chan struct{} }

func (n never) Read([]byte) (int, error) {
	<-n.until
	return 0, io.ErrUnexpectedEOF
}

// flushed sees what a flush writes, at the given time after midnight, after the messages
// were pushed.
func flushed(at time.Duration, messages ...message) func(t *testing.T, p *place) string {
	return virtually(func(t *testing.T, s running) string {
		for i, m := range messages {
			m.id = strconv.Itoa(i)
			s.push(t, m)
		}
		time.Sleep(at - time.Since(s.began))
		report := s.flush(t)
		final := 0
		for _, w := range report.Windows {
			if w.Final {
				final++
			}
		}
		return fmt.Sprintf("%d windows, %d final, %d remaining", len(report.Windows), final, report.Remaining)
	})
}

// poll looks every five seconds. It returns the time after which look was true.
func (s running) poll(t *testing.T, look func() bool) string {
	for !look() {
		if time.Since(s.began) > 24*time.Hour {
			t.Fatal("it did not happen within a day")
		}
		time.Sleep(5 * time.Second)
	}
	return time.Since(s.began).Truncate(time.Second).String()
}

// finalAfter sees the time after which the message's window is final. If more is true,
// another event of the window comes every five seconds.
func finalAfter(m message, more bool) func(t *testing.T, p *place) string {
	return virtually(func(t *testing.T, s running) string {
		s.push(t, m)
		n := 1
		return s.poll(t, func() bool {
			if n++; more {
				m.id = strconv.Itoa(n)
				s.push(t, m)
			}
			windows := s.flush(t).Windows
			return len(windows) == 1 && windows[0].Final
		})
	})
}

// auditedAfter sees the time after which an audit lists the message's window in the given
// list, if nobody flushes.
func auditedAfter(list string, m message) func(t *testing.T, p *place) string {
	return virtually(func(t *testing.T, s running) string {
		s.push(t, m)
		return s.poll(t, func() bool {
			var report map[string]any
			if err := json.Unmarshal(s.ask("GET /audit", nil).body, &report); err != nil {
				t.Fatal(err)
			}
			windows, _ := report[list].([]any)
			return len(windows) == 1
		})
	})
}

// waitsForTables sees how long a request to the route waits if another program has locked
// the tables.
func waitsForTables(route string) func(t *testing.T, p *place) string {
	return virtually(func(t *testing.T, s running) string {
		s.push(t, message{happened: -time.Hour, published: -time.Hour})
		time.Sleep(time.Hour) // so that the window is neither held back nor only waiting for its flush
		tables := s.open(t, "warehouse.db")
		defer tables.Close()
		lock, err := tables.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Rollback()
		if _, err := lock.Exec("DELETE FROM raw WHERE FALSE"); err != nil {
			t.Fatal(err)
		}
		return s.ask(route, nil).took.String()
	})
}

// open opens a file of the data directory.
func (p *place) open(t *testing.T, name string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.settings["DATA_DIR"], name))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// stored sees the value that a query returns, or the table that it does not find. Before
// that, an event and a dead letter are stored and a flush is run.
func stored(file, query string) func(t *testing.T, p *place) string {
	return virtually(func(t *testing.T, s running) string {
		s.push(t, message{})
		s.ask("POST /push/raw", strings.NewReader("no event"))
		time.Sleep(time.Hour)
		s.flush(t)
		return s.value(t, file, query)
	})
}

func (p *place) value(t *testing.T, file, query string) (value string) {
	t.Helper()
	db := p.open(t, file)
	defer db.Close()
	if err := db.QueryRow(query).Scan(&value); err != nil {
		return submatch(`(no such table: \w+|$)`, err.Error())
	}
	return value
}

// shardsLeftAfter sees how many counters are left if a flush writes their window and
// another flush runs the given time later.
func shardsLeftAfter(wait time.Duration) func(t *testing.T, p *place) string {
	return virtually(func(t *testing.T, s running) string {
		s.push(t, message{})
		time.Sleep(time.Hour)
		s.flush(t)
		time.Sleep(wait)
		s.flush(t)
		return s.value(t, "counters.db", "SELECT COUNT(*) FROM shards")
	})
}

// found sees the names of the files in the place's directory that match the pattern.
func found(pattern string) func(t *testing.T, p *place) string {
	return on(func(t *testing.T, s running) string {
		files, err := filepath.Glob(filepath.Join(s.words["DIR"], pattern))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(files, " ")
	})
}

// logged sees what the pattern's group matches in the log of the program. The program
// starts, answers a probe and ends.
func logged(pattern string) func(t *testing.T, p *place) string {
	return func(t *testing.T, p *place) string {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), patience)
		defer stop()
		var log lockedBuffer
		exited := make(chan int, 1)
		go func() { exited <- run(ctx, []string{"serve"}, process{stderr: &log, lookup: p.lookup}) }()
		waitFor(t, "the server to listen", func() bool {
			url := submatch(`(http://[\w.:\[\]]+)`, log.String())
			response, err := http.Get(url + "/health")
			if err == nil {
				response.Body.Close()
			}
			return err == nil
		})
		stop()
		if code := <-exited; code != exitDone {
			t.Errorf("exit code %d: %s", code, log.String())
		}
		return submatch(pattern, log.String())
	}
}

// A lockedBuffer is a buffer that can be read while it is written.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// published sees which of the fakes gets a message that generate publishes.
func published(t *testing.T, p *place) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var said bytes.Buffer
	args := []string{"generate", "--topic", "projects/my-project/topics/my-topic", "--count", "1", "--rate", "60000"}
	if code := run(ctx, args, process{stdout: &said, stderr: &said, lookup: p.lookup}); code != exitNo || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("exit code %d: %s", code, &said)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fill(submatch(`(STORAGE.) .*Publish`, p.requests...))
}
