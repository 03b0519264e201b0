package firestoredocs

import (
	"context"
	"fmt"
	"time"

	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// once turns off the client's own repeats of a call.
func once() gax.CallOption {
	return gax.WithRetry(func() gax.Retryer { return nil })
}

// retry makes the call until it succeeds, fails for good, or ctx ends; then the
// error is both the context's and the last answer.
func retry(ctx context.Context, call func() error) error {
	backoff := gax.Backoff{Initial: 50 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2}
	for {
		err := call()
		if err == nil || !passing(err) {
			return err
		}
		if gax.Sleep(ctx, backoff.Pause()) != nil {
			return ended(ctx, err)
		}
	}
}

// ended adds to the last answer that ctx has ended, where it has.
func ended(ctx context.Context, last error) error {
	if ctx.Err() == nil {
		return last
	}
	return fmt.Errorf("%w; last answer: %w", context.Cause(ctx), last)
}

// passing reports whether the same call may well succeed later. An aborted write
// lost against another; ResourceExhausted may be a quota, or a request that is
// too large, which the error does not tell apart.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Aborted, codes.ResourceExhausted, codes.Internal, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}
