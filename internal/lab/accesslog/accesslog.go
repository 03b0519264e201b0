// Package accesslog is the streaming lab's access log as Go values, for the lab's tools
// and for tests. The program itself knows the log only by its pipeline file.
package accesslog

import (
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/pipeline"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// A Record is one record of the access log.
type Record struct {
	IP           string
	UserID       string
	UserAgent    string
	Lat, Lng     *float64  // degrees; nil for none
	Timestamp    time.Time // UTC, microseconds
	HTTPRequest  string
	HTTPResponse int64
	NumBytes     int64
}

// Schema returns the schema of the built-in pipeline file.
func Schema() event.Schema { return pipeline.LabFile().Schema }

// Layout returns the tables of the built-in pipeline file under their default names.
func Layout() warehouse.Layout {
	f := pipeline.LabFile()
	return warehouse.Layout{Names: warehouse.DefaultNames, Schema: f.Schema, ProcessingAt: f.ProcessingAt, Count: f.Count}
}

// Event returns the record as an event of [Schema].
func (r Record) Event() event.Event {
	return event.Event{Values: event.Values(
		r.IP, r.UserID, r.UserAgent, degrees(r.Lat), degrees(r.Lng), r.Timestamp, r.HTTPRequest, r.HTTPResponse, r.NumBytes,
	)}
}

func degrees(x *float64) any {
	if x == nil {
		return nil
	}
	return *x
}

// Data returns the record as the data of a message.
func (r Record) Data() ([]byte, error) { return Schema().Encode(r.Event()) }

// Of returns the record in an event of [Schema].
func Of(e event.Event) Record {
	value := func(i int) any { return e.Values[i].Any() }
	r := Record{
		IP: value(0).(string), UserID: value(1).(string), UserAgent: value(2).(string),
		Timestamp: value(5).(time.Time), HTTPRequest: value(6).(string), HTTPResponse: value(7).(int64), NumBytes: value(8).(int64),
	}
	if x, ok := value(3).(float64); ok {
		r.Lat = &x
	}
	if x, ok := value(4).(float64); ok {
		r.Lng = &x
	}
	return r
}
