package emulator

import (
	"context"
	"path/filepath"
	"testing"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// PubSub returns the host and port of a Pub/Sub emulator. If PUBSUB_EMULATOR_HOST names
// an emulator, it is that one. If not, PubSub starts one. For this it needs java and the
// component pubsub-emulator of the Google Cloud CLI. If these are not installed, the test
// is skipped; with CI=true it fails.
func PubSub(t testing.TB) string {
	t.Helper()
	return pubSub.use(t)
}

// pubSub is the Pub/Sub emulator of this process. All its tests share it.
var pubSub = emulator{
	name:     "Pub/Sub",
	variable: "PUBSUB_EMULATOR_HOST",
	file:     "pubsub-emulator/lib",
	arguments: func(lib, port string) []string {
		return []string{"-Xmx256m", "-XX:+UseSerialGC", "-Duser.language=en", "-cp", filepath.Join(lib, "*"),
			"com.google.cloud.pubsub.testing.v1.Main", "--host=127.0.0.1", "--port=" + port}
	},
}

// NewTopic creates a topic and subscriptions to it on the emulator at the host. It
// returns a client of the project, which is closed when the test ends.
func NewTopic(t testing.TB, host, project, topic string, subscriptions ...*pubsubpb.Subscription) *pubsub.Client {
	t.Helper()
	client, err := pubsub.NewClient(context.Background(), project, option.WithEndpoint(host), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := client.TopicAdminClient.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic}); err != nil {
		t.Fatal(err)
	}
	for _, subscription := range subscriptions {
		subscription.Topic = topic
		if _, err := client.SubscriptionAdminClient.CreateSubscription(t.Context(), subscription); err != nil {
			t.Fatal(err)
		}
	}
	return client
}

// Pull receives and acknowledges the messages that a subscription has. If it has none,
// Pull waits until some come or ctx ends.
func Pull(ctx context.Context, client *pubsub.Client, subscription string) ([]*pubsubpb.PubsubMessage, error) {
	response, err := client.SubscriptionAdminClient.Pull(ctx, &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 1000})
	if err != nil {
		return nil, err
	}
	var messages []*pubsubpb.PubsubMessage
	ack := &pubsubpb.AcknowledgeRequest{Subscription: subscription}
	for _, received := range response.ReceivedMessages {
		messages = append(messages, received.Message)
		ack.AckIds = append(ack.AckIds, received.AckId)
	}
	if len(messages) == 0 {
		return nil, nil
	}
	// Acknowledge even if ctx has ended: the messages are returned to the caller and must
	// not come again.
	return messages, client.SubscriptionAdminClient.Acknowledge(context.WithoutCancel(ctx), ack)
}
