package firestorecounters

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

const (
	// settleChunk is how many shards one request settles. settleParallel is how many
	// requests are under way at the same time. The API takes 500 shards in a request.
	// But the service handles them one by one, so smaller requests are answered
	// sooner.
	settleChunk    = 100
	settleParallel = 8
)

// Merge implements [sharded.Documents] by one Commit without a transaction. The
// service applies all writes of the Commit or none.
func (d *documents) Merge(ctx context.Context, writes []sharded.ShardWrite) error {
	request := make([]*pb.Write, len(writes))
	for i, w := range writes {
		request[i] = d.mergeWrite(w)
	}
	if err := d.commit(ctx, request); err != nil {
		return fmt.Errorf("commit %d shards: %w", len(writes), err)
	}
	return nil
}

// mergeWrite sets each field that its mask names; of the map it sets only the key of
// the batch. It deletes the field that the mask names and that has no value. The
// count can only rise. If the write set the count, a repeat of this commit after a
// later commit would lower the count.
func (d *documents) mergeWrite(w sharded.ShardWrite) *pb.Write {
	return &pb.Write{
		Operation: &pb.Write_Update{Update: &pb.Document{
			Name: d.shardPath(w.Name),
			Fields: map[string]*pb.Value{
				fieldWindow:  timeValue(w.Window),
				fieldPending: timeValue(w.Window),
				fieldBatches: {ValueType: &pb.Value_MapValue{MapValue: &pb.MapValue{Fields: map[string]*pb.Value{
					w.Key: {ValueType: &pb.Value_BytesValue{BytesValue: w.Batch}},
				}}}},
			},
		}},
		UpdateMask: &pb.DocumentMask{FieldPaths: []string{
			// A key may begin with a digit, so it needs the quotes.
			fieldWindow, fieldPending, fieldBatches + ".`" + w.Key + "`", fieldExpireAt,
		}},
		UpdateTransforms: []*pb.DocumentTransform_FieldTransform{{
			FieldPath: fieldCount,
			TransformType: &pb.DocumentTransform_FieldTransform_Maximum{
				Maximum: &pb.Value{ValueType: &pb.Value_IntegerValue{IntegerValue: w.Count}},
			},
		}},
	}
}

// commit applies all writes or none.
func (d *documents) commit(ctx context.Context, writes []*pb.Write) error {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	return d.retry(ctx, func(a *attempt) error {
		response, err := a.client.Commit(a.ctx, &pb.CommitRequest{Database: d.path, Writes: writes}, once())
		if err != nil {
			return err
		}
		a.answered(response.CommitTime)
		return nil
	})
}

// TryWrite returns an error if the caller may not create and change documents of the
// pipeline. It creates and changes nothing. It requests both in one atomic commit
// that is always refused, because the document to be changed does not exist. The
// service checks the permissions before that.
func (db *Database) TryWrite(ctx context.Context, pipeline string) error {
	d := &documents{Database: db, name: pipeline}
	absent := d.shardPath("check-" + sharded.NewWriter())
	err := d.commit(ctx, []*pb.Write{
		creation(absent+"-new", nil),
		{
			Operation:       &pb.Write_Update{Update: &pb.Document{Name: absent}},
			CurrentDocument: &pb.Precondition{ConditionType: &pb.Precondition_Exists{Exists: true}},
		},
	})
	switch {
	case errors.Is(precondition(err), sharded.ErrPrecondition):
		return nil
	case err == nil:
		return errors.New("a commit that changes a document which does not exist was not refused")
	}
	return fmt.Errorf("try a commit: %w", err)
}

// Settle implements [sharded.Documents] by a BatchWrite for every hundred shards,
// several at the same time.
func (d *documents) Settle(ctx context.Context, shards []sharded.ShardInfo, expireAt time.Time) []error {
	errs := make([]error, len(shards))
	underWay := make(chan struct{}, settleParallel)
	var wg sync.WaitGroup
	for from := 0; from < len(shards); from += settleChunk {
		to := min(from+settleChunk, len(shards))
		underWay <- struct{}{}
		wg.Go(func() {
			d.settleAll(ctx, shards[from:to], expireAt, errs[from:to])
			<-underWay
		})
	}
	wg.Wait()
	return errs
}

// settleAll settles the shards in one request, and repeats the request with the
// shards that failed for a passing reason. It sets errs to the result for each shard.
func (d *documents) settleAll(ctx context.Context, shards []sharded.ShardInfo, expireAt time.Time, errs []error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	left := make([]int, len(shards)) // indexes of the shards without a final answer
	for i := range left {
		left[i] = i
	}
	err := d.retry(ctx, func(a *attempt) error {
		request := &pb.BatchWriteRequest{Database: d.path}
		for _, i := range left {
			request.Writes = append(request.Writes, d.settleWrite(shards[i], expireAt))
		}
		response, err := a.client.BatchWrite(a.ctx, request, once())
		if err != nil {
			return err
		}
		if len(response.Status) != len(left) {
			return fmt.Errorf("%d answers for %d writes", len(response.Status), len(left))
		}
		var again []int
		var last error
		for n, i := range left {
			err := status.ErrorProto(response.Status[n])
			if passing(err) {
				again, last = append(again, i), err
				continue
			}
			errs[i] = precondition(err)
		}
		left = again
		return last
	})
	if err == nil {
		return
	}
	for _, i := range left {
		errs[i] = err
	}
}

func (d *documents) settleWrite(shard sharded.ShardInfo, expireAt time.Time) *pb.Write {
	return &pb.Write{
		Operation: &pb.Write_Update{Update: &pb.Document{
			Name:   d.shardPath(shard.Name),
			Fields: map[string]*pb.Value{fieldExpireAt: timeValue(expireAt)},
		}},
		UpdateMask:      &pb.DocumentMask{FieldPaths: []string{fieldPending, fieldExpireAt}},
		CurrentDocument: unchangedSince(shard.UpdateTime),
	}
}

func unchangedSince(updateTime time.Time) *pb.Precondition {
	return &pb.Precondition{ConditionType: &pb.Precondition_UpdateTime{UpdateTime: timestamppb.New(updateTime)}}
}

// precondition wraps [sharded.ErrPrecondition] if err says that a document has
// changed or does not exist.
func precondition(err error) error {
	switch code := status.Code(err); {
	case code == codes.FailedPrecondition, code == codes.NotFound,
		// The emulator's error if the update time is later than the document's.
		code == codes.InvalidArgument && strings.Contains(err.Error(), "base version"):
		return fmt.Errorf("%w: %w", sharded.ErrPrecondition, err)
	}
	return err
}

func timeValue(t time.Time) *pb.Value {
	return &pb.Value{ValueType: &pb.Value_TimestampValue{TimestampValue: timestamppb.New(t)}}
}
