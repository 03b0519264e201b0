package envelope_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/window"
)

const labEvent = `{"ip": "198.51.100.23", "user_id": "-6120394857710293846", "lat": 48.8566, "lng": 2.3522, "timestamp": "2026-03-14T09:26:53.589793Z", ` +
	`"http_request": "\"GET fungi.html HTTP/1.0\"", "http_response": 200, "num_bytes": 287, "user_agent": "Mozilla/5.0 (KHTML"}`

// BenchmarkDecodeAndClassify measures a push before it is stored: from its body to its
// verdict.
func BenchmarkDecodeAndClassify(b *testing.B) {
	classifier := event.NewClassifier(event.Rules{Schema: accesslog.Schema(), Windows: window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute}, MaxClockSkew: 5 * time.Minute})
	published := time.Date(2026, 3, 14, 9, 26, 53, 713_000_000, time.UTC)
	var unknown strings.Builder
	for i := 0; unknown.Len() < 1<<20; i++ {
		fmt.Fprintf(&unknown, `"%d":1,`, i)
	}
	for _, bench := range []struct {
		name, data string
		want       event.Status
	}{
		{"event", labEvent, event.Counted},
		{"bad_json", strings.TrimSuffix(labEvent, "}"), event.DeadLetter},
		{"1MB_of_unknown_keys", "{" + unknown.String() + labEvent[1:], event.Counted},
	} {
		body := envelope.Encode(event.Message{
			ID: "10812345678901234", PublishTime: published, Subscription: "projects/p/subscriptions/s",
			Attributes: map[string]string{"timestamp": "2026-03-14T09:26:53.589793Z"}, Data: []byte(bench.data),
		})
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			received := make([]byte, len(body))
			for b.Loop() {
				copy(received, body) // a copy, because Decode overwrites it
				m, err := envelope.Decode(received, published)
				if err != nil {
					b.Fatal(err)
				}
				if v := classifier.Classify(m); v.Status != bench.want {
					b.Fatalf("%s: %v", v.Status, v.Err)
				}
			}
		})
	}
}
