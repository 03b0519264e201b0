package handler_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/handler"
)

// byAttributes configures event time and event id to be attributes with these names.
func byAttributes(t *testing.T, timeName, idName string) func(*handler.Config) {
	t.Helper()
	timeSource, err := event.ParseTimeSource("attribute:" + timeName)
	if err != nil {
		t.Fatal(err)
	}
	idSource, err := event.ParseIDSource("attribute:" + idName)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *handler.Config) {
		rules := rules()
		rules.EventTime, rules.EventID = timeSource, idSource
		c.Classifier = event.NewClassifier(rules)
	}
}

func TestUnwrappedPushIsTheBodyAndItsHeaders(t *testing.T) {
	t.Parallel()
	f := newFixture(t, requireMessageID)
	wantOK(t, f.do(post("/push/raw", " no event\n",
		"x-goog-pubsub-message-id", "42",
		"x-goog-pubsub-publish-time", onTime,
		"x-goog-pubsub-subscription-name", "projects/p/subscriptions/s",
		"X-Shard", "7", "X-Shard", "8", "Origin-Name", "caf\xe9", "Empty", "",
		"Authorization", "Bearer secret", "Cookie", "secret", "X-Serverless-Authorization", "secret", "Proxy-Authorization", "secret",
		"X-Forwarded-Authorization", "Bearer secret", "X-Goog-IAP-JWT-Assertion", "secret",
	)))
	published, err := event.ParseTime(onTime)
	if err != nil {
		t.Fatal(err)
	}
	want := event.Message{
		ID: "42", PublishTime: published, PublishTimeSource: event.FromMessage, Subscription: "projects/p/subscriptions/s",
		Attributes: map[string]string{
			"x-goog-pubsub-message-id": "42", "x-goog-pubsub-publish-time": onTime, "x-goog-pubsub-subscription-name": "projects/p/subscriptions/s",
			"x-shard": "7, 8", "origin-name": "café", "empty": "",
		},
		Data: []byte(" no event\n"),
	}
	if diff := cmp.Diff(want, f.ingest.only(t).Message); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// The warehouse may refuse an event after it was classified. The event then becomes a
// dead letter, which must have the request's headers too.
func TestEventIsSubmittedWithItsHeadersToo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	wantOK(t, f.do(post("/push/raw", record, "X-Shard", "7")))
	if got := f.ingest.only(t); got.Verdict.Status != event.Counted || got.Message.Attributes["x-shard"] != "7" {
		t.Errorf("submitted %+v, want an event with its headers", got)
	}
}

func TestUnwrappedPushReadsNamedAttributesWhateverTheirCase(t *testing.T) {
	t.Parallel()
	const eventTime = "2026-03-14T09:27:01.5Z"
	for _, name := range []string{"eventTime", "EVENTTIME", "eventtime"} {
		f := newFixture(t, byAttributes(t, "eventTime", "order_ID"))
		got := wantOK(t, f.do(post("/push/raw", record, name, eventTime, "Order_Id", "A-1")))
		if got["event_id"] != "A-1" || got["event_time"] != "2026-03-14T09:27:01.500000Z" || got["window_start"] != "2026-03-14T09:27:00.000000Z" {
			t.Errorf("%s: verdict is %v", name, got)
		}
		want := map[string]string{"eventTime": eventTime, "order_ID": "A-1"}
		if diff := cmp.Diff(want, f.ingest.only(t).Message.Attributes); diff != "" {
			t.Errorf("%s: attributes (-want +got):\n%s", name, diff)
		}
	}
}

func TestTwoSettingsMayNameOneHeader(t *testing.T) {
	t.Parallel()
	f := newFixture(t, byAttributes(t, "TS", "ts"))
	got := wantOK(t, f.do(post("/push/raw", record, "Ts", onTime)))
	if got["event_id"] != onTime || got["event_time"] != onTime {
		t.Errorf("verdict is %v", got)
	}
}

func TestUnwrappedPushWithoutANamedAttributeIsADeadLetter(t *testing.T) {
	t.Parallel()
	for _, headers := range [][]string{{"order_id", "A-1"}, {"event_time", onTime}} {
		f := newFixture(t, byAttributes(t, "event_time", "order_id"))
		got := wantOK(t, f.do(post("/push/raw", record, headers...)))
		if got["status"] != "dead_letter" || got["reason"] != "missing_attribute" {
			t.Errorf("%v: verdict is %v", headers, got)
		}
	}
}

func TestUnwrappedPushWithoutMessageIDNamesTheSettingToChange(t *testing.T) {
	t.Parallel()
	for _, headers := range [][]string{nil, {"x-goog-pubsub-message-id", ""}} {
		f := newFixture(t, requireMessageID)
		message := wantError(t, f.do(post("/push/raw", record, headers...)), http.StatusBadRequest, "INVALID_ARGUMENT")
		if !strings.Contains(message, "--push-no-wrapper-write-metadata") {
			t.Errorf("message is %q, which does not name the setting", message)
		}
		if n := len(f.ingest.submissions()); n != 0 {
			t.Errorf("%d messages were stored", n)
		}
	}
}

func TestUnwrappedPushByHandIsTheSameEventTwice(t *testing.T) {
	t.Parallel()
	id := func(body string, headers ...string) any {
		f := newFixture(t, byAttributes(t, "event_time", "order_id"))
		wantOK(t, f.do(post("/push/raw", body, headers...)))
		return f.ingest.only(t).Message.ID
	}
	first := id(record, "order_id", "A-1", "User-Agent", "curl")
	if first == "" {
		t.Fatal("no id was derived")
	}
	if again := id(record, "Order_Id", "A-1", "Traceparent", "00-4bf9"); again != first {
		t.Errorf("the id depends on headers that no setting names: %v, then %v", first, again)
	}
	if other := id(record, "order_id", "A-2", "User-Agent", "curl"); other == first {
		t.Error("the id does not depend on a named attribute")
	}
	if other := id(record+" ", "order_id", "A-1", "User-Agent", "curl"); other == first {
		t.Error("the id does not depend on the data")
	}
}

func TestUnwrappedPushWithoutPublishTimeIsPublishedOnReceipt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	got := wantOK(t, f.do(post("/push/raw", record)))
	if got["publish_time"] != received || got["publish_time_source"] != "received" {
		t.Errorf("verdict is %v, want publish time %s, received", got, received)
	}
	if m := f.ingest.only(t).Message; event.FormatTime(m.PublishTime) != received || m.PublishTime.Nanosecond()%1000 != 0 {
		t.Errorf("stored with publish time %v, want %s cut to the microsecond", m.PublishTime, received)
	}
}

func TestUnwrappedPushWithABadPublishTimeIsRefused(t *testing.T) {
	t.Parallel()
	for _, published := range []string{"yesterday", "", "2026-03-14T09:28:60Z"} {
		f := newFixture(t)
		wantError(t, f.do(post("/push/raw", record, "x-goog-pubsub-publish-time", published)), http.StatusBadRequest, "INVALID_ARGUMENT")
		if n := len(f.ingest.submissions()); n != 0 {
			t.Errorf("%q: %d messages were stored", published, n)
		}
	}
}

// If a metadata header has two values, one of them may be a message attribute. If it were
// believed, a publisher could choose the id or the publish time of an event. So neither
// value is believed.
func TestTwoValuesOfAMetadataHeaderAreADeadLetter(t *testing.T) {
	t.Parallel()
	const id, published, subscription = "x-goog-pubsub-message-id", "x-goog-pubsub-publish-time", "x-goog-pubsub-subscription-name"
	push := func(headers ...string) submission {
		t.Helper()
		f := newFixture(t, requireMessageID)
		got := wantOK(t, f.do(post("/push/raw", record, headers...)))
		s := f.ingest.only(t)
		if got["status"] != "dead_letter" || got["reason"] != "ambiguous_metadata" || got["event_id"] != s.Message.ID {
			t.Errorf("%q: verdict is %v", headers, got)
		}
		if s.Verdict.Reason != event.AmbiguousMetadata || string(s.Message.Data) != record {
			t.Errorf("%q: submitted as %s with %q", headers, s.Verdict.Reason, s.Message.Data)
		}
		return s
	}
	twoIDs := push(id, "42", id, "7", published, onTime)
	if twoIDs.Message.ID == "42" || twoIDs.Message.ID == "7" || event.FormatTime(twoIDs.Message.PublishTime) != onTime {
		t.Errorf("two ids: message id %s, published %v; want an id of its own and %s", twoIDs.Message.ID, twoIDs.Message.PublishTime, onTime)
	}
	if got := twoIDs.Message.Attributes[id]; got != "42, 7" {
		t.Errorf("two ids: the attributes have %q, want both", got)
	}
	// The derived message id is the same in every delivery, whatever the order of the
	// values, and is different for other values.
	if again := push(id, "7", id, "42", published, onTime); again.Message.ID != twoIDs.Message.ID {
		t.Errorf("delivered again, the message has the id %s, and had %s before", again.Message.ID, twoIDs.Message.ID)
	}
	if other := push(id, "43", id, "7", published, onTime); other.Message.ID == twoIDs.Message.ID {
		t.Error("two different messages have the same id")
	}
	if folded := push(id, "42, 7", published, onTime); folded.Message.ID != twoIDs.Message.ID {
		t.Errorf("if a proxy joins the two headers, the message has the id %s, and had %s before", folded.Message.ID, twoIDs.Message.ID)
	}

	for _, headers := range [][]string{
		{id, "42", published, onTime, published, late},
		{id, "42", published, late, published, onTime},
		{id, "42", published, late + "," + onTime},
		{id, "42", published, onTime, published, ""},
		{id, "42", published, onTime, published, "yesterday"},
	} {
		m := push(headers...).Message
		if m.ID != "42" || event.FormatTime(m.PublishTime) != received || m.PublishTimeSource != event.FromReceipt {
			t.Errorf("%q: message id %s, published %v by %s; want 42 and the time of receipt", headers, m.ID, m.PublishTime, m.PublishTimeSource)
		}
	}
	m := push(id, "42", published, onTime, subscription, "projects/p/subscriptions/s", subscription, "projects/p/subscriptions/t").Message
	if m.ID != "42" || event.FormatTime(m.PublishTime) != onTime || m.Subscription != "" {
		t.Errorf("two subscriptions: message id %s, published %v, subscription %q; want 42, %s and no subscription", m.ID, m.PublishTime, m.Subscription, onTime)
	}
}

// A header that is not UTF-8 cannot be stored in a table as it is. It is stored in a form
// in which two different ids stay different.
func TestHeadersThatAreNotUTF8StayApart(t *testing.T) {
	t.Parallel()
	ids := map[string]string{"caf\xe9": "café", "caf\xe8": "cafè", "日本": "日本"}
	for sent, want := range ids {
		f := newFixture(t)
		if got := wantOK(t, f.do(post("/push/raw", record, "x-goog-pubsub-message-id", sent))); got["event_id"] != want {
			t.Errorf("%q: event id is %q, want %q", sent, got["event_id"], want)
		}
	}
}
