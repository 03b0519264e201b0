package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"time"
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
