package firestorecounters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// QueryPending implements [sharded.Documents].
func (d *documents) QueryPending(ctx context.Context, after sharded.Cursor, through time.Time, limit int) (page []sharded.ShardInfo, readTime time.Time, err error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	readTime, err = d.query(ctx, d.pipelinePath(), d.pendingQuery(after, through, limit), func(doc *pb.Document) error {
		info, err := shardInfo(doc)
		page = append(page, info)
		return err
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("query pending shards: %w", err)
	}
	return page, readTime, nil
}

// pendingQuery requests only the field window: a projection costs the same and leaves
// out the batches. A document without the field pending is not in the index of
// pending.
func (d *documents) pendingQuery(after sharded.Cursor, through time.Time, limit int) *pb.StructuredQuery {
	start := &pb.Cursor{Values: []*pb.Value{timeValue(after.Window)}, Before: true}
	if after.Name != "" {
		name := &pb.Value{ValueType: &pb.Value_ReferenceValue{ReferenceValue: d.shardPath(after.Name)}}
		start = &pb.Cursor{Values: append(start.Values, name)}
	}
	return &pb.StructuredQuery{
		Select: &pb.StructuredQuery_Projection{Fields: []*pb.StructuredQuery_FieldReference{field(fieldWindow)}},
		From:   []*pb.StructuredQuery_CollectionSelector{{CollectionId: ShardsCollection}},
		Where:  compare(fieldPending, pb.StructuredQuery_FieldFilter_LESS_THAN_OR_EQUAL, through),
		OrderBy: []*pb.StructuredQuery_Order{
			{Field: field(fieldPending), Direction: pb.StructuredQuery_ASCENDING},
			{Field: field(fieldName), Direction: pb.StructuredQuery_ASCENDING},
		},
		StartAt: start,
		Limit:   wrapperspb.Int32(int32(limit)),
	}
}

func shardInfo(doc *pb.Document) (sharded.ShardInfo, error) {
	info := sharded.ShardInfo{
		Name:       path.Base(doc.Name),
		CreateTime: doc.CreateTime.AsTime(),
		UpdateTime: doc.UpdateTime.AsTime(),
	}
	window, ok := doc.Fields[fieldWindow].GetValueType().(*pb.Value_TimestampValue)
	if !ok {
		return info, fmt.Errorf("shard %s: field %s is no timestamp", info.Name, fieldWindow)
	}
	info.Window = window.TimestampValue.AsTime()
	return info, nil
}

// errStopped ends a query whose reader stopped reading.
var errStopped = errors.New("stopped")

// QueryWindow implements [sharded.Documents].
func (d *documents) QueryWindow(ctx context.Context, start time.Time) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ctx, cancel := d.boundBy(ctx, max(d.config.timeout(), d.config.CountTimeout))
		defer cancel()
		_, err := d.query(ctx, d.pipelinePath(), windowQuery(start), func(doc *pb.Document) error {
			return eachBatch(doc, func(batch []byte) bool { return yield(batch, nil) })
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("query shards of window: %w", err))
		}
	}
}

func windowQuery(start time.Time) *pb.StructuredQuery {
	return &pb.StructuredQuery{
		Select: &pb.StructuredQuery_Projection{Fields: []*pb.StructuredQuery_FieldReference{field(fieldBatches)}},
		From:   []*pb.StructuredQuery_CollectionSelector{{CollectionId: ShardsCollection}},
		Where:  compare(fieldWindow, pb.StructuredQuery_FieldFilter_EQUAL, start),
	}
}

// eachBatch calls yield with the document's batches. If a batch has another type,
// eachBatch returns an error: without this batch the count would be too small.
func eachBatch(doc *pb.Document, yield func([]byte) bool) error {
	batches, ok := doc.Fields[fieldBatches].GetValueType().(*pb.Value_MapValue)
	if !ok {
		return fmt.Errorf("shard %s: field %s is no map", path.Base(doc.Name), fieldBatches)
	}
	for key, value := range batches.MapValue.GetFields() {
		batch, ok := value.GetValueType().(*pb.Value_BytesValue)
		if !ok {
			return fmt.Errorf("shard %s: field %s.%s is no bytes", path.Base(doc.Name), fieldBatches, key)
		}
		if !yield(batch.BytesValue) {
			return errStopped
		}
	}
	return nil
}

// query calls each with every document that the query finds, all from one snapshot,
// and returns the time of the snapshot. It repeats the query until the first document
// arrives. After that it does not repeat, because a repeat might read another
// snapshot.
func (d *documents) query(ctx context.Context, parent string, query *pb.StructuredQuery, each func(*pb.Document) error) (readTime time.Time, err error) {
	request := &pb.RunQueryRequest{Parent: parent, QueryType: &pb.RunQueryRequest_StructuredQuery{StructuredQuery: query}}
	var final error // not to be repeated
	err = d.retry(ctx, func(a *attempt) error {
		stream, err := a.client.RunQuery(a.ctx, request, once())
		if err != nil {
			return err
		}
		for received := false; ; {
			response, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil && !received {
				return err
			}
			if err == nil {
				a.answered(response.ReadTime)
				if response.ReadTime != nil {
					readTime = response.ReadTime.AsTime()
				}
				if response.Document == nil {
					continue
				}
				received = true
				err = each(response.Document)
			}
			if err != nil {
				final = ended(ctx, err)
				return nil
			}
		}
	})
	return readTime, errors.Join(err, final)
}

func field(name string) *pb.StructuredQuery_FieldReference {
	return &pb.StructuredQuery_FieldReference{FieldPath: name}
}

func compare(name string, op pb.StructuredQuery_FieldFilter_Operator, t time.Time) *pb.StructuredQuery_Filter {
	return &pb.StructuredQuery_Filter{FilterType: &pb.StructuredQuery_Filter_FieldFilter{
		FieldFilter: &pb.StructuredQuery_FieldFilter{Field: field(name), Op: op, Value: timeValue(t)},
	}}
}
