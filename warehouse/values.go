package warehouse

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// A Row is the values of one row of a table, in the order of the table's columns:
// each a string, int64, float64, bool, []byte, [time.Time] in UTC, or nil for
// NULL.
type Row []any

// Row returns the row of [RawTable].
func (r RawRow) Row() Row {
	return Row{
		r.IP, r.UserID, r.UserAgent, nullable(r.Lat), nullable(r.Lng),
		r.Timestamp, r.ProcessingTime, r.HTTPRequest, r.HTTPResponse, r.NumBytes,
		r.EventID, r.MessageID, r.PublishTime, r.WindowStart, r.Late,
	}
}

// Row returns the row of [AggLogTable].
func (c WindowCount) Row() Row {
	return Row{c.Start, StorableTime(c.End), c.PageViews, c.Final, c.WrittenAt}
}

// Rows returns the rows of [DeadLetterTable], one for each part of the data. What
// is absent is NULL, never empty.
func (l DeadLetter) Rows() ([]Row, error) {
	attributes, err := attributesText(l.Message.Attributes)
	if err != nil {
		return nil, fmt.Errorf("dead letter %s: %w", l.Message.ID, err)
	}
	parts := l.Parts()
	rows := make([]Row, len(parts))
	for i, part := range parts {
		var data any
		if len(part) > 0 {
			data = part
		}
		rows[i] = Row{
			l.ReceivedAt, l.Message.ID, l.Message.PublishTime, nullIfEmpty(l.Message.Subscription), attributes,
			data, int64(i + 1), int64(len(parts)), string(l.Reason), nullIfEmpty(l.Err),
		}
	}
	return rows, nil
}

func nullable(x *float64) any {
	if x == nil {
		return nil
	}
	return *x
}

func nullIfEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// attributesText returns the attributes as a JSON object with its keys in order,
// or nil for none.
func attributesText(attributes map[string]string) (any, error) {
	if len(attributes) == 0 {
		return nil, nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // for people to read, and not in a browser
	if err := encoder.Encode(attributes); err != nil {
		return nil, fmt.Errorf("encode attributes: %w", err)
	}
	return string(bytes.TrimSuffix(text.Bytes(), []byte("\n"))), nil
}
