package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/handler"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

func TestPushAnswersTheVerdictOfWhatItStored(t *testing.T) {
	t.Parallel()
	const eventTime, windowStart = "2026-03-14T09:26:53.589793Z", "2026-03-14T09:26:00.000000Z"
	for _, test := range []struct {
		name, data, published string
		want                  map[string]any
	}{
		{"on time", record, onTime, map[string]any{
			"status": "counted", "event_id": "42", "event_time": eventTime, "window_start": windowStart,
			"publish_time": onTime, "publish_time_source": "message",
		}},
		{"late", record, late, map[string]any{
			"status": "late", "event_id": "42", "event_time": eventTime, "window_start": windowStart,
			"publish_time": "2026-03-14T09:29:00.000000Z", "publish_time_source": "message",
		}},
		{"no event", "[]", onTime, map[string]any{
			"status": "dead_letter", "event_id": "42", "reason": "not_an_object",
			"publish_time": onTime, "publish_time_source": "message",
		}},
		{"too far ahead, which has times", record, "2026-03-14T09:00:00Z", map[string]any{
			"status": "dead_letter", "event_id": "42", "event_time": eventTime, "reason": "too_far_ahead",
			"publish_time": "2026-03-14T09:00:00.000000Z", "publish_time_source": "message",
		}},
		{"year 1, which is a time like any other", strings.Replace(record, "2026-03-14T09:26:53.589793Z", "0001-01-01T00:00:00Z", 1), onTime, map[string]any{
			"status": "late", "event_id": "42", "event_time": "0001-01-01T00:00:00.000000Z", "window_start": "0001-01-01T00:00:00.000000Z",
			"publish_time": onTime, "publish_time_source": "message",
		}},
	} {
		for _, target := range []string{"/push", "/push/raw"} {
			t.Run(test.name+" "+target, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, requireMessageID)
				r := post(target, wrapped(test.data, "42", test.published))
				if target == "/push/raw" {
					r = post(target, test.data, "x-goog-pubsub-message-id", "42", "x-goog-pubsub-publish-time", test.published)
				}
				got := wantOK(t, f.do(r))
				if test.want["status"] == "dead_letter" && got["error"] == "" {
					t.Error("a dead letter's error is missing")
				}
				delete(got, "error")
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("verdict (-want +got):\n%s", diff)
				}
				stored := f.ingest.only(t)
				if stored.Message.ID != "42" || string(stored.Message.Data) != test.data || string(stored.Verdict.Status) != test.want["status"] {
					t.Errorf("stored %+v", stored)
				}
			})
		}
	}
}

func TestWrappedPushKeepsTheEnvelopeAndNotTheHeaders(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	wantOK(t, f.do(post("/push", wrapped("no event", "42", onTime), "User-Agent", "APIs-Google", "Content-Type", "text/plain")))
	published, err := event.ParseTime(onTime)
	if err != nil {
		t.Fatal(err)
	}
	want := event.Message{
		ID: "42", PublishTime: published, PublishTimeSource: event.FromMessage, Subscription: "projects/p/subscriptions/s",
		Attributes: map[string]string{"origin": "edge"}, Data: []byte("no event"),
	}
	if diff := cmp.Diff(want, f.ingest.only(t).Message); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestEventThatTheWarehouseRefusesIsAnsweredAsTheDeadLetterItBecame(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ingest.hook = func(_ context.Context, _ event.Message, v event.Verdict) (event.Verdict, error) {
		return v.Reject(errors.New("lat is out of range")), nil
	}
	got := wantOK(t, f.do(post("/push", wrapped(record, "42", onTime))))
	want := map[string]any{
		"status": "dead_letter", "event_id": "42", "event_time": "2026-03-14T09:26:53.589793Z",
		"publish_time": onTime, "publish_time_source": "message", "reason": "rejected", "error": "lat is out of range",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
}

func TestAnswerCutsALongError(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ingest.hook = func(_ context.Context, _ event.Message, v event.Verdict) (event.Verdict, error) {
		return v.Reject(errors.New(strings.Repeat("é", 1000))), nil
	}
	got := wantOK(t, f.do(post("/push", wrapped(record, "42", onTime))))
	if want := strings.Repeat("é", 250) + "..."; got["error"] != want {
		t.Errorf("error is %q", got["error"])
	}
}

// A window duration of 0 makes the classifier panic, since it divides by the duration.
func TestPanicOfClassificationIsADeadLetterWhoseStackIsLoggedAndNotAnswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *handler.Config) { c.Classifier = event.NewClassifier(event.Rules{Schema: accesslog.Schema()}) })
	got := wantOK(t, f.do(post("/push", wrapped(record, "42", onTime))))
	if got["reason"] != "panic" {
		t.Fatalf("verdict is %v, want a dead letter for a panic", got)
	}
	if text := got["error"].(string); !strings.Contains(text, "divide by zero") || strings.Contains(text, "goroutine") {
		t.Errorf("error is %q, want the panic's message without the stack", text)
	}
	line := f.lastLine(t)
	if text, _ := line["panic"].(string); line["level"] != "ERROR" || !strings.Contains(text, "goroutine") {
		t.Errorf("the log line is %v, want an error with the stack", line)
	}
	if f.ingest.only(t).Verdict.Reason != event.Panic {
		t.Error("the message was not stored as a dead letter with the reason panic")
	}
}

func TestDryRunStoresNothing(t *testing.T) {
	t.Parallel()
	for query, stores := range map[string]bool{
		"": true, "?dry_run=0": true, "?dry_run=false": true, "?token=x": true,
		"?dry_run=1": false, "?dry_run=true": false, "?token=x&dry_run=1": false,
	} {
		for _, data := range []string{record, "no event"} {
			for target, body := range map[string]string{"/push": wrapped(data, "42", onTime), "/push/raw": data} {
				f := newFixture(t)
				got := wantOK(t, f.do(post(target+query, body)))
				if want := map[bool]string{true: "counted", false: "dead_letter"}[data == record]; got["status"] != want {
					t.Errorf("%s%s: status is %v, want %s", target, query, got["status"], want)
				}
				if stored := len(f.ingest.submissions()) == 1; stored != stores {
					t.Errorf("%s%s: stored: %v, want %v", target, query, stored, stores)
				}
			}
		}
	}
}

func TestDryRunThatIsNeitherYesNorNoIsRefused(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"dry_run", "dry_run=", "dry_run=yes", "dry_run=2", "dry_run=1&dry_run=0", "dry_run=1;x", "dry_run=%zz"} {
		f := newFixture(t)
		wantError(t, f.do(post("/push?"+query, wrapped(record, "42", onTime))), http.StatusBadRequest, "INVALID_ARGUMENT")
		if n := len(f.ingest.submissions()); n != 0 {
			t.Errorf("%s: %d messages were stored", query, n)
		}
	}
}

func TestNothingIsAcknowledgedThatWasNotStored(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		err    error
		code   int
		status string
		level  string
	}{
		{"queue full", ingest.ErrQueueFull, 503, "UNAVAILABLE", "WARN"},
		{"closed", fmt.Errorf("submit: %w", ingest.ErrClosed), 503, "UNAVAILABLE", "INFO"},
		{"panic in a batch", fmt.Errorf("%w: nil map", ingest.ErrPanic), 500, "INTERNAL", "ERROR"},
		{"storage down", errors.New("dial tcp: connection refused by db.internal"), 503, "UNAVAILABLE", "WARN"},
		{"storage slow", context.DeadlineExceeded, 503, "UNAVAILABLE", "WARN"},
		{"storage cancelled, with the client still there", context.Canceled, 503, "UNAVAILABLE", "WARN"},
		{"table at fault", &warehouse.TableError{Table: "raw", Err: errors.New("no column lat")}, 503, "UNAVAILABLE", "ERROR"},
		{"settings at fault", &windowstore.MeaningError{Pipeline: "p"}, 503, "UNAVAILABLE", "ERROR"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, data := range []string{record, "no event"} {
				f := newFixture(t)
				f.ingest.fail(test.err)
				message := wantError(t, f.do(post("/push", wrapped(data, "42", onTime))), test.code, test.status)
				// If storage fails, the caller may read the error. The error of a bug is
				// only in the log.
				if strings.Contains(message, "connection refused by db.internal") != (test.name == "storage down") || strings.Contains(message, "nil map") {
					t.Errorf("the answer is %s", message)
				}
				line := f.lastLine(t)
				if line["level"] != test.level || line["message_id"] != "42" || !strings.Contains(fmt.Sprint(line["error"]), test.err.Error()) {
					t.Errorf("the log line is %v, want level %s, the message's id and the error", line, test.level)
				}
			}
		})
	}
}

func TestPushEndsWithinTheRequestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.ingest.hook = func(ctx context.Context, _ event.Message, v event.Verdict) (event.Verdict, error) {
			<-ctx.Done()
			return v, ctx.Err()
		}
		start := time.Now()
		wantError(t, f.do(post("/push", wrapped(record, "42", onTime))), http.StatusServiceUnavailable, "UNAVAILABLE")
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("answered after %v, want 20s", took)
		}
	})
}

func TestClientThatWentAwayIsNoFaultOfOurs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, leave := context.WithCancel(t.Context())
	f.ingest.hook = func(ctx context.Context, _ event.Message, v event.Verdict) (event.Verdict, error) {
		leave()
		<-ctx.Done()
		return v, fmt.Errorf("wait for the batch: %w", ctx.Err())
	}
	wantError(t, f.do(post("/push", wrapped(record, "42", onTime)).WithContext(ctx)), 499, "CANCELLED")
	if line := f.lastLine(t); line["level"] != "INFO" {
		t.Errorf("logged at %v, want INFO", line["level"])
	}
}

// A message that Pub/Sub could not have delivered, since it is over Pub/Sub's limits, is
// refused on both routes and stored nowhere.
func TestAMessageBeyondPubSubsLimitsIsRefused(t *testing.T) {
	t.Parallel()
	attributes := map[string]string{}
	for i := range 101 {
		attributes[fmt.Sprintf("name-%d", i)] = "x"
	}
	envelope := func(message map[string]any) string {
		text, err := json.Marshal(map[string]any{"message": message})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const id = "x-goog-pubsub-message-id"
	for name, r := range map[string]*http.Request{
		"id":               post("/push", wrapped(record, strings.Repeat("1", 256), onTime)),
		"attributes":       post("/push", envelope(map[string]any{"messageId": "1", "attributes": attributes})),
		"value":            post("/push", envelope(map[string]any{"messageId": "1", "attributes": map[string]string{"a": strings.Repeat("x", 1025)}})),
		"name":             post("/push", envelope(map[string]any{"messageId": "1", "attributes": map[string]string{strings.Repeat("x", 257): ""}})),
		"id, unwrapped":    post("/push/raw", record, id, strings.Repeat("1", 256)),
		"id as it is kept": post("/push/raw", record, id, strings.Repeat("\xe9", 128)),
		"value, unwrapped": post("/push/raw", record, id, "1", "Order_ID", strings.Repeat("x", 1025)),
		"value, on trial":  post("/push/raw?dry_run=1", record, id, "1", "Order_ID", strings.Repeat("x", 1025)),
	} {
		f := newFixture(t, byAttributes(t, "event_time", "order_id"))
		message := wantError(t, f.do(r), http.StatusBadRequest, "INVALID_ARGUMENT")
		if !strings.Contains(message, "want at most") {
			t.Errorf("%s: the answer says %q", name, message)
		}
		if n := len(f.ingest.submissions()); n != 0 {
			t.Errorf("%s: %d messages were stored", name, n)
		}
	}
}

// It is not known which headers of an unwrapped push are attributes. So Pub/Sub's limits
// on attributes apply only to the headers that a setting names.
func TestLongAndManyHeadersAreNoFault(t *testing.T) {
	t.Parallel()
	r := post("/push/raw", record, "x-goog-pubsub-message-id", strings.Repeat("1", 255), "X-Userinfo", strings.Repeat("x", 3000), "order_id", strings.Repeat("x", 1024))
	for i := range 120 {
		r.Header.Set(fmt.Sprintf("X-%d", i), "")
	}
	f := newFixture(t, byAttributes(t, "event_time", "order_id"))
	wantOK(t, f.do(r))
	if got := f.ingest.only(t).Message.Attributes; len(got["x-userinfo"]) != 3000 || len(got) != 123 {
		t.Errorf("%d attributes, of which x-userinfo has %d bytes", len(got), len(got["x-userinfo"]))
	}
}
