package sharded

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// Config is what [New] needs. All fields are required, but the bounds at the end.
type Config struct {
	Documents Documents // of the pipeline
	Pipeline  string
	Meaning   windowstore.Meaning
	// Writer begins the name of every document that the store makes. No two stores
	// may ever have the same: see [NewWriter].
	Writer string
	// Now is the process's clock. It only paces writes; instants of shards are by
	// the database's clock.
	Now func() time.Time
	// MaxKeys is how many ids Count reads at most, those counted that are in
	// several shards; 20 million where it is 0.
	MaxKeys int
	// MaxCommitWrites is how many documents one commit writes at most, and PageSize
	// how many one query for pending shards returns at most: 500 and 300 where they
	// are 0.
	MaxCommitWrites, PageSize int
}

// Store is a [windowstore.Store] on [Documents], for any number of processes.
// Window starts are whole seconds. It runs no goroutines, and given the same
// calls in the same order it makes the same calls of Documents.
type Store struct {
	config Config
	slots  *slots
	large  chan struct{} // has room for the one count that holds many ids
	// registered is set once the pipeline is known to be on record with this
	// store's meaning, which then never changes.
	registered atomic.Bool
}

var _ windowstore.Store = (*Store)(nil)

// New returns a store. It does nothing yet: the pipeline's meaning is recorded,
// or compared with the one on record, by the first Add.
func New(config Config) *Store {
	config.MaxKeys = cmp.Or(config.MaxKeys, defaultMaxKeys)
	config.MaxCommitWrites = cmp.Or(config.MaxCommitWrites, maxCommitWrites)
	config.PageSize = cmp.Or(config.PageSize, pageSize)
	return &Store{config: config, slots: newSlots(config.Writer, config.Now), large: make(chan struct{}, 1)}
}

// NewWriter returns a random name for [Config.Writer]: 16 characters, 80 bits, so
// that no two processes have the same however many there ever are. Two that had
// would overwrite each other's batches.
func NewWriter() string {
	return strings.ToLower(rand.Text()[:16])
}

// Held returns how many windows the store remembers slots of, and how many slots.
func (s *Store) Held() (windows, slots int) { return s.slots.held() }

// DeleteExpired implements [windowstore.Store]. It does nothing: the database
// deletes documents whose expire_at has passed by itself.
func (s *Store) DeleteExpired(context.Context, time.Time) (int, error) { return 0, nil }

// Close implements [windowstore.Store]. The store has no resources of its own.
func (s *Store) Close() error { return nil }

// wrap says which action on which pipeline err comes from.
func (s *Store) wrap(action string, err error) error {
	return fmt.Errorf("%s counters of pipeline %q: %w", action, s.config.Pipeline, err)
}

// maxJoined is how many errors of one call are spelled out. When the database is
// away there may be thousands, all alike.
const maxJoined = 5

// join joins errs, none of which is nil. It returns nil where there are none.
func join(errs []error) error {
	if more := len(errs) - maxJoined; more > 0 {
		errs = append(errs[:maxJoined:maxJoined], fmt.Errorf("and %d more errors", more))
	}
	return errors.Join(errs...)
}

func formatWindow(start time.Time) string { return start.UTC().Format(time.RFC3339) }
