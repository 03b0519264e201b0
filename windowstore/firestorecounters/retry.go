package firestorecounters

import (
	"context"
	"errors"
	"fmt"
	"time"

	firestore "cloud.google.com/go/firestore/apiv1"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tidemark-dev/tidemark/internal/durations"
)

// once turns off the client's own repeats of a call.
func once() gax.CallOption {
	return gax.WithRetry(func() gax.Retryer { return nil })
}

// retry makes the call until the call succeeds or fails permanently, or ctx ends. If
// ctx ends, the error has both the context's error and the last answer.
//
// An attempt that gets no answer is given up after half of the remaining time, and so
// is its connection. Otherwise one connection that died without a sign would use up
// the whole time of every call. The last attempt has at least an eighth of the time.
func (db *Database) retry(ctx context.Context, call func(*attempt) error) error {
	deadline, _ := ctx.Deadline() // bound set a deadline
	least := time.Until(deadline) / 8
	backoff := gax.Backoff{Initial: 50 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2}
	for {
		err := db.try(ctx, max(time.Until(deadline)/2, least), call)
		if err == nil || !passing(err) {
			return err
		}
		if gax.Sleep(ctx, backoff.Pause()) != nil {
			return ended(ctx, err)
		}
	}
}

// An attempt is one try of a call.
type attempt struct {
	ctx    context.Context // of this attempt
	db     *Database
	client *firestore.Client
	sent   time.Time
	limit  *time.Timer // cancels ctx
}

// answered records that an answer, or a part of it, arrived with the service's time.
// The rest of the answer may take until the call's deadline.
func (a *attempt) answered(served *timestamppb.Timestamp) {
	first := a.limit.Stop()
	if first && served.IsValid() {
		a.db.compareClocks(a.sent, served.AsTime())
	}
}

// errNoAnswer is the cause of the end of an attempt's context when the attempt
// reaches its limit.
var errNoAnswer = errors.New("no answer")

// try makes one attempt. It gives the attempt up if no answer arrives within the
// limit.
func (db *Database) try(ctx context.Context, limit time.Duration, call func(*attempt) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	connection := db.take()
	a := &attempt{
		ctx: ctx, db: db, client: connection.client, sent: time.Now(),
		limit: time.AfterFunc(limit, func() { cancel(errNoAnswer) }),
	}
	defer func() {
		a.limit.Stop()
		unanswered := err != nil && context.Cause(ctx) == errNoAnswer
		db.leave(connection, !unanswered)
		if unanswered {
			err = status.Errorf(codes.DeadlineExceeded, "no answer in %s, given up", durations.Text(limit))
		}
	}()
	return call(a)
}

// ended returns the last answer. If ctx ended, the error also says so.
func ended(ctx context.Context, last error) error {
	if ctx.Err() == nil {
		return last
	}
	return fmt.Errorf("%w; last answer: %w", context.Cause(ctx), last)
}

// passing reports whether the same call may succeed later. An aborted write lost
// against another write. ResourceExhausted may mean a quota or a request that is too
// large; the error does not distinguish the two.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Aborted, codes.ResourceExhausted, codes.Internal, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}
