package event

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// wireEvent is an event as the lab's generator writes it, with its keys in the
// same order.
type wireEvent struct {
	IP           string   `json:"ip"`
	UserID       string   `json:"user_id"`
	Lat          *float64 `json:"lat"`
	Lng          *float64 `json:"lng"`
	Timestamp    string   `json:"timestamp"`
	HTTPRequest  string   `json:"http_request"`
	HTTPResponse int64    `json:"http_response"`
	NumBytes     int64    `json:"num_bytes"`
	UserAgent    string   `json:"user_agent"`
}

// Encode returns e as the data of a message: a JSON object on one line, its keys
// in the lab's order, the timestamp as [FormatTime] writes it, coordinates that
// are not there as null. [Classifier.Classify] reads it as the same event.
//
// The error is of an event that Classify never gives: one with a coordinate that
// is infinite or not a number, which JSON has no way to write.
func Encode(e Event) ([]byte, error) {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false) // for people to read, and not in a browser
	err := encoder.Encode(wireEvent{
		IP:           e.IP,
		UserID:       e.UserID,
		Lat:          e.Lat,
		Lng:          e.Lng,
		Timestamp:    FormatTime(e.Timestamp),
		HTTPRequest:  e.HTTPRequest,
		HTTPResponse: e.HTTPResponse,
		NumBytes:     e.NumBytes,
		UserAgent:    e.UserAgent,
	})
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return bytes.TrimSuffix(line.Bytes(), []byte("\n")), nil
}
