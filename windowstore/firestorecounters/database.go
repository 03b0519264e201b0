package firestorecounters

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	firestore "cloud.google.com/go/firestore/apiv1"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// Config says which database to open.
type Config struct {
	Project  string
	Database string // "(default)" if empty
	// EmulatorHost is the host and port of an emulator, which is called without
	// credentials. If it is empty, the service is called.
	EmulatorHost string
	// CallTimeout bounds each call, in addition to the caller's deadline. If it is 0,
	// the bound is a minute.
	CallTimeout time.Duration
	// CountTimeout replaces CallTimeout for the read of all shards of a window, if it
	// is longer: the larger the window, the longer the read.
	CountTimeout time.Duration
	// ClockAhead, unless nil, is called for each answer with the least amount by which
	// the service's clock is ahead of this process's clock; the amount is negative if
	// the service's clock is behind. The amount is 0 if the answer's time lies within
	// the call. ClockAhead may be called concurrently.
	ClockAhead func(time.Duration)
	// DialOptions are options of the connection. They follow the options that this
	// package sets.
	DialOptions []grpc.DialOption
}

// A Database is a Firestore database that holds the counters of any number of
// pipelines. It may be used concurrently.
type Database struct {
	config Config
	path   string // projects/<project>/databases/<database>

	mu         sync.Mutex
	connection *connection // new calls use this connection
}

// A connection is a client of the API with its own network connection.
type connection struct {
	client *firestore.Client
	calls  int // under way
}

// Open returns the database. The first call connects, so an error of Open is about
// the configuration or the credentials.
func Open(ctx context.Context, config Config) (*Database, error) {
	db := &Database{config: config, path: config.path()}
	var err error
	if db.connection, err = connect(ctx, config); err != nil {
		return nil, fmt.Errorf("open Firestore database %s: %w", db.path, err)
	}
	return db, nil
}

func connect(ctx context.Context, config Config) (*connection, error) {
	options, err := clientOptions(config)
	if err != nil {
		return nil, err
	}
	client, err := firestore.NewClient(ctx, options...)
	if err != nil {
		return nil, err
	}
	return &connection{client: client}, nil
}

// take returns the connection for one call. The caller returns the connection by
// leave.
func (db *Database) take() *connection {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.connection.calls++
	return db.connection
}

// leave ends a call. If the call got no answer, later calls use another connection,
// because this connection may be dead without a sign. Calls that are under way keep
// the connection, and the last of them closes it.
func (db *Database) leave(c *connection, answered bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if !answered && c == db.connection {
		// The connection outlives the call, so it does not use the call's context. If
		// a new connection fails, for want of credentials, the old one stays in use.
		if next, err := connect(context.Background(), db.config); err == nil {
			db.connection = next
		}
	}
	if c.calls--; c.calls == 0 && c != db.connection {
		c.client.Close() // the error matters to no call any more
	}
}

// path returns the database's name in the API.
func (c Config) path() string {
	return fmt.Sprintf("projects/%s/databases/%s", c.Project, cmp.Or(c.Database, "(default)"))
}

func (c Config) timeout() time.Duration { return cmp.Or(c.CallTimeout, time.Minute) }

// compareClocks compares the service's time in an answer that has just arrived with
// the time at which the call was sent and with the present time.
func (db *Database) compareClocks(sent, served time.Time) {
	if db.config.ClockAhead == nil {
		return
	}
	var ahead time.Duration
	if now := time.Now(); served.After(now) {
		ahead = served.Sub(now)
	} else if served.Before(sent) {
		ahead = served.Sub(sent)
	}
	db.config.ClockAhead(ahead)
}

// keepAlive detects a connection that died while calls wait for it. TCP alone would
// take many minutes.
var keepAlive = keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}

func clientOptions(config Config) ([]option.ClientOption, error) {
	dial := append([]grpc.DialOption{
		grpc.WithKeepaliveParams(keepAlive),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
	}, config.DialOptions...)
	if config.EmulatorHost != "" {
		dial = append(dial, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(emulatorOwner{}))
		conn, err := grpc.NewClient(strings.TrimPrefix(config.EmulatorHost, "http://"), dial...)
		return []option.ClientOption{option.WithGRPCConn(conn)}, err
	}
	var options []option.ClientOption
	for _, d := range dial {
		options = append(options, option.WithGRPCDialOption(d))
	}
	return options, nil
}

// emulatorOwner is the credential of an emulator's administrator, who is exempt from
// security rules.
type emulatorOwner struct{}

func (emulatorOwner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (emulatorOwner) RequireTransportSecurity() bool { return false }

// Pipeline returns the documents of the named pipeline.
func (db *Database) Pipeline(name string) sharded.Documents {
	return &documents{Database: db, name: name}
}

// Close closes the connection. No other method may be called during or after Close.
func (db *Database) Close() error { return db.connection.client.Close() }

// bound returns the context of one call. The context always has a deadline, and has
// the header by which the service finds the database.
func (db *Database) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return db.boundBy(ctx, db.config.timeout())
}

func (db *Database) boundBy(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "google-cloud-resource-prefix", db.path), timeout)
}

// documents is a pipeline's part of a database.
type documents struct {
	*Database
	name string
}

var _ sharded.Documents = (*documents)(nil)

// root is the parent of top-level collections.
func (d *documents) root() string { return d.path + "/documents" }

func (d *documents) pipelinePath() string {
	return d.root() + "/" + pipelinesCollection + "/" + d.name
}

func (d *documents) tablePath(table string) string {
	return d.root() + "/" + tablesCollection + "/" + table
}

func (d *documents) shardPath(name string) string {
	return d.pipelinePath() + "/" + ShardsCollection + "/" + name
}
