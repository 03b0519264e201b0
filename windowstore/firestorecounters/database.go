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
	Database string // "(default)" where it is empty
	// EmulatorHost is the host and port of an emulator, which is asked without
	// credentials; empty is the service.
	EmulatorHost string
	// CallTimeout bounds each call, on top of the caller's deadline; a minute where
	// it is 0.
	CallTimeout time.Duration
	// CountTimeout bounds the read of all shards of a window in CallTimeout's place,
	// if it is longer: that read takes as long as the window is large.
	CountTimeout time.Duration
	// ClockAhead, unless it is nil, is told with each answer how far the service's clock
	// is ahead of this process's at least, or behind if negative: 0 if the answer's time
	// lies within the call. It may be called concurrently.
	ClockAhead func(time.Duration)
	// DialOptions are for the connection, after those that this package sets.
	DialOptions []grpc.DialOption
}

// A Database is a Firestore database that holds the counters of any number of
// pipelines. It may be used concurrently.
type Database struct {
	config Config
	path   string // projects/<project>/databases/<database>

	mu         sync.Mutex
	connection *connection // the one that new calls use
}

// A connection is a client of the API with a connection of its own.
type connection struct {
	client *firestore.Client
	calls  int // that are under way
}

// Open returns the database. It connects with the first call, so an error is one
// of the configuration or of the credentials.
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

// take returns the connection for one call, which the caller gives back with leave.
func (db *Database) take() *connection {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.connection.calls++
	return db.connection
}

// leave ends a call. If the call got no answer, calls that begin later use another
// connection: this one may be dead without a sign of it. Calls that are under way
// keep it, and the last of them closes it.
func (db *Database) leave(c *connection, answered bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if !answered && c == db.connection {
		// Not in the call's context: the connection outlives the call. Without new
		// credentials the old connection is the best there is.
		if next, err := connect(context.Background(), db.config); err == nil {
			db.connection = next
		}
	}
	if c.calls--; c.calls == 0 && c != db.connection {
		c.client.Close() // no call is left that its error could matter to
	}
}

// path returns the database's name in the API.
func (c Config) path() string {
	return fmt.Sprintf("projects/%s/databases/%s", c.Project, cmp.Or(c.Database, "(default)"))
}

func (c Config) timeout() time.Duration { return cmp.Or(c.CallTimeout, time.Minute) }

// compareClocks compares the service's time of an answer that is there now with when
// its call was sent.
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

// keepAlive finds out that a connection has died while calls wait on it, which TCP
// alone would take many minutes for.
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

// emulatorOwner is the credential by which an emulator knows an administrator,
// whom no rules bind.
type emulatorOwner struct{}

func (emulatorOwner) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (emulatorOwner) RequireTransportSecurity() bool { return false }

// Pipeline returns the documents of the named pipeline.
func (db *Database) Pipeline(name string) sharded.Documents {
	return &documents{Database: db, name: name}
}

// Close closes the connection. Nothing else may be called during or after it.
func (db *Database) Close() error { return db.connection.client.Close() }

// bound returns the context of one call: with a deadline in any case, and with
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

// root is what top-level collections are under.
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
