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

// Config is what [New] needs. All fields are required except the limits at the end.
type Config struct {
	Documents Documents // of the pipeline
	Pipeline  string
	Meaning   windowstore.Meaning
	// Writer is the beginning of the name of every document that the store creates. No
	// two stores may ever have the same Writer: see [NewWriter].
	Writer string
	// Now is the process's clock. The store uses Now only to pace writes; the times of
	// shards come from the database's clock.
	Now func() time.Time
	// MaxKeys is how many ids Count reads at most. An id that is in several shards
	// counts several times. If MaxKeys is 0, the limit is 20 million.
	MaxKeys int
	// MaxCommitWrites is how many documents one commit writes at most. PageSize is how
	// many documents one query for pending shards returns at most. If they are 0, the
	// limits are 500 and 300.
	MaxCommitWrites, PageSize int
}

// Store is a [windowstore.Store] on [Documents], for any number of processes. Window
// starts are whole seconds. The store runs no goroutines. Given the same calls in the
// same order, it makes the same calls to Documents.
type Store struct {
	config Config
	slots  *slots
	large  chan struct{} // held by the one count that may hold many ids
	// registered is set when the pipeline is known to be on record with this store's
	// meaning. The recorded meaning never changes.
	registered atomic.Bool
}

var _ windowstore.Store = (*Store)(nil)

// New returns a store and calls no service. The first Add records the pipeline's
// meaning, or compares the meaning with the record.
func New(config Config) *Store {
	config.MaxKeys = cmp.Or(config.MaxKeys, defaultMaxKeys)
	config.MaxCommitWrites = cmp.Or(config.MaxCommitWrites, maxCommitWrites)
	config.PageSize = cmp.Or(config.PageSize, pageSize)
	return &Store{config: config, slots: newSlots(config.Writer, config.Now), large: make(chan struct{}, 1)}
}

// NewWriter returns a random name for [Config.Writer]. The name has 16 characters, 80
// bits, so that no two processes ever have the same name. Two stores with the same
// name would overwrite each other's batches.
func NewWriter() string {
	return strings.ToLower(rand.Text()[:16])
}

// Held returns for how many windows the store remembers slots, and how many slots it
// remembers.
func (s *Store) Held() (windows, slots int) { return s.slots.held() }

// DeleteExpired implements [windowstore.Store]. It does nothing: the database itself
// deletes documents after their expire_at.
func (s *Store) DeleteExpired(context.Context, time.Time) (int, error) { return 0, nil }

// Close implements [windowstore.Store]. The store has no resources of its own.
func (s *Store) Close() error { return nil }

// wrap adds the action and the pipeline to err.
func (s *Store) wrap(action string, err error) error {
	return fmt.Errorf("%s counters of pipeline %q: %w", action, s.config.Pipeline, err)
}

// maxJoined is how many errors of one call are listed. If the database cannot be
// reached, there may be thousands of similar errors.
const maxJoined = 5

// join joins errs, none of which is nil. If there are no errors, it returns nil.
func join(errs []error) error {
	if more := len(errs) - maxJoined; more > 0 {
		errs = append(errs[:maxJoined:maxJoined], fmt.Errorf("and %d more errors", more))
	}
	return errors.Join(errs...)
}

func formatWindow(start time.Time) string { return start.UTC().Format(time.RFC3339) }
