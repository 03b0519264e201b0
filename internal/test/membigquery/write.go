package membigquery

import (
	"context"
	"strings"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// tableOf returns the dataset and table in the name of a stream.
func tableOf(stream string) (dataset, table string) {
	parts := strings.Split(stream, "/") // projects/P/datasets/D/tables/T/streams/_default
	if len(parts) < 6 {
		return "", ""
	}
	return parts[3], parts[5]
}

// GetWriteStream returns the default stream of a table.
func (s *Server) GetWriteStream(_ context.Context, r *storagepb.GetWriteStreamRequest) (*storagepb.WriteStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dataset, table := tableOf(r.Name); s.tables[dataset+"."+table] == nil {
		return nil, status.Errorf(codes.NotFound, "Requested entity was not found. Entity: %s", r.Name)
	}
	return &storagepb.WriteStream{Name: r.Name, Location: "us"}, nil
}

// AppendRows stores the rows that are appended to the default stream of a table. The
// first request of a connection has the stream's name and the schema of the rows.
func (s *Server) AppendRows(stream storagepb.BigQueryWrite_AppendRowsServer) error {
	var name string
	var schema protoreflect.MessageDescriptor
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil // the client has closed the connection
		}
		if request.WriteStream != "" {
			name = request.WriteStream
		}
		rows := request.GetProtoRows()
		if d := rows.GetWriterSchema().GetProtoDescriptor(); d != nil {
			if schema, err = descriptor(d); err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
		}
		if schema == nil || request.Offset != nil {
			return status.Error(codes.InvalidArgument, "the first request has no schema, or the default stream an offset")
		}
		if err := s.appendRows(stream.Context(), name, schema, rows.GetRows().GetSerializedRows()); err != nil {
			return err
		}
		response := &storagepb.AppendRowsResponse{Response: &storagepb.AppendRowsResponse_AppendResult_{AppendResult: &storagepb.AppendRowsResponse_AppendResult{}}}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func descriptor(d *descriptorpb.DescriptorProto) (protoreflect.MessageDescriptor, error) {
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("rows.proto"), Syntax: proto.String("proto2"), MessageType: []*descriptorpb.DescriptorProto{d},
	}, nil)
	if err != nil {
		return nil, err
	}
	return file.Messages().Get(0), nil
}

func (s *Server) appendRows(ctx context.Context, stream string, schema protoreflect.MessageDescriptor, wire [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dataset, name := tableOf(stream)
	table := s.tables[dataset+"."+name]
	if table == nil {
		return status.Errorf(codes.NotFound, "Requested entity was not found. Entity: %s", stream)
	}
	known := map[protoreflect.Name]column{}
	for _, c := range columns(table) {
		known[protoreflect.Name(c.name)] = c
	}
	for i := range schema.Fields().Len() {
		if name := schema.Fields().Get(i).Name(); known[name].name == "" {
			return status.Errorf(codes.InvalidArgument, "Input schema has more fields than BigQuery schema, extra fields: '%s'", name)
		}
	}
	rows := make([]map[string]any, len(wire))
	for i, bytes := range wire {
		message := dynamicpb.NewMessage(schema)
		if err := proto.Unmarshal(bytes, message); err != nil {
			return status.Errorf(codes.InvalidArgument, "row %d: %v", i, err)
		}
		rows[i] = map[string]any{}
		for field, value := range message.Range {
			c := known[field.Name()]
			rows[i][c.name] = written(c, value.Interface())
		}
	}
	if err := s.insert(ctx, dataset, name, rows); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

// written converts a value of an appended row to the form in which SQLite stores it.
func written(c column, value any) any {
	if micros, ok := value.(int64); ok && c.typ == "TIMESTAMP" {
		return time.UnixMicro(micros).UTC().Format(timeFormat)
	}
	return value
}
