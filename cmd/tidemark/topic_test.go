package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc/codes"

	"github.com/tidemark-dev/tidemark/internal/test/emulator"
)

// A testTopic is a topic of an emulator, with a subscription from which the test reads
// what is published.
type testTopic struct {
	topic
	client       *pubsub.Client
	subscription string
}

// newTopic creates a topic on the emulator at the given address.
func newTopic(t *testing.T, host string) testTopic {
	t.Helper()
	project := emulator.Project()
	to := testTopic{topic: topic{project, "page-views", host}, subscription: "projects/" + project + "/subscriptions/all"}
	to.client = emulator.NewTopic(t, host, project, to.String(), &pubsubpb.Subscription{Name: to.subscription})
	return to
}

// pull receives the messages that the subscription has. If it has none, pull waits for
// one.
func (to testTopic) pull(t *testing.T) []*pubsubpb.PubsubMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	messages, err := emulator.Pull(ctx, to.client, to.subscription)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// pullAll receives all messages that were published before, by message id. It publishes a
// message of its own, to know where they end.
func (to testTopic) pullAll(t *testing.T, published int) map[string]*pubsubpb.PubsubMessage {
	t.Helper()
	const last = "last"
	if _, err := to.client.TopicAdminClient.Publish(t.Context(), &pubsubpb.PublishRequest{
		Topic: to.String(), Messages: []*pubsubpb.PubsubMessage{{Attributes: map[string]string{last: ""}}},
	}); err != nil {
		t.Fatal(err)
	}
	all := map[string]*pubsubpb.PubsubMessage{}
	ended := false
	for deadline := time.Now().Add(patience); !ended || len(all) < published; {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %d messages; %d came", published, len(all))
		}
		for _, m := range to.pull(t) {
			if _, ok := m.Attributes[last]; ok {
				ended = true
				continue
			}
			all[m.MessageId] = m
		}
	}
	return all
}

// generateTo runs generate on the topic until it ends by itself, ctx ends, or the test
// has waited too long.
func generateTo(ctx context.Context, to topic, args ...string) (code int, said string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var log bytes.Buffer
	environment := map[string]string{"PUBSUB_EMULATOR_HOST": to.emulator, "PORT": "of a server, which this is not"}
	code = run(ctx, append([]string{"generate", "--topic", to.String()}, args...), process{
		stdin: strings.NewReader(""), stdout: &log, stderr: &log,
		lookup: func(name string) (string, bool) { value, ok := environment[name]; return value, ok },
	})
	return code, log.String()
}

// accepted returns how many messages were accepted and how many were not, as generate
// reports it.
func accepted(t *testing.T, said string) (yes, no int) {
	t.Helper()
	_, line, _ := strings.Cut(said, "the seed is ")
	_, line, _ = strings.Cut(line, "\n")
	for _, l := range strings.Split(line, "\n") {
		if n, _ := fmt.Sscanf(l, "%d messages accepted, %d refused", &yes, &no); n == 2 {
			return yes, no
		}
	}
	t.Fatalf("generate does not say how many messages were accepted:\n%s", said)
	return 0, 0
}

func TestGeneratePublishesAsTheLabDoes(t *testing.T) {
	t.Parallel()
	to := newTopic(t, emulator.PubSub(t))
	const made = 200
	code, said := generateTo(t.Context(), to.topic, "--count", fmt.Sprint(made), "--rate", "60000", "--seed", "3", "--lag", "--malformed", "0.2", "--duplicates", "0.2")
	yes, no := accepted(t, said)
	if code != exitDone || yes <= made || no != 0 {
		t.Fatalf("exit code %d, want %d and duplicates accepted beside %d messages: %s", code, exitDone, made, said)
	}
	published := to.pullAll(t, yes)
	if len(published) != yes {
		t.Errorf("%d messages were published, want the %d that were accepted", len(published), yes)
	}
	copies, valid := map[string]int{}, 0
	for id, m := range published {
		if len(m.Attributes) != 1 || m.Attributes["timestamp"] == "" {
			t.Errorf("message %s has the attributes %v, want only timestamp", id, m.Attributes)
		}
		copies[m.Attributes["timestamp"]+string(m.Data)]++
		var body struct{ Timestamp, UserID string }
		if json.Unmarshal(m.Data, &body) == nil && body.Timestamp == m.Attributes["timestamp"] {
			valid++
		}
	}
	if len(copies) != made {
		t.Errorf("%d different messages, want %d", len(copies), made)
	}
	if valid < yes*6/10 || valid == yes {
		t.Errorf("%d of %d bodies have the timestamp of the attribute, want about 80%% of them", valid, yes)
	}
}

func TestAnInterruptIsANormalEndOfPublishing(t *testing.T) {
	t.Parallel()
	to := newTopic(t, emulator.PubSub(t))
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	type result struct {
		code int
		said string
	}
	ended := make(chan result, 1)
	go func() {
		code, said := generateTo(ctx, to.topic, "--rate", "60000", "--lag")
		ended <- result{code, said}
	}()
	first := len(to.pull(t))
	interrupt()
	r := <-ended
	yes, no := accepted(t, r.said)
	if r.code != exitDone || no != 0 {
		t.Errorf("exit code %d: %s", r.code, r.said)
	}
	if got := first + len(to.pullAll(t, yes-first)); got != yes {
		t.Errorf("%d messages were published, want the %d that were accepted", got, yes)
	}
}

func TestATopicThatDoesNotExistIsAnErrorThatSaysHowToMakeIt(t *testing.T) {
	t.Parallel()
	to := newTopic(t, emulator.PubSub(t))
	want := "gcloud pubsub topics create page-views --project=" + to.project
	other := to.topic
	other.id = "no-such-topic"
	code, said := generateTo(t.Context(), other, "--rate", "0.001") // the first event is hours away
	if code != exitNo || !strings.Contains(said, "gcloud pubsub topics create no-such-topic --project="+to.project) {
		t.Errorf("exit code %d: %s", code, said)
	}

	// The same holds if the topic is deleted while generate runs.
	type result struct {
		code int
		said string
	}
	ended := make(chan result, 1)
	go func() {
		code, said := generateTo(t.Context(), to.topic, "--rate", "6000")
		ended <- result{code, said}
	}()
	to.pull(t)
	if err := to.client.TopicAdminClient.DeleteTopic(t.Context(), &pubsubpb.DeleteTopicRequest{Topic: to.String()}); err != nil {
		t.Fatal(err)
	}
	r := <-ended
	if yes, _ := accepted(t, r.said); r.code != exitNo || yes == 0 || !strings.Contains(r.said, want) || !strings.Contains(r.said, "were not published") {
		t.Errorf("after the topic was deleted: exit code %d: %s", r.code, r.said)
	}
}

// The emulator refuses no message, so this test uses a fake.
func TestMessagesThatAreNotAcceptedAreCounted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		method string
		code   codes.Code
		exit   int
		says   []string
	}{
		{"every message refused", "Publish", codes.InvalidArgument, exitNo, []string{"a message, given up: ", "injected", "0 messages accepted, 3 refused"}},
		{"may not publish", "Publish", codes.PermissionDenied, exitNo, []string{"0 messages accepted", "injected"}},
		{"may publish but not look", "GetTopic", codes.PermissionDenied, exitDone, []string{"3 messages accepted, 0 refused"}},
		{"may not come in", "GetTopic", codes.Unauthenticated, exitNo, []string{"look up projects/", "injected"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := pstest.NewServer(pstest.WithErrorInjection(tc.method, tc.code, "injected"))
			defer server.Close()
			to := newTopic(t, server.Addr)
			code, said := generateTo(t.Context(), to.topic, "--count", "3", "--rate", "60000")
			if code != tc.exit {
				t.Errorf("exit code %d, want %d: %s", code, tc.exit, said)
			}
			for _, text := range tc.says {
				if !strings.Contains(said, text) {
					t.Errorf("it does not say %q:\n%s", text, said)
				}
			}
		})
	}
}

func TestTheFlagOfTheEmulatorWinsOverTheEnvironment(t *testing.T) {
	t.Parallel()
	server := pstest.NewServer()
	defer server.Close()
	to := newTopic(t, server.Addr).topic
	to.emulator = "127.0.0.1:1"
	code, said := generateTo(t.Context(), to, "--count", "3", "--rate", "60000", "--pubsub-emulator-host", server.Addr)
	if code != exitDone || !strings.Contains(said, "3 messages accepted, 0 refused") {
		t.Errorf("exit code %d: %s", code, said)
	}
}
