package endtoend

import (
	"context"
	"errors"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// ackDeadline is the shortest there is: how soon Pub/Sub delivers again what was
// not acknowledged.
const ackDeadline = 10 * time.Second

// A topic is a topic of the emulator with two subscriptions: one pushes to the
// program, the other shows what was published.
type topic struct {
	client        *pubsub.Client
	publisher     *pubsub.Publisher
	pushed, shown string
}

// newTopic makes the topic and has it pushed to the endpoint.
func newTopic(t *testing.T, host, project, name string, push *pubsubpb.PushConfig) *topic {
	t.Helper()
	client, err := pubsub.NewClient(context.Background(), project, option.WithEndpoint(host), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	prefix := "projects/" + project
	to := &topic{
		client:    client,
		publisher: client.Publisher(prefix + "/topics/" + name),
		pushed:    prefix + "/subscriptions/" + name + "-pushed",
		shown:     prefix + "/subscriptions/" + name + "-shown",
	}
	t.Cleanup(func() {
		to.publisher.Stop()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := client.TopicAdminClient.CreateTopic(t.Context(), &pubsubpb.Topic{Name: to.publisher.String()}); err != nil {
		t.Fatal(err)
	}
	for subscription, push := range map[string]*pubsubpb.PushConfig{to.pushed: push, to.shown: nil} {
		if _, err := client.SubscriptionAdminClient.CreateSubscription(t.Context(), &pubsubpb.Subscription{
			Name: subscription, Topic: to.publisher.String(), PushConfig: push,
			AckDeadlineSeconds: int32(ackDeadline.Seconds()), RetainAckedMessages: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// publish returns the id that the message got.
func (to *topic) publish(t *testing.T, m message) string {
	t.Helper()
	id, err := to.publisher.Publish(t.Context(), &pubsub.Message{Data: m.data, Attributes: m.attributes}).Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// pull takes and acknowledges what a subscription has. Without any it waits, until
// ctx ends.
func (to *topic) pull(ctx context.Context, t *testing.T, subscription string) []*pubsubpb.PubsubMessage {
	t.Helper()
	response, err := to.client.SubscriptionAdminClient.Pull(ctx, &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 1000})
	if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
		return nil
	}
	if err != nil {
		t.Fatalf("pull from %s: %v", subscription, err)
	}
	var messages []*pubsubpb.PubsubMessage
	ack := &pubsubpb.AcknowledgeRequest{Subscription: subscription}
	for _, received := range response.ReceivedMessages {
		messages = append(messages, received.Message)
		ack.AckIds = append(ack.AckIds, received.AckId)
	}
	if len(messages) > 0 {
		if err := to.client.SubscriptionAdminClient.Acknowledge(t.Context(), ack); err != nil {
			t.Fatal(err)
		}
	}
	return messages
}

// publishTimes returns when each of the messages was published, by its id.
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

// deliverAgain has all pushed once more that was published since then.
func (to *topic) deliverAgain(t *testing.T, since time.Time) {
	t.Helper()
	if _, err := to.client.SubscriptionAdminClient.Seek(t.Context(), &pubsubpb.SeekRequest{
		Subscription: to.pushed, Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.New(since)},
	}); err != nil {
		t.Fatal(err)
	}
}

// unacknowledged ends the pushing and returns what was never acknowledged. It waits
// until whatever was still under way would have been delivered again.
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
