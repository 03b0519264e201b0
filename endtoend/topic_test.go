package endtoend

import (
	"context"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tidemark-dev/tidemark/internal/test/emulator"
)

// ackDeadline is the shortest that Pub/Sub allows. A message that is not acknowledged by
// then is delivered again.
const ackDeadline = 10 * time.Second

// A topic is a topic of the emulator with two subscriptions: one pushes to the program,
// and from the other the test reads what was published.
type topic struct {
	client        *pubsub.Client
	publisher     *pubsub.Publisher
	pushed, shown string
}

// newTopic creates the topic and its subscriptions. One of them pushes as the
// configuration says.
func newTopic(t *testing.T, host, project, name string, push *pubsubpb.PushConfig) *topic {
	t.Helper()
	prefix := "projects/" + project
	to := &topic{pushed: prefix + "/subscriptions/" + name + "-pushed", shown: prefix + "/subscriptions/" + name + "-shown"}
	path, seconds := prefix+"/topics/"+name, int32(ackDeadline.Seconds())
	to.client = emulator.NewTopic(t, host, project, path,
		&pubsubpb.Subscription{Name: to.pushed, PushConfig: push, AckDeadlineSeconds: seconds, RetainAckedMessages: true},
		&pubsubpb.Subscription{Name: to.shown, AckDeadlineSeconds: seconds},
	)
	to.publisher = to.client.Publisher(path)
	t.Cleanup(to.publisher.Stop)
	return to
}

// publish publishes a message and returns the id that it got.
func (to *topic) publish(t *testing.T, m message) string {
	t.Helper()
	id, err := to.publisher.Publish(t.Context(), &pubsub.Message{Data: m.data, Attributes: m.attributes}).Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// pull receives and acknowledges the messages that a subscription has. If it has none,
// pull waits until some come or ctx ends.
func (to *topic) pull(ctx context.Context, t *testing.T, subscription string) []*pubsubpb.PubsubMessage {
	t.Helper()
	messages, err := emulator.Pull(ctx, to.client, subscription)
	if err != nil && ctx.Err() == nil && status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("pull from %s: %v", subscription, err)
	}
	return messages
}

// publishTimes returns the publish time of each message, by message id.
func (to *topic) publishTimes(t *testing.T, messages int) map[string]time.Time {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	times := map[string]time.Time{}
	for len(times) < messages && ctx.Err() == nil {
		for _, m := range to.pull(ctx, t, to.shown) {
			times[m.MessageId] = m.PublishTime.AsTime()
		}
	}
	if len(times) != messages {
		t.Fatalf("%d messages came, want the %d that were published", len(times), messages)
	}
	return times
}

// deliverAgain delivers everything once more that was published since the given time.
func (to *topic) deliverAgain(t *testing.T, since time.Time) {
	t.Helper()
	if _, err := to.client.SubscriptionAdminClient.Seek(t.Context(), &pubsubpb.SeekRequest{
		Subscription: to.pushed, Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.New(since)},
	}); err != nil {
		t.Fatal(err)
	}
}

// unacknowledged stops the pushes and returns the messages that were never acknowledged.
// It waits longer than the ack deadline, so that messages which were still under way
// would have been delivered again.
func (to *topic) unacknowledged(t *testing.T) (messages []*pubsubpb.PubsubMessage) {
	t.Helper()
	if _, err := to.client.SubscriptionAdminClient.UpdateSubscription(t.Context(), &pubsubpb.UpdateSubscriptionRequest{
		Subscription: &pubsubpb.Subscription{Name: to.pushed, PushConfig: &pubsubpb.PushConfig{}},
		UpdateMask:   &fieldmaskpb.FieldMask{Paths: []string{"push_config"}},
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), ackDeadline+2*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		messages = append(messages, to.pull(ctx, t, to.pushed)...)
	}
	return messages
}
