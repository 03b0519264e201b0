package warehouse

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// A Row has the values of one row of a table, in the order of the table's columns.
// Each value is a string, int64, float64, bool, []byte, [time.Time] in UTC, or nil
// for NULL.
type Row []any

// attributesText returns the attributes as a JSON object with sorted keys, or nil if
// there are no attributes.
func attributesText(attributes map[string]string) any {
	if len(attributes) == 0 {
		return nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // users read the text, not browsers
	if err := encoder.Encode(attributes); err != nil {
		panic(fmt.Sprintf("encode attributes: %v", err)) // a map of strings always encodes
	}
	return string(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
}

// parseAttributes returns the attributes in a value that attributesText returned.
func parseAttributes(value any) (attributes map[string]string, ok bool) {
	if value == nil {
		return nil, true
	}
	text, ok := value.(string)
	return attributes, ok && json.Unmarshal([]byte(text), &attributes) == nil
}
