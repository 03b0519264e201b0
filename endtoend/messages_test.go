package endtoend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// A message is what is published, together with what must become of it.
type message struct {
	data       []byte
	attributes map[string]string

	reason    string         // the reason of its dead letter; empty if the message is an event
	eventID   string         // from the attribute; empty if the message id is the event id
	eventTime time.Time      // according to the setting EVENT_TIME
	row       map[string]any // the columns of the raw row that come from the payload
}

// A source creates messages. No two have the same payload.
type source struct {
	byAttribute bool // event id and event time are in attributes
	made        int
}

// payload is the data of an event in the lab's format.
type payload struct {
	IP           string   `json:"ip"`
	UserID       string   `json:"user_id"`
	Lat          *float64 `json:"lat"`
	Lng          *float64 `json:"lng,omitempty"`
	Timestamp    string   `json:"timestamp"`
	HTTPRequest  string   `json:"http_request"`
	HTTPResponse int64    `json:"http_response"`
	NumBytes     int64    `json:"num_bytes"`
	UserAgent    string   `json:"user_agent"`
}

// event creates an event that happened at the given time. If event times are in an
// attribute, the payload has another time.
func (s *source) event(at time.Time) message {
	s.made++
	at = at.UTC().Truncate(time.Microsecond)
	payloadTime := at
	if s.byAttribute {
		payloadTime = at.Add(-24 * time.Hour)
	}
	lat := 48.8566
	p := payload{
		IP: "198.51.100.23", UserID: strconv.Itoa(-s.made), Lat: &lat, Timestamp: payloadTime.Format("2006-01-02T15:04:05.000000Z"),
		HTTPRequest: `"GET fungi.html HTTP/1.0"`, HTTPResponse: 200, NumBytes: int64(100 + s.made%400), UserAgent: "Mozilla/5.0 (Ünï; 日本)",
	}
	row := map[string]any{
		"ip": p.IP, "user_id": p.UserID, "lat": lat, "lng": nil, "event_timestamp": payloadTime, "http_request": p.HTTPRequest,
		"http_response": p.HTTPResponse, "num_bytes": p.NumBytes, "user_agent": p.UserAgent,
	}
	if s.made%2 == 0 {
		lng := -2.3522
		p.Lng = &lng
		row["lng"] = lng
	}
	if s.made%3 == 0 {
		p.Lat, row["lat"] = nil, nil
	}
	data, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	attributes := map[string]string{"timestamp": at.Format(time.RFC3339Nano), "note": "Ünï; 日本"}
	m := message{data: data, attributes: attributes, eventTime: at, row: row}
	if s.byAttribute {
		m.eventID = fmt.Sprintf("event %d", s.made)
		m.attributes["event-id"] = m.eventID
	}
	return m
}

// spoilt creates a message that is no event. Each n gives another kind of mistake, until
// all kinds were used.
func (s *source) spoilt(n int, now time.Time) message {
	m := s.event(now)
	m.row = nil
	kinds := []func(){
		func() { m.reason, m.data = "empty", nil },
		func() { m.reason, m.data = "bad_json", m.data[:len(m.data)/2] },
		func() { m.reason, m.data = "bad_json", append(m.data, `{"another": 1}`...) },
		func() {
			m.reason, m.data = "bad_json", bytes.Repeat([]byte("more than a part of a dead letter "), 1<<17)
		},
		func() { m.reason, m.data = "not_an_object", []byte("["+string(m.data)+"]") },
		func() { m.reason, m.data = "missing_field", []byte(`{"ip": "198.51.100.23"}`) },
		func() {
			ahead := s.event(now.Add(time.Hour))
			m.reason, m.data, m.attributes = "too_far_ahead", ahead.data, ahead.attributes
		},
		func() {
			if s.byAttribute {
				m.reason = "missing_attribute"
				delete(m.attributes, "event-id")
			} else { // for wrapped pushes only: the emulator changes such bytes if it pushes them unwrapped
				m.reason, m.data = "bad_utf8", []byte("\x00\xff\xfe binary \x80")
			}
		},
	}
	kinds[n%len(kinds)]()
	return m
}

// published is a message that Pub/Sub has accepted.
type published struct {
	message
	id          string
	publishTime time.Time
}

// window returns the start of the event's window.
func (p published) window() time.Time {
	seconds := p.eventTime.Unix()
	return time.Unix(seconds-seconds%int64(windowDuration.Seconds()), 0).UTC()
}

// late reports whether the event was published too late to be counted.
func (p published) late() bool {
	closes := p.window().Add(windowDuration + allowedLateness)
	return !p.publishTime.Before(closes)
}

// event returns the event's id.
func (p published) event() string {
	if p.eventID != "" {
		return p.eventID
	}
	return p.id
}

// rawRow returns the row that the event must have in the raw table.
func (p published) rawRow() map[string]any {
	row := map[string]any{
		"message_id": p.id, "event_id": p.event(), "publish_time": p.publishTime, "window_start": p.window(), "is_late": p.late(),
	}
	for name, value := range p.row {
		row[name] = value
	}
	return row
}

// recount returns what the tables must hold: the page views of each window, and for each
// event in a window whether it is late there.
func recount(messages []published) (windows map[time.Time]int64, events map[string]bool) {
	windows, events = map[time.Time]int64{}, map[string]bool{}
	for _, p := range messages {
		if p.reason != "" {
			continue
		}
		key := eventKey(p.window(), p.event())
		late, seen := events[key]
		if !p.late() && (!seen || late) {
			windows[p.window()]++
		}
		events[key] = p.late() && (!seen || late)
	}
	return windows, events
}

func eventKey(window time.Time, event string) string {
	return window.Format(time.RFC3339) + " " + event
}
