package settings

import "time"

// Time limits that no setting changes. Each limit leaves room for the limits inside it. A
// test in infra/ compares the limits with each other and with the deployment's limits.
const (
	// StepTimeout bounds one write of a batch.
	StepTimeout = 10 * time.Second
	// PushTimeout bounds a push from its headers to its answer. In this time the push
	// waits for its batch, its row and its count. Pub/Sub delivers a message again after
	// the subscription's ack deadline.
	PushTimeout = 25 * time.Second
	// MaxCommitInterval is the longest COMMIT_INTERVAL.
	MaxCommitInterval = 5 * time.Second
	// MaxFlushTimeout is the longest FLUSH_TIMEOUT. It leaves time to send the report.
	MaxFlushTimeout = WriteTimeout - 10*time.Second

	// After SIGTERM, accepted messages have ShutdownGrace to be stored. Messages that are
	// not stored by then are refused, and Pub/Sub delivers them again. After
	// ShutdownTimeout, connections are closed; closing the stores then has CloseTimeout.
	// Cloud Run sends SIGKILL after 10 s.
	ShutdownGrace   = 6 * time.Second
	ShutdownTimeout = 8 * time.Second
	CloseTimeout    = time.Second

	// The HTTP server's limits: for the headers of a request, for a whole request, for a
	// request and its answer, and between two requests of a connection.
	ReadHeaderTimeout = 10 * time.Second
	ReadTimeout       = time.Minute
	WriteTimeout      = 2 * time.Minute
	IdleTimeout       = 2 * time.Minute
)
