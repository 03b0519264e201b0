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

// A Message is what Pub/Sub delivers: data, attributes, and the id and the publish time.
// Pub/Sub sets the last two when it accepts the message, and they are the same on every
// delivery.
type Message struct {
	// ID is unique within the topic. It is never empty: see [DerivedID].
	ID string
	// PublishTime is when Pub/Sub accepted the message, in UTC, cut down to the
	// microsecond.
	PublishTime time.Time
	// PublishTimeSource says where PublishTime comes from.
	PublishTimeSource PublishTimeSource
	// Subscription is the full name of the subscription that delivered the message. It is
	// empty if the delivery did not say.
	Subscription string
	// Ambiguous says which of the fields above had two values in the delivery, so that
	// the field's value is not known. It is empty for nearly every message.
	Ambiguous  string
	Attributes map[string]string
	Data       []byte
}

// Limits of a message. The limits of attributes are those that Pub/Sub documents. The
// limits of ids and subscription names are larger than what Pub/Sub creates.
const (
	MaxAttributes     = 100
	maxID             = 255  // bytes
	maxSubscription   = 1024 // bytes
	maxAttributeName  = 256  // bytes
	maxAttributeValue = 1024 // bytes
)

// CheckLimits returns an error for a message that Pub/Sub cannot have delivered. As a
// dead letter such a message could be too large for the table, and then every attempt to
// store it would fail.
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
	// FromReceipt is the time of receipt. It is used if the delivery carried no publish
	// time, for example when a user posts an event by hand. It differs from one delivery
	// to the next.
	FromReceipt PublishTimeSource = "received"
)

// DerivedID returns an id for a message that came without an id. The id is a digest of
// data and attributes, so that the same message posted twice is one event.
func DerivedID(data []byte, attributes map[string]string) string {
	h := sha256.New()
	// The length of each part is written before it, so that two different messages never
	// give the same bytes.
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
