package bigquerytables

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/managedwriter/adapt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// maxRequest is the most bytes of the rows in one request. It leaves room for the
// rest of the request: both APIs refuse requests of 10 MB.
const maxRequest = 9 << 20

// A request has the rows of an append that are sent together.
type request struct {
	first int // index of its first row in the append
	rows  []warehouse.Row
	wire  [][]byte // the rows as the appender encodes them, if it encodes rows as bytes
}

// cut divides rows into requests of at most maxRows rows and at most maxRequest
// bytes, by the size of each row. A row that is too large is in a request of its own,
// which BigQuery refuses.
func cut(rows []warehouse.Row, maxRows int, size func(i int) int) []request {
	var requests []request
	first, bytes := 0, 0
	for i := range rows {
		n := size(i)
		if i > first && (bytes+n > maxRequest || i-first == maxRows) {
			requests = append(requests, request{first: first, rows: rows[first:i]})
			first, bytes = i, 0
		}
		bytes += n
	}
	return append(requests, request{first: first, rows: rows[first:]})
}

// An encoding encodes rows of one table as protocol buffers. The field number of a
// column is the column's place in the table, from 1.
type encoding struct {
	message    protoreflect.MessageDescriptor
	descriptor *descriptorpb.DescriptorProto // of message, for the service
}

func newEncoding(t warehouse.Table) (encoding, error) {
	schema, err := adapt.BQSchemaToStorageTableSchema(schemaOf(t))
	if err != nil {
		return encoding{}, fmt.Errorf("schema of %s: %w", t.Name, err)
	}
	descriptor, err := adapt.StorageSchemaToProto2Descriptor(schema, "root")
	if err != nil {
		return encoding{}, fmt.Errorf("descriptor of %s: %w", t.Name, err)
	}
	message, ok := descriptor.(protoreflect.MessageDescriptor)
	if !ok {
		return encoding{}, fmt.Errorf("descriptor of %s is a %T, want that of a message", t.Name, descriptor)
	}
	normal, err := adapt.NormalizeDescriptor(message)
	if err != nil {
		return encoding{}, fmt.Errorf("descriptor of %s: %w", t.Name, err)
	}
	return encoding{message, normal}, nil
}

func (e encoding) encode(row warehouse.Row) ([]byte, error) {
	message := dynamicpb.NewMessage(e.message)
	for i, value := range row {
		if value == nil {
			continue
		}
		if t, ok := value.(time.Time); ok {
			value = t.UnixMicro()
		}
		message.Set(e.message.Fields().ByNumber(protoreflect.FieldNumber(i+1)), protoreflect.ValueOf(value))
	}
	return proto.Marshal(message)
}

// jsonValue returns a value in the form that a streaming insert takes.
func jsonValue(value any) bigquery.Value {
	switch v := value.(type) {
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05.000000Z")
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case int64: // a JSON number would lose the last digits of a large one
		return strconv.FormatInt(v, 10)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) { // JSON has no such numbers
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
	}
	return value
}

// jsonSize returns an upper estimate of the bytes of a row in a streaming insert.
func jsonSize(t warehouse.Table, row warehouse.Row) int {
	size := 200 // insert id and punctuation
	for i, value := range row {
		size += len(t.Columns[i].Name) + 8
		switch v := value.(type) {
		case string:
			size += 6 * len(v) // each may be written \u0000
		case []byte:
			size += base64.StdEncoding.EncodedLen(len(v))
		default:
			size += 32
		}
	}
	return size
}
