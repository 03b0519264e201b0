package memfirestore

import (
	"cmp"
	"slices"
	"strings"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// documentName is the name of a document's name in queries.
const documentName = "__name__"

// RunQuery finds the documents of one collection, in one snapshot.
func (s *Server) RunQuery(r *pb.RunQueryRequest, stream pb.Firestore_RunQueryServer) error {
	s.mu.Lock()
	database, _, _ := strings.Cut(r.Parent, "/documents")
	err := s.begin(stream.Context(), r, database)
	var found []*pb.Document
	if err == nil {
		found, err = s.find(r)
	}
	readTime := s.readTime()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	for _, doc := range found {
		if err := stream.Send(&pb.RunQueryResponse{Document: doc, ReadTime: readTime}); err != nil {
			return err
		}
	}
	return stream.Send(&pb.RunQueryResponse{ReadTime: readTime})
}

func (s *Server) find(r *pb.RunQueryRequest) ([]*pb.Document, error) {
	query := r.GetStructuredQuery()
	if query == nil || r.ConsistencySelector != nil || r.ExplainOptions != nil || len(query.From) != 1 || query.From[0].AllDescendants ||
		query.EndAt != nil || query.Offset != 0 || query.FindNearest != nil {
		return nil, status.Errorf(codes.Unimplemented, "query %v", r)
	}
	filter, err := fieldFilter(query.Where)
	if err != nil {
		return nil, err
	}
	order, err := fullOrder(query.OrderBy, filter)
	if err != nil {
		return nil, err
	}
	prefix := r.Parent + "/" + query.From[0].CollectionId + "/"
	var found []*pb.Document
	for name, doc := range s.documents {
		inCollection := strings.HasPrefix(name, prefix) && !strings.Contains(name[len(prefix):], "/")
		if inCollection && matches(doc, filter) && isAfter(doc, query.StartAt, order) {
			found = append(found, doc)
		}
	}
	slices.SortFunc(found, func(a, b *pb.Document) int { return compareBy(order, valuesOf(a, order), valuesOf(b, order)) })
	if limit := query.Limit; limit != nil {
		found = found[:min(len(found), int(limit.Value))]
	}
	for i := range found {
		found[i] = project(found[i], query.Select)
	}
	return found, nil
}

// fieldFilter returns the query's filter, which compares one field with a time, or nil.
func fieldFilter(where *pb.StructuredQuery_Filter) (*pb.StructuredQuery_FieldFilter, error) {
	filter := where.GetFieldFilter()
	switch {
	case where == nil:
		return nil, nil
	case filter == nil:
		return nil, status.Errorf(codes.Unimplemented, "filter %v", where)
	}
	switch filter.Op {
	case pb.StructuredQuery_FieldFilter_EQUAL, pb.StructuredQuery_FieldFilter_LESS_THAN_OR_EQUAL:
		return filter, nil
	}
	return nil, status.Errorf(codes.Unimplemented, "filter %v", where)
}

// fullOrder returns the complete order of a query, which ends with the document's name.
// The counters use only the single-field indexes that Firestore creates by itself. Such
// an index has the filtered field and then the document's name, both in the same
// direction.
func fullOrder(asked []*pb.StructuredQuery_Order, filter *pb.StructuredQuery_FieldFilter) ([]*pb.StructuredQuery_Order, error) {
	order := slices.Clone(asked)
	direction := pb.StructuredQuery_ASCENDING
	if len(order) > 0 {
		direction = order[len(order)-1].Direction
	}
	add := func(field string) {
		if len(order) == 0 || order[len(order)-1].Field.FieldPath != documentName {
			order = append(order, &pb.StructuredQuery_Order{Field: &pb.StructuredQuery_FieldReference{FieldPath: field}, Direction: direction})
		}
	}
	if len(order) == 0 && filter.GetOp() == pb.StructuredQuery_FieldFilter_LESS_THAN_OR_EQUAL {
		add(filter.Field.FieldPath)
	}
	add(documentName)
	var fields []string
	for _, o := range order {
		if o.Direction != direction {
			return nil, status.Errorf(codes.FailedPrecondition, "The query requires an index: %v", asked)
		}
		if path := o.Field.FieldPath; path != documentName {
			fields = append(fields, path)
		}
	}
	if len(fields) > 1 || len(fields) == 1 && filter != nil && fields[0] != filter.Field.FieldPath {
		return nil, status.Errorf(codes.FailedPrecondition, "The query requires an index: %v and %v", filter, asked)
	}
	return order, nil
}

func matches(doc *pb.Document, filter *pb.StructuredQuery_FieldFilter) bool {
	if filter == nil {
		return true
	}
	value, ok := doc.Fields[filter.Field.FieldPath].GetValueType().(*pb.Value_TimestampValue)
	if !ok {
		return false // the document is not in the field's index
	}
	c := value.TimestampValue.AsTime().Compare(filter.Value.GetTimestampValue().AsTime())
	return c == 0 || c < 0 && filter.Op == pb.StructuredQuery_FieldFilter_LESS_THAN_OR_EQUAL
}

// isAfter reports whether the document comes after the cursor. A document at the cursor's
// place also counts if the cursor is before that place.
func isAfter(doc *pb.Document, cursor *pb.Cursor, order []*pb.StructuredQuery_Order) bool {
	if cursor == nil {
		return true
	}
	c := compareBy(order, valuesOf(doc, order), cursor.Values)
	return c > 0 || c == 0 && cursor.Before
}

func valuesOf(doc *pb.Document, order []*pb.StructuredQuery_Order) []*pb.Value {
	values := make([]*pb.Value, len(order))
	for i, o := range order {
		if values[i] = doc.Fields[o.Field.FieldPath]; o.Field.FieldPath == documentName {
			values[i] = &pb.Value{ValueType: &pb.Value_ReferenceValue{ReferenceValue: doc.Name}}
		}
	}
	return values
}

// compareBy compares values in the given order. It compares only as many values as b has.
func compareBy(order []*pb.StructuredQuery_Order, a, b []*pb.Value) int {
	for i := range b {
		c := cmp.Or(
			a[i].GetTimestampValue().AsTime().Compare(b[i].GetTimestampValue().AsTime()),
			cmp.Compare(a[i].GetReferenceValue(), b[i].GetReferenceValue()))
		if order[i].Direction == pb.StructuredQuery_DESCENDING {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// project returns the document with only the requested fields.
func project(doc *pb.Document, fields *pb.StructuredQuery_Projection) *pb.Document {
	if fields == nil {
		return doc
	}
	projected := &pb.Document{Name: doc.Name, CreateTime: doc.CreateTime, UpdateTime: doc.UpdateTime, Fields: map[string]*pb.Value{}}
	for _, f := range fields.Fields {
		if value, ok := doc.Fields[f.FieldPath]; ok {
			projected.Fields[f.FieldPath] = value
		}
	}
	return projected
}
