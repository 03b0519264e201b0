package endtoend

import (
	"maps"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/tidemark-dev/tidemark/internal/test/emulator"
)

const (
	windowDuration  = 5 * time.Second
	allowedLateness = 3 * time.Second
)

func TestPubSubPushesAndTheTablesAreRightToTheEvent(t *testing.T) {
	t.Parallel()
	pubsubHost, firestoreHost := emulator.PubSub(t), emulator.Firestore(t)
	bigQueryHost, storageHost := emulator.BigQuery(t)
	program := build(t)
	project := emulator.Project()
	// The emulator pushes only two messages at a time, so a longer commit interval would
	// make the test slow.
	settings := map[string]string{
		"BACKEND": "gcp", "GOOGLE_CLOUD_PROJECT": project, "AUTH": "none",
		"WINDOW_DURATION": windowDuration.String(), "ALLOWED_LATENESS": allowedLateness.String(), "FLUSH_QUIET": "500ms", "COMMIT_INTERVAL": "10ms",
		"FIRESTORE_EMULATOR_HOST": firestoreHost, "BIGQUERY_EMULATOR_HOST": bigQueryHost, "BIGQUERY_STORAGE_EMULATOR_HOST": storageHost,
	}
	for _, tc := range []struct {
		name, path string
		settings   map[string]string
		push       *pubsubpb.PushConfig
		source     source
	}{
		{
			name: "wrapped", path: "/push", push: &pubsubpb.PushConfig{},
		},
		{
			name: "unwrapped", path: "/push/raw",
			settings: map[string]string{"EVENT_ID": "attribute:event-id", "EVENT_TIME": "attribute:timestamp"},
			push:     &pubsubpb.PushConfig{Wrapper: &pubsubpb.PushConfig_NoWrapper_{NoWrapper: &pubsubpb.PushConfig_NoWrapper{WriteMetadata: true}}},
			source:   source{byAttribute: true},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := day{
				program: program, settings: maps.Clone(settings), port: freePort(t),
				tables: tables{bigQueryHost, project, tc.name}, source: tc.source,
			}
			maps.Copy(d.settings, tc.settings)
			d.settings["PIPELINE"], d.settings["DATASET"] = tc.name, tc.name
			d.server = startServer(t, d.program, d.port, d.settings)
			tc.push.PushEndpoint = d.server.url + tc.path
			d.topic = newTopic(t, pubsubHost, project, tc.name, tc.push)
			d.run(t)
			d.end(t)
		})
	}
}
