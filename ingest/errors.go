package ingest

import "errors"

// Errors of [Committer.Submit] that a caller tells apart. Every other error
// means that storage failed or was too slow. After any of them the message may
// or may not be stored, and is to be delivered again.
var (
	// ErrQueueFull is returned at once, before anything was tried.
	ErrQueueFull = errors.New("queue is full")
	// ErrClosed is returned for messages that came after [Committer.Close].
	ErrClosed = errors.New("shutting down")
	// ErrPanic is wrapped by the error of a message whose batch met a bug of ours.
	ErrPanic = errors.New("panic while storing")
)
