package warehouse_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/internal/test/testlog"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
)

// With any settings, the message that is created from a raw row gets the same verdict as
// the message that the row came from.
func TestTheMessageOfARawRowIsItsEvent(t *testing.T) {
	t.Parallel()
	traffic := testlog.Traffic(t)
	for _, eventTime := range []string{"payload", "publish", "attribute:timestamp"} {
		for _, eventID := range []string{"message", "attribute:timestamp", "attribute:id"} {
			t.Run(eventTime+" "+eventID, func(t *testing.T) {
				t.Parallel()
				c := event.Rules{Schema: accesslog.Schema(), Windows: window.Fixed{Duration: time.Minute, AllowedLateness: 2 * time.Minute}, MaxClockSkew: 5 * time.Minute}
				var err error
				if c.EventTime, err = event.ParseTimeSource(eventTime); err != nil {
					t.Fatal(err)
				}
				if c.EventID, err = event.ParseIDSource(eventID); err != nil {
					t.Fatal(err)
				}
				checkMessages(t, c, traffic)
			})
		}
	}
}

func checkMessages(t *testing.T, r event.Rules, bodies [][]byte) {
	t.Helper()
	c := event.NewClassifier(r)
	events, late := 0, 0
	for _, body := range bodies {
		m, err := envelope.Decode(bytes.Clone(body), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		attributes := map[string]string{"id": "id of " + m.ID, "timestamp": event.FormatTime(m.PublishTime.Add(-150 * time.Second))}
		m.Attributes = attributes
		want := c.Classify(m)
		if want.Status == event.DeadLetter {
			continue
		}
		events++
		row := warehouse.RawRow{
			Event: want.Event, EventID: want.EventID, MessageID: m.ID, PublishTime: m.PublishTime,
			WindowStart: want.Window, Late: want.Status == event.Late,
		}
		if row.Late {
			late++
		}
		again, err := row.Message(r.Schema, r.EventID, r.EventTime)
		if err != nil {
			t.Fatal(err)
		}
		got := c.Classify(again)
		if r.EventTime.Attribute() != "" {
			got.EventTime = want.EventTime // the row has the event's window, but not this time
		}
		if diff := cmp.Diff(want, got); diff != "" || again.ID != m.ID || !again.PublishTime.Equal(m.PublishTime) {
			t.Fatalf("message %s of %s published %v: (-want +got)\n%s", m.ID, again.ID, again.PublishTime, diff)
		}
	}
	if events == 0 || late == 0 && r.EventTime.String() != "publish" {
		t.Errorf("%d events, %d late: too few to tell", events, late)
	}
}
