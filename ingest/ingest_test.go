package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// storage is a warehouse and a counter store in memory. A hook that is set runs before its
// call. It can block the call or let the call fail.
type storage struct {
	beforeRaw, beforeLetters func(ctx context.Context, ids []string) error
	beforeAdd                func(ctx context.Context, increments []windowstore.Increment) error

	misfit error // the error that Register returns

	mu      sync.Mutex
	raw     []warehouse.RawRow
	letters []warehouse.DeadLetter
	counted map[windowstore.Key]bool
	appends [][]string // the message ids of each append to the raw table that was stored
}

func (s *storage) AppendRaw(ctx context.Context, rows []warehouse.RawRow) error {
	var ids []string
	for _, row := range rows {
		ids = append(ids, row.MessageID)
	}
	if s.beforeRaw != nil {
		if err := s.beforeRaw(ctx, ids); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = append(s.raw, rows...)
	s.appends = append(s.appends, ids)
	return nil
}

func (s *storage) AppendDeadLetters(ctx context.Context, letters []warehouse.DeadLetter) error {
	var ids []string
	for _, letter := range letters {
		ids = append(ids, letter.Message.ID)
	}
	if s.beforeLetters != nil {
		if err := s.beforeLetters(ctx, ids); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letters = append(s.letters, letters...)
	return nil
}

func (s *storage) Register(context.Context) error { return s.misfit }

func (s *storage) Add(ctx context.Context, increments []windowstore.Increment) error {
	if s.beforeAdd != nil {
		if err := s.beforeAdd(ctx, increments); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, increment := range increments {
		for _, key := range increment.Keys {
			s.counted[key] = true
		}
	}
	return nil
}

// batches returns the message ids of each append to the raw table that was stored.
func (s *storage) batches() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.appends)
}

func (s *storage) hasRaw(id string) bool {
	return slices.ContainsFunc(s.raw, func(row warehouse.RawRow) bool { return row.MessageID == id })
}

func (s *storage) hasLetter(id string) bool {
	return slices.ContainsFunc(s.letters, func(l warehouse.DeadLetter) bool { return l.Message.ID == id })
}

func (s *storage) hasCounted(id string) bool {
	return s.counted[windowstore.KeyOf("message", id)]
}

// run runs a test against a Committer in a bubble of virtual time. adjust may
// change its settings.
func run(t *testing.T, adjust func(*Config), test func(t *testing.T, c *Committer, s *storage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &storage{counted: map[windowstore.Key]bool{}}
		cfg := Config{
			Warehouse: s, Counter: s, IDKind: "message",
			Interval: 200 * time.Millisecond, QueueLength: 1000, QueueBytes: 1 << 20, BatchRows: 100, BatchBytes: 1 << 20,
			StepTimeout: 10 * time.Second,
			Now:         time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		}
		if adjust != nil {
			adjust(&cfg)
		}
		c := New(cfg)
		test(t, c, s)
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

var (
	minute = time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)
	onTime = event.Verdict{Status: event.Counted, Window: minute, HasTime: true}
	late   = event.Verdict{Status: event.Late, Window: minute, HasTime: true}
	letter = event.Verdict{Status: event.DeadLetter, Reason: event.BadJSON, Err: errors.New("no JSON")}
)

func submit(ctx context.Context, c *Committer, id string, v event.Verdict) (event.Verdict, error) {
	if v.Status != event.DeadLetter {
		v.EventID = id
	}
	return c.Submit(ctx, event.Message{ID: id, PublishTime: minute, Data: []byte("data of " + id)}, v)
}

// pass lets virtual time pass in the bubble. When it returns, everything that was due within d
// has happened.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// submission is a call of Submit that runs in another goroutine.
type submission struct {
	verdict event.Verdict
	err     error
	done    bool
}

func submitAsync(c *Committer, id string, v event.Verdict) *submission {
	var s submission
	go func() {
		s.verdict, s.err = submit(context.Background(), c, id, v)
		s.done = true
	}()
	synctest.Wait() // so that submissions are queued in the order in which they were started
	return &s
}

func TestSubmitReturnsWhenAllThatTheMessageStandsForIsStored(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		for id, v := range map[string]event.Verdict{"e": onTime, "l": late, "d": letter} {
			got, err := submit(t.Context(), c, id, v)
			if err != nil || got.Status != v.Status {
				t.Fatalf("Submit(%s) = %v, %v", id, got.Status, err)
			}
			isLetter := v.Status == event.DeadLetter
			if s.hasRaw(id) == isLetter || s.hasLetter(id) != isLetter || s.hasCounted(id) != (v.Status == event.Counted) {
				t.Errorf("%s, a %s, is in raw: %v, in dead letters: %v, counted: %v", id, v.Status, s.hasRaw(id), s.hasLetter(id), s.hasCounted(id))
			}
		}
		if row := s.raw[slices.IndexFunc(s.raw, func(r warehouse.RawRow) bool { return r.MessageID == "l" })]; !row.Late || row.WindowStart != minute || row.EventID != "l" {
			t.Errorf("row of the late event: %+v", row)
		}
	})
}

// The processing time is when the message came, by the service's clock. It is not the
// publish time, and not the time at which the batch is written.
func TestTheTimeOfProcessingIsWhenTheMessageCame(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		submitAsync(c, "before", onTime) // written at once, so that the others wait for the interval
		pass(time.Millisecond)
		came := time.Now()
		for id, v := range map[string]event.Verdict{"e": onTime, "l": late, "d": letter} {
			submitAsync(c, id, v)
		}
		pass(c.cfg.Interval)
		if len(s.raw) != 3 || len(s.letters) != 1 {
			t.Fatalf("%d rows and %d dead letters", len(s.raw), len(s.letters))
		}
		for _, row := range s.raw[1:] {
			if !row.ProcessingTime.Equal(came) || !row.PublishTime.Equal(minute) {
				t.Errorf("%s: processed at %v, published at %v, want %v and %v", row.MessageID, row.ProcessingTime, row.PublishTime, came, minute)
			}
		}
		if l := s.letters[0]; !l.ReceivedAt.Equal(came) || !l.Message.PublishTime.Equal(minute) {
			t.Errorf("dead letter received at %v, published at %v, want %v and %v", l.ReceivedAt, l.Message.PublishTime, came, minute)
		}
	})
}

func TestNobodyIsAnsweredBeforeTheWrites(t *testing.T) {
	for name, v := range map[string]event.Verdict{"counted": onTime, "late": late, "dead letter": letter} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, c *Committer, s *storage) {
				release := make(chan struct{})
				block := func(context.Context, []string) error { <-release; return nil }
				s.beforeRaw, s.beforeLetters = block, block
				s.beforeAdd = func(context.Context, []windowstore.Increment) error { <-release; return nil }
				sub := submitAsync(c, "a", v)
				if sub.done {
					t.Fatal("answered while the first write was under way")
				}
				release <- struct{}{}
				synctest.Wait()
				if v.Status == event.Counted {
					if sub.done {
						t.Fatal("answered while the increment was under way")
					}
					release <- struct{}{}
					synctest.Wait()
				}
				if !sub.done || sub.err != nil {
					t.Fatalf("after the writes: done %v, error %v", sub.done, sub.err)
				}
			})
		})
	}
}

func TestCountedIsAlwaysASubsetOfRaw(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		s.beforeAdd = func(_ context.Context, increments []windowstore.Increment) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			stored := map[windowstore.Key]bool{}
			for _, row := range s.raw {
				stored[windowstore.KeyOf("message", row.EventID)] = true
			}
			for _, increment := range increments {
				for _, key := range increment.Keys {
					if !stored[key] {
						t.Error("an event was counted before its row was stored")
					}
				}
			}
			return nil
		}
		for i := range 300 {
			submitAsync(c, fmt.Sprint(i), onTime)
		}
		pass(time.Second)
		if len(s.counted) != 300 {
			t.Errorf("%d of 300 counted", len(s.counted))
		}
	})
}

func TestALoneEventWaitsForNothing(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		for range 3 {
			began := time.Now()
			if _, err := submit(t.Context(), c, "a", onTime); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited != 0 {
				t.Errorf("a lone event waited %v", waited)
			}
			pass(c.cfg.Interval)
		}
	})
}

func TestABusyProcessWritesOncePerInterval(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		for i := range 100 { // one event every 10 ms, for a second
			submitAsync(c, fmt.Sprint(i), onTime)
			pass(10 * time.Millisecond)
		}
		pass(c.cfg.Interval)
		if n := len(s.appends); n != 6 { // at 0, 200, 400, 600, 800 and 1000 ms
			t.Errorf("%d batches for a second of events, want 6", n)
		}
		if len(s.raw) != 100 {
			t.Errorf("%d rows, want 100", len(s.raw))
		}
	})
}

func TestTheAppendOfOneBatchOverlapsTheIncrementOfTheOneBefore(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		release := make(chan struct{})
		s.beforeAdd = func(context.Context, []windowstore.Increment) error { <-release; return nil }
		first := submitAsync(c, "first", onTime)
		second := submitAsync(c, "second", onTime)
		pass(c.cfg.Interval)
		if !s.hasRaw("second") || first.done || second.done {
			t.Errorf("second stored: %v; answered: %v, %v", s.hasRaw("second"), first.done, second.done)
		}
		close(release)
	})
}

// While a batch is stored, messages of 10 bytes each queue up. As many of them as fill
// batches then follow at once, and the rest when the interval has passed.
func TestABatchIsBoundedInRowsAndBytes(t *testing.T) {
	const big = "a message of more bytes than fit in a batch"
	for name, tc := range map[string]struct {
		rows, bytes   int
		waiting       []string
		atOnce, later [][]string
	}{
		"rows":                      {3, 1000, []string{"1", "2", "3", "4", "5", "6", "7"}, [][]string{{"1", "2", "3"}, {"4", "5", "6"}}, [][]string{{"7"}}},
		"as many bytes as fit":      {100, 30, []string{"1", "2", "3", "4", "5", "6", "7"}, [][]string{{"1", "2", "3"}, {"4", "5", "6"}}, [][]string{{"7"}}},
		"one byte less":             {100, 29, []string{"1", "2", "3", "4", "5"}, [][]string{{"1", "2"}, {"3", "4"}}, [][]string{{"5"}}},
		"a message of too many":     {100, 30, []string{"1", big, "2"}, [][]string{{"1"}, {big}}, [][]string{{"2"}}},
		"one row and one byte each": {1, 1, []string{"1", "2", "3"}, [][]string{{"1"}, {"2"}, {"3"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bounds := func(c *Config) { c.BatchRows, c.BatchBytes = tc.rows, tc.bytes }
			run(t, bounds, func(t *testing.T, c *Committer, s *storage) {
				release := make(chan struct{})
				s.beforeRaw = func(context.Context, []string) error { <-release; return nil }
				submitAsync(c, "0", onTime)
				for _, id := range tc.waiting {
					submitAsync(c, id, onTime)
				}
				close(release)
				synctest.Wait()
				want := append([][]string{{"0"}}, tc.atOnce...)
				if got := s.batches(); !slices.EqualFunc(got, want, slices.Equal) {
					t.Errorf("batches at once %q, want %q", got, want)
				}
				pass(c.cfg.Interval)
				want = append(want, tc.later...)
				if got := s.batches(); !slices.EqualFunc(got, want, slices.Equal) {
					t.Errorf("batches %q, want %q", got, want)
				}
			})
		})
	}
}

// When a batch is full, it is written without waiting for the end of the interval.
func TestAFullBatchDoesNotWaitForTheInterval(t *testing.T) {
	for name, bounds := range map[string]func(*Config){
		"rows":  func(c *Config) { c.BatchRows = 3 },
		"bytes": func(c *Config) { c.BatchBytes = 30 },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, bounds, func(t *testing.T, c *Committer, s *storage) {
				submitAsync(c, "0", onTime) // written at once; the others wait
				first, second := submitAsync(c, "1", onTime), submitAsync(c, "2", onTime)
				if first.done || second.done {
					t.Error("a batch left before it was full")
				}
				if third := submitAsync(c, "3", onTime); !first.done || !second.done || !third.done {
					t.Errorf("a full batch waits: answered %v, %v, %v", first.done, second.done, third.done)
				}
			})
		})
	}
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	run(t, func(c *Config) { c.QueueLength = 2 }, func(t *testing.T, c *Committer, s *storage) {
		submitAsync(c, "0", onTime)
		submitAsync(c, "1", onTime)
		submitAsync(c, "2", onTime)
		if _, err := submit(t.Context(), c, "3", onTime); !errors.Is(err, ErrQueueFull) {
			t.Errorf("Submit to a full queue: %v", err)
		}
		pass(c.cfg.Interval)
		if _, err := submit(t.Context(), c, "4", onTime); err != nil {
			t.Errorf("Submit when there is room again: %v", err)
		}
	})
}

func TestTheQueueIsBoundedInBytesAttributesIncluded(t *testing.T) {
	run(t, func(c *Config) { c.QueueBytes = 1000 }, func(t *testing.T, c *Committer, s *storage) {
		submitAsync(c, "0", onTime)
		submitAsync(c, "1", onTime)
		big := event.Message{ID: "big", Attributes: map[string]string{"header": strings.Repeat("x", 1000)}}
		if _, err := c.Submit(t.Context(), big, letter); !errors.Is(err, ErrQueueFull) {
			t.Errorf("Submit of more than there is room for: %v", err)
		}
		pass(c.cfg.Interval)
		if _, err := c.Submit(t.Context(), big, letter); err != nil {
			t.Errorf("Submit of it to an empty queue: %v", err)
		}
	})
}

func TestTheQueueIsBoundedInBytesToTheByte(t *testing.T) {
	run(t, func(c *Config) { c.QueueBytes = 20 }, func(t *testing.T, c *Committer, s *storage) {
		submitAsync(c, "0", onTime)
		submitAsync(c, "1", onTime)
		if last := submitAsync(c, "2", onTime); last.done {
			t.Errorf("Submit of as much as there is room for: %v", last.err)
		}
		if _, err := submit(t.Context(), c, "3", onTime); !errors.Is(err, ErrQueueFull) {
			t.Errorf("Submit to a full queue: %v", err)
		}
	})
}

// Many more bytes than may wait at a time pass through the queue, a few at a time.
// Whether a message is stored or its caller gives up, its bytes no longer count.
func TestWhatLeavesTheQueueGivesItsBytesBack(t *testing.T) {
	run(t, func(c *Config) { c.QueueBytes = 100 }, func(t *testing.T, c *Committer, s *storage) {
		for i := range 50 {
			submitAsync(c, fmt.Sprint("a", i), onTime) // written at once
			submitAsync(c, fmt.Sprint("b", i), onTime) // waits, so that the next message needs room in the queue beside it
			ctx, leave := context.WithCancel(t.Context())
			gone := make(chan error)
			go func() {
				_, err := submit(ctx, c, fmt.Sprint("c", i), onTime)
				gone <- err
			}()
			synctest.Wait()
			leave()
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Fatalf("round %d: Submit until its request goes away: %v", i, err)
			}
			last := submitAsync(c, fmt.Sprint("d", i), onTime)
			pass(c.cfg.Interval)
			if last.err != nil {
				t.Fatalf("round %d: %v", i, last.err)
			}
			pass(c.cfg.Interval)
		}
	})
}

func TestARequestThatHasGoneAwayLeavesTheQueue(t *testing.T) {
	run(t, func(c *Config) { c.QueueLength = 1 }, func(t *testing.T, c *Committer, s *storage) {
		submitAsync(c, "0", onTime)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := submit(ctx, c, "gone", onTime); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Submit past its deadline: %v", err)
		}
		if n := c.QueueLength(); n != 0 {
			t.Errorf("%d messages wait after the only caller gave up", n)
		}
		if _, err := submit(t.Context(), c, "next", onTime); err != nil {
			t.Errorf("Submit to the place that has become free: %v", err)
		}
		if s.hasRaw("gone") {
			t.Error("the message whose caller gave up was stored")
		}
	})
}

func TestAPassingFailureIsAnsweredToEveryMessageItConcerns(t *testing.T) {
	broken := errors.New("storage is away")
	fail := func(context.Context, []string) error { return broken }
	cases := map[string]struct {
		breakIt func(*storage)
		fails   map[string]bool // by message
	}{
		"raw":          {func(s *storage) { s.beforeRaw = fail }, map[string]bool{"e": true, "l": true}},
		"dead letters": {func(s *storage) { s.beforeLetters = fail }, map[string]bool{"d": true}},
		"counters": {func(s *storage) {
			s.beforeAdd = func(context.Context, []windowstore.Increment) error { return broken }
		}, map[string]bool{"e": true}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, c *Committer, s *storage) {
				submitAsync(c, "before", onTime) // written at once, so that the others share a batch
				tc.breakIt(s)
				subs := map[string]*submission{"e": submitAsync(c, "e", onTime), "l": submitAsync(c, "l", late), "d": submitAsync(c, "d", letter)}
				pass(time.Second)
				for id, sub := range subs {
					if !sub.done || (sub.err != nil) != tc.fails[id] || tc.fails[id] && !errors.Is(sub.err, broken) {
						t.Errorf("%s: done %v, error %v, want an error: %v", id, sub.done, sub.err, tc.fails[id])
					}
				}
				if s.hasCounted("e") == tc.fails["e"] {
					t.Errorf("the event is counted: %v", s.hasCounted("e"))
				}
			})
		})
	}
}

func TestAStuckWriteEndsAtItsDeadline(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		s.beforeRaw = func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() }
		began := time.Now()
		_, err := submit(t.Context(), c, "a", onTime)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != c.cfg.StepTimeout {
			t.Errorf("a stuck write was answered after %v with %v", took, err)
		}
	})
}

// refuse returns a hook that refuses the rows of the given messages for their own value.
// naming says whether the refusal names these rows.
func refuse(naming bool, bad ...string) func(context.Context, []string) error {
	return func(_ context.Context, ids []string) error {
		refusal := &warehouse.RefusedError{Err: errors.New("invalid argument")}
		any := false
		for i, id := range ids {
			if slices.Contains(bad, id) {
				any = true
				if naming {
					if refusal.Rows == nil {
						refusal.Rows = map[int]error{}
					}
					refusal.Rows[i] = errors.New("value out of range")
				}
			}
		}
		if !any {
			return nil
		}
		return refusal
	}
}

func TestARowRefusedForItsOwnValueBecomesADeadLetterAndItsMatesPass(t *testing.T) {
	for _, naming := range []bool{true, false} {
		t.Run(fmt.Sprintf("naming=%v", naming), func(t *testing.T) {
			run(t, nil, func(t *testing.T, c *Committer, s *storage) {
				s.beforeRaw = refuse(naming, "bad", "worse")
				submitAsync(c, "before", onTime)
				bad, good := submitAsync(c, "bad", onTime), submitAsync(c, "good", onTime)
				worse, tardy := submitAsync(c, "worse", late), submitAsync(c, "tardy", late)
				pass(time.Second)
				for id, sub := range map[string]*submission{"bad": bad, "worse": worse} {
					if sub.err != nil || sub.verdict.Status != event.DeadLetter || sub.verdict.Reason != event.Rejected || !s.hasLetter(id) || s.hasCounted(id) {
						t.Errorf("%s: %v, error %v, dead letter %v, counted %v", id, sub.verdict.Status, sub.err, s.hasLetter(id), s.hasCounted(id))
					}
				}
				if good.err != nil || tardy.err != nil || !s.hasCounted("good") || !s.hasRaw("tardy") {
					t.Errorf("mates: %v, %v", good.err, tardy.err)
				}
			})
		})
	}
}

func TestARowThatIsRefusedAloneByNameIsADeadLetterAtOnce(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		s.beforeRaw = refuse(true, "bad")
		v, err := submit(t.Context(), c, "bad", onTime)
		if err != nil || v.Status != event.DeadLetter || v.Reason != event.Rejected || !s.hasLetter("bad") || s.hasCounted("bad") {
			t.Errorf("%s %s, error %v, dead letter %v, counted %v", v.Status, v.Reason, err, s.hasLetter("bad"), s.hasCounted("bad"))
		}
	})
}

func TestARefusalThatNamesNoRowIsNoDeadLetter(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		s.beforeRaw = refuse(false, "0", "1", "2")
		subs := []*submission{submitAsync(c, "0", onTime), submitAsync(c, "1", onTime), submitAsync(c, "2", onTime)}
		pass(time.Second)
		for i, sub := range subs {
			if sub.err == nil || len(s.letters) > 0 {
				t.Errorf("message %d: error %v, %d dead letters", i, sub.err, len(s.letters))
			}
		}
	})
}

// narrow is a warehouse that refuses dead letters that have attributes, a subscription or
// no message id.
type narrow struct{ warehouse.Ingester }

func (n narrow) AppendDeadLetters(ctx context.Context, letters []warehouse.DeadLetter) error {
	refused := &warehouse.RefusedError{Certain: true, Rows: map[int]error{}}
	for i, l := range letters {
		if m := l.Message; len(m.Attributes) > 0 || m.Subscription != "" || m.ID == "" {
			refused.Rows[i] = errors.New("row is too large")
		}
	}
	if len(refused.Rows) > 0 {
		return refused
	}
	return n.Ingester.AppendDeadLetters(ctx, letters)
}

// If the table refuses a dead letter because of its attributes or its subscription, it is
// stored without them, and its error says so. If the letter is refused for another
// reason, Submit returns an error, so that the message comes again.
func TestADeadLetterThatIsRefusedIsStoredWithoutItsAttributes(t *testing.T) {
	for name, tc := range map[string]struct {
		message event.Message
		stored  bool
	}{
		"attributes":     {event.Message{ID: "bad", Attributes: map[string]string{"a": "1", "b": "2"}}, true},
		"subscription":   {event.Message{ID: "bad", Subscription: "orders"}, true},
		"something else": {event.Message{}, false},
		"both":           {event.Message{Attributes: map[string]string{"a": "1"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(c *Config) { c.Warehouse = narrow{c.Warehouse} }, func(t *testing.T, c *Committer, s *storage) {
				m := tc.message
				m.Data, m.PublishTime = []byte("no event"), minute
				submitAsync(c, "before", letter)
				mate := submitAsync(c, "mate", letter)
				v, err := c.Submit(t.Context(), m, letter)
				synctest.Wait() // until mate has its answer
				if (err == nil) != tc.stored || s.hasLetter(m.ID) != tc.stored || mate.err != nil || !s.hasLetter("mate") {
					t.Fatalf("error %v, stored %v, its mate: %v", err, s.hasLetter(m.ID), mate.err)
				}
				if !tc.stored {
					return
				}
				got := s.letters[len(s.letters)-1]
				want := warehouse.DeadLetter{
					ReceivedAt: got.ReceivedAt, Reason: event.BadJSON, Err: v.Err.Error(),
					Message: event.Message{ID: "bad", Data: []byte("no event"), PublishTime: minute},
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("letter (-want +got):\n%s", diff)
				}
				for _, text := range []string{"no JSON", fmt.Sprintf("without its %d attributes", len(tc.message.Attributes)), "row is too large"} {
					if !strings.Contains(got.Err, text) {
						t.Errorf("the letter's error %q does not say %q", got.Err, text)
					}
				}
			})
		})
	}
}

func TestNothingIsStoredUnderSettingsThatDoNotFitThePipeline(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		s.misfit = &windowstore.MeaningError{Pipeline: "p"}
		for id, v := range map[string]event.Verdict{"e": onTime, "l": late, "d": letter} {
			_, err := submit(t.Context(), c, id, v)
			var misfit *windowstore.MeaningError
			if !errors.As(err, &misfit) || s.hasRaw(id) || s.hasLetter(id) || s.hasCounted(id) {
				t.Errorf("%s: error %v, in raw: %v, in dead letters: %v", id, err, s.hasRaw(id), s.hasLetter(id))
			}
		}
	})
}

func TestATableAtFaultIsNeverADeadLetter(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		s.beforeRaw = func(context.Context, []string) error {
			return &warehouse.TableError{Table: "raw", Err: errors.New("no column ip")}
		}
		_, err := submit(t.Context(), c, "a", onTime)
		var table *warehouse.TableError
		if !errors.As(err, &table) || len(s.letters) > 0 {
			t.Errorf("error %v, %d dead letters", err, len(s.letters))
		}
	})
}

func TestAPanicIsAnsweredAndDoesNotStopTheOthers(t *testing.T) {
	for name, sabotage := range map[string]func(*storage){
		"append":    func(s *storage) { s.beforeRaw = func(context.Context, []string) error { panic("bug") } },
		"increment": func(s *storage) { s.beforeAdd = func(context.Context, []windowstore.Increment) error { panic("bug") } },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, c *Committer, s *storage) {
				sabotage(s)
				if _, err := submit(t.Context(), c, "a", onTime); !errors.Is(err, ErrPanic) {
					t.Errorf("error %v, want ErrPanic", err)
				}
				s.beforeRaw, s.beforeAdd = nil, nil
				if _, err := submit(t.Context(), c, "a", onTime); err != nil || !s.hasCounted("a") {
					t.Errorf("the next try: error %v, counted %v", err, s.hasCounted("a"))
				}
			})
		})
	}
}

func TestCloseStoresAndAnswersWhatWaitsAndRefusesTheRest(t *testing.T) {
	run(t, func(c *Config) { c.BatchRows = 2 }, func(t *testing.T, c *Committer, s *storage) {
		release := make(chan struct{})
		s.beforeRaw = func(context.Context, []string) error { <-release; return nil }
		first := submitAsync(c, "0", onTime)
		var waiting []*submission // more than one batch
		for i := range 5 {
			waiting = append(waiting, submitAsync(c, fmt.Sprint(i+1), onTime))
		}
		began := time.Now()
		close(release)
		if err := c.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i, sub := range append([]*submission{first}, waiting...) {
			if !sub.done || sub.err != nil || !s.hasCounted(fmt.Sprint(i)) {
				t.Errorf("message %d: done %v, error %v", i, sub.done, sub.err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("Close waited %v for the interval", took)
		}
		if _, err := submit(t.Context(), c, "6", onTime); !errors.Is(err, ErrClosed) {
			t.Errorf("Submit after Close: %v", err)
		}
	})
}

// After Close nothing uses the stores any more. So Close waits until a write that has
// begun returns, even if that takes longer than Close's own deadline.
func TestCloseWaitsForTheWritesUnderWay(t *testing.T) {
	for write, v := range map[string]event.Verdict{"row": late, "count": onTime, "dead letter": letter} {
		for _, patience := range []time.Duration{time.Second, time.Hour} {
			t.Run(fmt.Sprintf("%s, %v", write, patience), func(t *testing.T) {
				run(t, nil, func(t *testing.T, c *Committer, s *storage) {
					release, closed := make(chan struct{}), make(chan error, 1)
					stuck := func() error { <-release; return nil }
					switch write {
					case "row":
						s.beforeRaw = func(context.Context, []string) error { return stuck() }
					case "count":
						s.beforeAdd = func(context.Context, []windowstore.Increment) error { return stuck() }
					case "dead letter":
						s.beforeLetters = func(context.Context, []string) error { return stuck() }
					}
					submitAsync(c, "a", v)
					go func() {
						ctx, cancel := context.WithTimeout(context.Background(), patience)
						defer cancel()
						closed <- c.Close(ctx)
					}()
					pass(time.Minute)
					select {
					case err := <-closed:
						t.Errorf("Close returned before the write had ended: %v", err)
					default:
						close(release)
						if err := <-closed; (err != nil) != (patience < time.Minute) {
							t.Errorf("Close with %v to wait: %v", patience, err)
						}
					}
				})
			})
		}
	}
}

func TestCloseEndsAStuckWriteWhenItsTimeIsUpAndAnswersEveryone(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		s.beforeRaw = func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() }
		stuck := submitAsync(c, "0", onTime)
		waiting := submitAsync(c, "1", onTime)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		synctest.Wait()
		if !stuck.done || stuck.err == nil || !waiting.done || waiting.err == nil {
			t.Errorf("answered: %v, %v; errors %v, %v", stuck.done, waiting.done, stuck.err, waiting.err)
		}
	})
}

func TestKeysGoToTheirWindowsInOneCall(t *testing.T) {
	run(t, nil, func(t *testing.T, c *Committer, s *storage) {
		var got [][]windowstore.Increment
		s.beforeAdd = func(_ context.Context, increments []windowstore.Increment) error {
			got = append(got, increments)
			return nil
		}
		at := func(offset time.Duration) event.Verdict {
			v := onTime
			v.Window = minute.Add(offset)
			return v
		}
		submitAsync(c, "0", onTime)
		submitAsync(c, "1", at(time.Minute))
		submitAsync(c, "2", at(0))
		submitAsync(c, "3", at(time.Minute))
		pass(time.Second)
		if len(got) != 2 {
			t.Fatalf("increments %v", got)
		}
		keys := map[time.Time][]windowstore.Key{}
		for _, increment := range got[1] {
			keys[increment.Window] = append(keys[increment.Window], increment.Keys...)
		}
		key := func(id string) windowstore.Key { return windowstore.KeyOf("message", id) }
		want := map[time.Time][]windowstore.Key{minute: {key("2")}, minute.Add(time.Minute): {key("1"), key("3")}}
		if diff := cmp.Diff(want, keys); diff != "" {
			t.Errorf("keys of each window (-want +got):\n%s", diff)
		}
	})
}
