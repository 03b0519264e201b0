package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/googleapis/gax-go/v2"
	"github.com/spf13/pflag"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/internal/lab/generator"
	"github.com/tidemark-dev/tidemark/settings"
)

const (
	// publishTimeout is how long the client tries to publish one message. After an
	// interrupt, messages that are being published have the same time to finish.
	publishTimeout = 30 * time.Second
	// checkTimeout bounds the check whether the topic exists.
	checkTimeout = 10 * time.Second
)

// A topic is the topic that generate publishes to.
type topic struct {
	project, id string
	emulator    string // host:port; empty for Pub/Sub itself
}

// topicName checks the topic's id by Pub/Sub's rule. For the project it accepts every id
// that exists, including ids with a domain, and project numbers.
var topicName = regexp.MustCompile(`^projects/([a-z0-9][a-z0-9.:-]*)/topics/([A-Za-z][A-Za-z0-9._~+%-]{2,254})$`)

// parseTopic reads the full name of a topic.
func parseTopic(name string) (topic, error) {
	parts := topicName.FindStringSubmatch(name)
	if parts == nil {
		return topic{}, fmt.Errorf("--topic=%q is not a topic as projects/my-project/topics/my-topic, whose last part has 3 to 255 characters and begins with a letter", name)
	}
	return topic{project: parts[1], id: parts[2]}, nil
}

// emulatorFlag adds the flag of the one setting that publishing needs to a command. After
// the flags are parsed, the returned function reads the setting.
func emulatorFlag(flags *pflag.FlagSet, p process) func() (host string, err error) {
	var setting settings.Setting
	for _, s := range settings.Table() {
		if s.Name == "PUBSUB_EMULATOR_HOST" {
			setting = s
		}
	}
	given := flags.String(setting.Flag(), setting.Default, setting.Usage)
	return func() (string, error) {
		all := map[string]string{}
		if flags.Changed(setting.Flag()) {
			all[setting.Flag()] = *given
		}
		s, err := settings.Load(all, func(name string) (string, bool) {
			if name != setting.Name { // other settings, and their faults, do not matter here
				return "", false
			}
			return p.lookup(name)
		})
		return s.PubSubEmulator, err
	}
}

func (t topic) String() string { return "projects/" + t.project + "/topics/" + t.id }

// open connects to the topic, and returns an error if it does not exist.
func (t topic) open(ctx context.Context) (*pubsub.Client, error) {
	var options []option.ClientOption
	if t.emulator != "" {
		options = []option.ClientOption{
			option.WithEndpoint(t.emulator), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		}
	}
	client, err := pubsub.NewClient(ctx, t.project, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to Pub/Sub: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	// Without retries: they would hide why Pub/Sub cannot be reached.
	once := gax.WithRetry(func() gax.Retryer { return nil })
	_, err = client.TopicAdminClient.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: t.String()}, once)
	// An account that may publish may lack the permission to look
	// (roles/pubsub.publisher). Then the first message shows whether the topic exists.
	if err != nil && status.Code(err) != codes.PermissionDenied {
		client.Close()
		return nil, fmt.Errorf("look up %s: %w", t, t.explain(err))
	}
	return client, nil
}

// explain adds to an error what the user can do.
func (t topic) explain(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("no success in time; is Pub/Sub within reach? %w", err)
	case status.Code(err) != codes.NotFound:
		return err
	}
	command := "gcloud pubsub topics create " + t.id + " --project=" + t.project
	if t.emulator != "" {
		command = "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB=http://" + t.emulator + "/ " + command
	}
	return fmt.Errorf("the topic does not exist; create it with %q: %w", command, err)
}

// hopeless reports whether every other message would get the same error.
func hopeless(err error) bool {
	switch status.Code(err) {
	case codes.NotFound, codes.PermissionDenied, codes.Unauthenticated:
		return true
	}
	return false
}

// publishStream publishes a stream to a topic in real time. At the end it prints how many
// messages were published and refused.
func publishStream(ctx context.Context, config generator.Config, to topic, p process) error {
	client, err := to.open(ctx)
	switch {
	case ctx.Err() != nil: // a normal end, before the first message
		return nil
	case err != nil:
		return err
	}
	defer client.Close()
	publisher := client.Publisher(to.String())
	publisher.PublishSettings.Timeout = publishTimeout
	defer publisher.Stop()

	watched := watchStream(ctx, p, "messages accepted")
	err = generator.Run(ctx, config, generator.Options{
		Grace: publishTimeout,
		Publish: watched.publish(func(ctx context.Context, d generator.Delivery) error {
			_, err := publisher.Publish(ctx, &pubsub.Message{Data: d.Message.Data, Attributes: d.Message.Attributes}).Get(ctx)
			switch {
			case err == nil:
				return nil
			case hopeless(err) || ctx.Err() != nil:
				return to.explain(err)
			}
			watched.console.GivenUp("a message", to.explain(err).Error())
			return errRefused
		}),
	})
	return watched.end(err)
}
