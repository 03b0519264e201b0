package memfirestore

import (
	"context"
	"maps"
	"strings"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Commit applies all writes or none.
func (s *Server) Commit(ctx context.Context, r *pb.CommitRequest) (*pb.CommitResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, r, r.Database); err != nil {
		return nil, err
	}
	if len(r.Transaction) > 0 {
		return nil, status.Error(codes.Unimplemented, "transaction")
	}
	if len(r.Writes) > maxWrites {
		return nil, status.Errorf(codes.InvalidArgument, "%d writes", len(r.Writes))
	}
	at := s.commitTime()
	before := maps.Clone(s.documents)
	response := &pb.CommitResponse{CommitTime: at}
	for _, write := range r.Writes {
		result, err := s.apply(r.Database, write, at)
		if err != nil {
			s.documents = before
			return nil, err
		}
		response.WriteResults = append(response.WriteResults, result)
	}
	return response, nil
}

// BatchWrite applies each write by itself: some may fail.
func (s *Server) BatchWrite(ctx context.Context, r *pb.BatchWriteRequest) (*pb.BatchWriteResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, r, r.Database); err != nil {
		return nil, err
	}
	if len(r.Writes) > maxWrites {
		return nil, status.Errorf(codes.InvalidArgument, "%d writes", len(r.Writes))
	}
	response := &pb.BatchWriteResponse{}
	written := map[string]bool{}
	for _, write := range r.Writes {
		name := write.GetUpdate().GetName()
		if written[name] {
			return nil, status.Errorf(codes.InvalidArgument, "%s is written twice", name)
		}
		written[name] = true
		result, err := s.apply(r.Database, write, s.commitTime())
		if err != nil {
			result = &pb.WriteResult{}
		}
		response.WriteResults = append(response.WriteResults, result)
		response.Status = append(response.Status, &rpcstatus.Status{Code: int32(status.Code(err)), Message: status.Convert(err).Message()})
	}
	return response, nil
}

// apply applies one write, as a part of a commit at the given time.
func (s *Server) apply(database string, write *pb.Write, at *timestamppb.Timestamp) (*pb.WriteResult, error) {
	update := write.GetUpdate()
	if update == nil {
		return nil, status.Errorf(codes.Unimplemented, "%T", write.Operation)
	}
	if !strings.HasPrefix(update.Name, database+"/documents/") {
		return nil, status.Errorf(codes.InvalidArgument, "%s is not in database %s", update.Name, database)
	}
	old := s.documents[update.Name]
	if err := check(old, write.CurrentDocument, update.Name); err != nil {
		return nil, err
	}
	doc := &pb.Document{Name: update.Name, Fields: map[string]*pb.Value{}, CreateTime: at, UpdateTime: at}
	if old != nil {
		doc.CreateTime = old.CreateTime
	}
	if write.UpdateMask == nil {
		doc.Fields = update.Fields
	} else {
		if old != nil {
			doc.Fields = proto.Clone(old).(*pb.Document).Fields
		}
		for _, path := range write.UpdateMask.FieldPaths {
			if err := setField(doc, update, path); err != nil {
				return nil, err
			}
		}
	}
	for _, transform := range write.UpdateTransforms {
		if err := raise(doc, transform); err != nil {
			return nil, err
		}
	}
	if size := proto.Size(doc); size > maxDocument {
		return nil, status.Errorf(codes.InvalidArgument, "%s has %d bytes", doc.Name, size)
	}
	// A write that changes nothing does not change the update time either.
	if old != nil && proto.Equal(&pb.Document{Fields: old.Fields}, &pb.Document{Fields: doc.Fields}) {
		doc = old
	}
	s.documents[doc.Name] = doc
	return &pb.WriteResult{UpdateTime: doc.UpdateTime}, nil
}

func check(old *pb.Document, precondition *pb.Precondition, name string) error {
	switch condition := precondition.GetConditionType().(type) {
	case *pb.Precondition_Exists:
		if condition.Exists && old == nil {
			return status.Errorf(codes.NotFound, "%s does not exist", name)
		}
		if !condition.Exists && old != nil {
			return status.Errorf(codes.AlreadyExists, "%s exists", name)
		}
	case *pb.Precondition_UpdateTime:
		if old == nil {
			return status.Errorf(codes.NotFound, "%s does not exist", name)
		}
		if !proto.Equal(condition.UpdateTime, old.UpdateTime) {
			return status.Errorf(codes.FailedPrecondition, "%s was updated at %v", name, old.UpdateTime.AsTime())
		}
	}
	return nil
}

// setField sets the field that a mask names. If the update has no value for the field,
// setField deletes it. The path may also name one key of a map. Then the other keys of
// the map stay.
func setField(doc, update *pb.Document, path string) error {
	name, key, nested := strings.Cut(path, ".")
	target, source := doc.Fields, update.Fields
	if nested {
		if !strings.HasPrefix(key, "`") || !strings.HasSuffix(key, "`") || len(key) < 3 {
			return status.Errorf(codes.InvalidArgument, "field path %q begins with a digit or is empty: it needs backquotes", path)
		}
		if doc.Fields[name].GetMapValue().GetFields() == nil {
			doc.Fields[name] = &pb.Value{ValueType: &pb.Value_MapValue{MapValue: &pb.MapValue{Fields: map[string]*pb.Value{}}}}
		}
		target, source = doc.Fields[name].GetMapValue().Fields, update.Fields[name].GetMapValue().GetFields()
		name = strings.Trim(key, "`")
	}
	if value, ok := source[name]; ok {
		target[name] = value
	} else {
		delete(target, name)
	}
	return nil
}

// raise applies a transform. It knows only the maximum of integers.
func raise(doc *pb.Document, transform *pb.DocumentTransform_FieldTransform) error {
	maximum, ok := transform.TransformType.(*pb.DocumentTransform_FieldTransform_Maximum)
	if !ok {
		return status.Errorf(codes.Unimplemented, "%T", transform.TransformType)
	}
	if old, ok := doc.Fields[transform.FieldPath].GetValueType().(*pb.Value_IntegerValue); ok && old.IntegerValue >= maximum.Maximum.GetIntegerValue() {
		return nil
	}
	doc.Fields[transform.FieldPath] = maximum.Maximum
	return nil
}
