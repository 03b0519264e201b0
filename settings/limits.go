package settings

import "time"

// Time limits that no setting changes. Each leaves room for the limits inside it: the
// test of the chain in infra/ compares them with each other and with the deployment's.
const (
	// StepTimeout bounds one write of a batch.
	StepTimeout = 10 * time.Second
	// PushTimeout bounds a push, from its headers to its answer: it waits for its
	// batch, for its row and for its count. Pub/Sub delivers a message again after the
	// subscription's ack deadline.
	PushTimeout = 25 * time.Second
	// MaxCommitInterval is the longest COMMIT_INTERVAL.
	MaxCommitInterval = 5 * time.Second
	// MaxFlushTimeout is the longest FLUSH_TIMEOUT: the report must still be answered.
	MaxFlushTimeout = WriteTimeout - 10*time.Second

	// After SIGTERM, what was accepted has ShutdownGrace to be stored. What is not
	// stored by then is refused, and comes again. After ShutdownTimeout connections are
	// cut, and closing the stores has CloseTimeout. Cloud Run sends SIGKILL after 10 s.
	ShutdownGrace   = 6 * time.Second
	ShutdownTimeout = 8 * time.Second
	CloseTimeout    = time.Second

	// The HTTP server's limits: on the headers of a request, on all of it, on a request
	// and its answer, and between two requests of a connection.
	ReadHeaderTimeout = 10 * time.Second
	ReadTimeout       = time.Minute
	WriteTimeout      = 2 * time.Minute
	IdleTimeout       = 2 * time.Minute
)
