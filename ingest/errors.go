package ingest

import "errors"

// Errors of [Committer.Submit] that a caller distinguishes. Every other error means that
// storage failed or was too slow. After any error the message may or may not be stored,
// and must be delivered again.
var (
	// ErrQueueFull is returned at once. Nothing of the message is stored.
	ErrQueueFull = errors.New("queue is full")
	// ErrClosed is returned for a message that comes after [Committer.Close].
	ErrClosed = errors.New("shutting down")
	// ErrPanic is wrapped by the error of a message if a bug stopped the message's batch.
	ErrPanic = errors.New("panic while storing")
)
