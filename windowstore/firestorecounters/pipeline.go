package firestorecounters

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// Pipelines implements [sharded.Documents]. A document that is not a record belongs
// to somebody else who shares the database, and is left out. But if such a document
// has the name of this pipeline, Pipelines returns an error.
func (d *documents) Pipelines(ctx context.Context) (map[string]sharded.PipelineRecord, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	records := map[string]sharded.PipelineRecord{}
	query := &pb.StructuredQuery{From: []*pb.StructuredQuery_CollectionSelector{{CollectionId: pipelinesCollection}}}
	_, err := d.query(ctx, d.root(), query, func(doc *pb.Document) error {
		name := path.Base(doc.Name)
		record, err := parseRecord(doc)
		switch {
		case err == nil:
			records[name] = record
		case name == d.name:
			return fmt.Errorf("document %s is no record of a pipeline: %w; choose another name in PIPELINE, or delete the document if nobody needs it", doc.Name, err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("query pipelines: %w", err)
	}
	return records, nil
}

func parseRecord(doc *pb.Document) (sharded.PipelineRecord, error) {
	text := func(field string) string { return doc.Fields[field].GetStringValue() }
	record := sharded.PipelineRecord{
		Meaning: windowstore.Meaning{
			EventTime: text(fieldEventTime),
			EventID:   text(fieldEventID),
			RawTable:  text(fieldRawTable),
			AggTable:  text(fieldAggTable),
		},
		UpdateTime: doc.UpdateTime.AsTime(),
	}
	var err error
	if record.Meaning.WindowDuration, err = time.ParseDuration(text(fieldWindowDuration)); err != nil {
		return record, fmt.Errorf("field %s: %w", fieldWindowDuration, err)
	}
	if _, ok := doc.Fields[fieldLeastKept]; ok {
		if record.LeastKept, err = time.ParseDuration(text(fieldLeastKept)); err != nil {
			return record, fmt.Errorf("field %s: %w", fieldLeastKept, err)
		}
	}
	return record, nil
}

// CreatePipeline implements [sharded.Documents].
func (d *documents) CreatePipeline(ctx context.Context, record sharded.PipelineRecord) error {
	m := record.Meaning
	fields := map[string]*pb.Value{
		fieldWindowDuration: textValue(m.WindowDuration.String()),
		fieldEventTime:      textValue(m.EventTime),
		fieldEventID:        textValue(m.EventID),
		fieldRawTable:       textValue(m.RawTable),
		fieldAggTable:       textValue(m.AggTable),
	}
	if record.LeastKept != 0 {
		fields[fieldLeastKept] = textValue(record.LeastKept.String())
	}
	writes := []*pb.Write{creation(d.pipelinePath(), fields)}
	for _, table := range slices.Compact([]string{m.RawTable, m.AggTable}) {
		writes = append(writes, creation(d.tablePath(table), map[string]*pb.Value{fieldPipeline: textValue(d.name)}))
	}
	err := d.commit(ctx, writes)
	if status.Code(err) == codes.AlreadyExists {
		return fmt.Errorf("%w: %w", sharded.ErrExists, err)
	}
	return err
}

func creation(path string, fields map[string]*pb.Value) *pb.Write {
	return &pb.Write{
		Operation:       &pb.Write_Update{Update: &pb.Document{Name: path, Fields: fields}},
		CurrentDocument: &pb.Precondition{ConditionType: &pb.Precondition_Exists{Exists: false}},
	}
}

// LowerLeastKept implements [sharded.Documents].
func (d *documents) LowerLeastKept(ctx context.Context, keep time.Duration, updateTime time.Time) error {
	return precondition(d.commit(ctx, []*pb.Write{{
		Operation: &pb.Write_Update{Update: &pb.Document{
			Name:   d.pipelinePath(),
			Fields: map[string]*pb.Value{fieldLeastKept: textValue(keep.String())},
		}},
		UpdateMask:      &pb.DocumentMask{FieldPaths: []string{fieldLeastKept}},
		CurrentDocument: unchangedSince(updateTime),
	}}))
}

func textValue(s string) *pb.Value {
	return &pb.Value{ValueType: &pb.Value_StringValue{StringValue: s}}
}
