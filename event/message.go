package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

// A Message is what Pub/Sub delivers: bytes, attributes and the two facts the
// server gave it when it accepted it, which are the same on every delivery.
type Message struct {
	// ID is unique within the topic. It is never empty: see [DerivedID].
	ID string
	// PublishTime is when Pub/Sub accepted the message, in UTC, cut down to the
	// microsecond.
	PublishTime time.Time
	// PublishTimeSource says where PublishTime comes from.
	PublishTimeSource PublishTimeSource
	// Subscription is the full name of the subscription that delivered the
	// message; empty where the delivery did not say.
	Subscription string
	// Ambiguous says of which of the above the delivery had two values, so that none
	// of them is known; empty for nearly every message.
	Ambiguous  string
	Attributes map[string]string
	Data       []byte
}

// The most that a message has: of attributes as Pub/Sub says, of ids and names of
// subscriptions more than it makes.
const (
	MaxAttributes     = 100
	maxID             = 255  // bytes
	maxSubscription   = 1024 // bytes
	maxAttributeName  = 256  // bytes
	maxAttributeValue = 1024 // bytes
)

// CheckLimits returns an error for a message that Pub/Sub cannot have delivered. Stored
// as a dead letter it could be too large for the table, which then refuses it for ever.
func (m Message) CheckLimits() error {
	if n := len(m.ID); n > maxID {
		return fmt.Errorf("message id has %d bytes, want at most %d", n, maxID)
	}
	if n := len(m.Subscription); n > maxSubscription {
		return fmt.Errorf("subscription has %d bytes, want at most %d", n, maxSubscription)
	}
	if n := len(m.Attributes); n > MaxAttributes {
		return fmt.Errorf("there are %d attributes, want at most %d, as Pub/Sub has them", n, MaxAttributes)
	}
	for name, value := range m.Attributes {
		if n := len(name); n > maxAttributeName {
			return fmt.Errorf("the name of attribute %s has %d bytes, want at most %d", strictjson.Quote(name), n, maxAttributeName)
		}
		if n := len(value); n > maxAttributeValue {
			return fmt.Errorf("attribute %s has %d bytes, want at most %d", strictjson.Quote(name), n, maxAttributeValue)
		}
	}
	return nil
}

// PublishTimeSource says where a message's publish time comes from.
type PublishTimeSource string

const (
	// FromMessage is a publish time that the delivery carried.
	FromMessage PublishTimeSource = "message"
	// FromReceipt is the time of receipt, which stands in where the delivery
	// carried none, as when a person posts an event by hand. It differs from
	// one delivery to the next.
	FromReceipt PublishTimeSource = "received"
)

// DerivedID returns an id for a message that came without one: a digest of its
// data and attributes, so that the same message posted twice is one event.
func DerivedID(data []byte, attributes map[string]string) string {
	h := sha256.New()
	// Each part is preceded by its length, so that no two messages run together
	// to the same bytes.
	write := func(part []byte) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write(part)
	}
	write(data)
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		write([]byte(name))
		write([]byte(attributes[name]))
	}
	return "sha256-" + hex.EncodeToString(h.Sum(nil)[:16])
}
