package metrics

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/ingest"
)

type submitFunc func(context.Context, event.Message, event.Verdict) (event.Verdict, error)

func (f submitFunc) Submit(ctx context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
	return f(ctx, m, v)
}

// stored is an ingester that stores every message with the verdict that it was given.
var stored = submitFunc(func(_ context.Context, _ event.Message, v event.Verdict) (event.Verdict, error) { return v, nil })

var letter = event.Verdict{Status: event.DeadLetter, Reason: event.BadJSON, Err: errors.New("no JSON")}

func TestStoredMessagesAreCountedByVerdictAndReason(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		verdict event.Verdict
		series  string
	}{
		{event.Verdict{Status: event.Counted}, `messages_total{reason="",verdict="counted"}`},
		{event.Verdict{Status: event.Late}, `messages_total{reason="",verdict="late"}`},
		{letter, `messages_total{reason="bad_json",verdict="dead_letter"}`},
	} {
		m, _ := newMetrics()
		got, err := m.Submitter(stored).Submit(t.Context(), event.Message{}, tc.verdict)
		if err != nil || got.Status != tc.verdict.Status {
			t.Errorf("Submit returned %v, %v", got, err)
		}
		expect(t, m, map[string]float64{tc.series: 1})
	}
}

func TestTheVerdictThatCountsIsTheOneStoredUnder(t *testing.T) {
	t.Parallel()
	m, clock := newMetrics()
	rejecting := submitFunc(func(_ context.Context, _ event.Message, v event.Verdict) (event.Verdict, error) {
		return v.Reject(errors.New("out of range")), nil
	})
	message := event.Message{PublishTime: clock.Time.Add(-time.Second), PublishTimeSource: event.FromMessage}
	got, err := m.Submitter(rejecting).Submit(t.Context(), message, event.Verdict{Status: event.Counted})
	if err != nil || got.Reason != event.Rejected {
		t.Errorf("Submit returned %v, %v", got, err)
	}
	expect(t, m, map[string]float64{`messages_total{reason="rejected",verdict="dead_letter"}`: 1})
}

// The errors are those that the real ingester returns.
func TestFailuresAreCountedByCause(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	canceledContext, cancel := context.WithCancel(t.Context())
	cancel()
	withCause, cancelCause := context.WithCancelCause(t.Context())
	cancelCause(errors.New("client is gone"))
	expired, cancelExpired := context.WithDeadline(t.Context(), time.Time{})
	defer cancelExpired()

	for _, tc := range []struct {
		name      string
		ctx       context.Context
		warehouse stubWarehouse
		adjust    func(*ingest.Config)
		close     bool
		cause     string
		err       error
	}{
		{name: "the queue is full", adjust: func(c *ingest.Config) { c.QueueLength = 0 }, cause: "queue_full", err: ingest.ErrQueueFull},
		{name: "the committer is closed", close: true, cause: "closed", err: ingest.ErrClosed},
		{name: "the batch panics", warehouse: stubWarehouse{panics: true}, cause: "panic", err: ingest.ErrPanic},
		{name: "the write fails", warehouse: stubWarehouse{err: away}, cause: "storage", err: away},
		{name: "the write runs out of time", warehouse: stubWarehouse{err: context.DeadlineExceeded}, cause: "storage", err: context.DeadlineExceeded},
		{name: "the write is canceled, but not the request", warehouse: stubWarehouse{err: context.Canceled}, cause: "storage", err: context.Canceled},
		{name: "the request is canceled", ctx: canceledContext, cause: "canceled", err: context.Canceled},
		{name: "the request is canceled with a cause", ctx: withCause, cause: "canceled", err: context.Cause(withCause)},
		{name: "the request runs out of time", ctx: expired, cause: "storage", err: context.DeadlineExceeded},
		{name: "the request is canceled after shutdown began", ctx: canceledContext, close: true, cause: "closed", err: ingest.ErrClosed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			config := ingest.Config{
				Warehouse: &tc.warehouse, Counter: &tc.warehouse, IDKind: "message",
				QueueLength: 10, BatchRows: 10, BatchBytes: 1 << 20, StepTimeout: time.Minute,
				Now: time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			}
			if tc.adjust != nil {
				tc.adjust(&config)
			}
			committer := ingest.New(config)
			closeCommitter := func() {
				if err := committer.Close(context.Background()); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
			defer closeCommitter()
			if tc.close {
				closeCommitter()
			}
			ctx := tc.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			m, clock := newMetrics()
			message := event.Message{ID: "1", PublishTime: clock.Time.Add(-time.Second), PublishTimeSource: event.FromMessage}
			_, err := m.Submitter(committer).Submit(ctx, message, event.Verdict{Status: event.Counted, EventID: "1"})
			if !errors.Is(err, tc.err) {
				t.Errorf("Submit returned %v, want %v", err, tc.err)
			}
			expect(t, m, map[string]float64{`message_failures_total{cause="` + tc.cause + `"}`: 1})
		})
	}
}

// If a write fails and the sender goes away after that, the cause of the failure is
// storage.
func TestAFailedWriteIsStoragesFaultThoughTheSenderHasGone(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics()
	ctx, cancel := context.WithCancel(t.Context())
	failing := submitFunc(func(_ context.Context, _ event.Message, v event.Verdict) (event.Verdict, error) {
		cancel()
		return v, errors.New("away")
	})
	_, _ = m.Submitter(failing).Submit(ctx, event.Message{}, event.Verdict{Status: event.Counted})
	expect(t, m, map[string]float64{`message_failures_total{cause="storage"}`: 1})
}

func TestDelayIsFromPublishToStoredOfEventsOnly(t *testing.T) {
	t.Parallel()
	const second = time.Second
	for _, tc := range []struct {
		name    string
		age     time.Duration // of the message when Submit is called
		source  event.PublishTimeSource
		verdict event.Verdict
		count   float64
		sum     float64
	}{
		{"counted", 3 * second, event.FromMessage, event.Verdict{Status: event.Counted}, 1, 5},
		{"late", time.Hour, event.FromMessage, event.Verdict{Status: event.Late}, 1, 3602},
		{"from the future", -time.Hour, event.FromMessage, event.Verdict{Status: event.Counted}, 1, 0},
		{"no publish time of its own", 3 * second, event.FromReceipt, event.Verdict{Status: event.Counted}, 0, 0},
		{"dead letter", 3 * second, event.FromMessage, letter, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m, clock := newMetrics()
			storing := submitFunc(func(_ context.Context, _ event.Message, v event.Verdict) (event.Verdict, error) {
				clock.advance(2 * second)
				return v, nil
			})
			message := event.Message{PublishTime: clock.Time.Add(-tc.age), PublishTimeSource: tc.source}
			if _, err := m.Submitter(storing).Submit(t.Context(), message, tc.verdict); err != nil {
				t.Fatal(err)
			}
			got := samples(t, m)
			if count, sum := got["publish_to_stored_seconds_count"], got["publish_to_stored_seconds_sum"]; count != tc.count || sum != tc.sum {
				t.Errorf("%v delays with a sum of %v s, want %v with a sum of %v s", count, sum, tc.count, tc.sum)
			}
		})
	}
}

func TestDelaysFromMillisecondsToAnHourAreToldApart(t *testing.T) {
	t.Parallel()
	m, clock := newMetrics()
	submits := m.Submitter(stored)
	for _, delay := range []time.Duration{5 * time.Millisecond, time.Hour, 2 * time.Hour} {
		message := event.Message{PublishTime: clock.Time.Add(-delay), PublishTimeSource: event.FromMessage}
		if _, err := submits.Submit(t.Context(), message, event.Verdict{Status: event.Counted}); err != nil {
			t.Fatal(err)
		}
	}
	got := samples(t, m)
	for bucket, want := range map[string]float64{"0.005": 1, "1800": 1, "3600": 2, "+Inf": 3} {
		if n := got[`publish_to_stored_seconds_bucket{le="`+bucket+`"}`]; n != want {
			t.Errorf("%v delays up to %s s, want %v", n, bucket, want)
		}
	}
}

// A reason that is new in package event must have a series from the start, like the
// others.
func TestReasonsAreThoseOfPackageEvent(t *testing.T) {
	t.Parallel()
	var got []string
	for _, reason := range reasons {
		got = append(got, string(reason))
	}
	slices.Sort(got)
	want := constants(t, filepath.Join("..", "event", "event.go"), "Reason")
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-package event +here)\n%s", diff)
	}
}

// constants returns the values of the string constants of the given type that are
// declared in a Go file.
func constants(t *testing.T, file, typeName string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if ident, ok := spec.Type.(*ast.Ident); ok && ident.Name == typeName {
			for _, value := range spec.Values {
				text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				values = append(values, text)
			}
		}
		return true
	})
	return values
}
