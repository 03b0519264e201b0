package emulator

import (
	"path/filepath"
	"testing"
)

// PubSub returns the host and port of a Pub/Sub emulator: that of
// PUBSUB_EMULATOR_HOST, or one that it starts, for which it needs java and the
// component pubsub-emulator of the Google Cloud CLI. Where these are not installed
// it skips the test; where CI is true it fails it, as [Firestore] does.
func PubSub(t testing.TB) string {
	t.Helper()
	return pubSub.use(t)
}

// pubSub is the process's emulator, as firestore is.
var pubSub = emulator{
	name:     "Pub/Sub",
	variable: "PUBSUB_EMULATOR_HOST",
	file:     "pubsub-emulator/lib",
	arguments: func(lib, port string) []string {
		return []string{"-Xmx256m", "-XX:+UseSerialGC", "-Duser.language=en", "-cp", filepath.Join(lib, "*"),
			"com.google.cloud.pubsub.testing.v1.Main", "--host=127.0.0.1", "--port=" + port}
	},
}
