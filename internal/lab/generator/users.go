package generator

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"github.com/tidemark-dev/tidemark/event"
)

// An identity has the values about the user that are the same in all events of the user.
type identity struct {
	ip        string
	userID    string // decimal text of a signed 64-bit integer
	lat, lng  float64
	userAgent string
}

// A user is an independent source of events.
type user struct {
	identity identity
	random   *rand.Rand
	page     *page
	offline  bool
	// held has the messages that are created but not published, oldest first. They have no
	// id and no publish time yet.
	held []event.Message
	// publishing reports that the user's next action is to publish held. If it is false, the
	// next action is to create an event.
	publishing bool
}

// newUser returns user number n of a seed, on the page root. The user does not depend on the
// number of users.
func newUser(seed uint64, n int, root *page) *user {
	return &user{
		identity: newIdentity(newRandom("identity", seed, uint64(n))),
		random:   newRandom("events", seed, uint64(n)),
		page:     root,
	}
}

// upTo returns a random duration of at least zero and less than d.
func (u *user) upTo(d time.Duration) time.Duration { return time.Duration(u.random.Int64N(int64(d))) }

// newRandom returns a source of random numbers for one purpose (at most 16 bytes). It is
// independent of the sources for other purposes, so drawing numbers for one purpose does not
// change the numbers for another.
func newRandom(purpose string, seed, n uint64) *rand.Rand {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[0:], seed)
	binary.LittleEndian.PutUint64(key[8:], n)
	copy(key[16:], purpose)
	return rand.New(rand.NewChaCha8(key))
}

func newIdentity(random *rand.Rand) identity {
	id := identity{
		ip:        newAddress(random),
		userID:    strconv.FormatInt(int64(random.Uint64()), 10),
		userAgent: newUserAgent(random),
	}
	id.lat, id.lng = newPlace(random)
	return id
}

// newAddress returns an IPv4 address that a public server could see.
func newAddress(random *rand.Rand) string {
	for {
		var bytes [4]byte
		binary.BigEndian.PutUint32(bytes[:], random.Uint32())
		address := netip.AddrFrom4(bytes)
		if address.IsGlobalUnicast() && !address.IsPrivate() && bytes[0] != 0 && bytes[0] < 224 {
			return address.String()
		}
	}
}

// newPlace returns coordinates in degrees, to four decimals, near a large city, so that a map
// shows the users on land.
func newPlace(random *rand.Rand) (lat, lng float64) {
	cities := [...][2]int64{ // hundredths of a degree
		{5152, -13}, {4886, 235}, {5252, 1340}, {4042, -370}, {5933, 1807}, {4101, 2898},
		{4071, -7401}, {4188, -8763}, {3405, -11824}, {4570, -7350}, {1943, -9913}, {-2355, -4663}, {-3460, -5838},
		{3569, 13969}, {3757, 12698}, {1908, 7288}, {2861, 7721}, {1375, 10050}, {135, 10382}, {-3387, 15121},
		{3004, 3124}, {652, 338}, {-129, 3682}, {-2620, 2805},
	}
	city := cities[random.IntN(len(cities))]
	// Whole ten-thousandths ensure at most four decimals, and no -0.0.
	const spread = 2000
	near := func(hundredths int64) float64 { return float64(hundredths*100+random.Int64N(2*spread)-spread) / 10_000 }
	return near(city[0]), near(city[1])
}

// newUserAgent returns the user agent of a browser or another client. One kind has a name
// that is not ASCII.
func newUserAgent(random *rand.Rand) string {
	kinds := [...]struct {
		format  string
		version int // the lowest value of %[1]d
	}{
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%[1]d.0.0.0 Safari/537.36", 120},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%[1]d.0.0.0 Safari/537.36", 120},
		{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%[1]d.0.0.0 Mobile Safari/537.36", 120},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/%[1]d.1 Safari/605.1.15", 15},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS %[1]d_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/%[1]d.4 Mobile/15E148 Safari/604.1", 15},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:%[1]d.0) Gecko/20100101 Firefox/%[1]d.0", 115},
		{"Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:%[1]d.0) Gecko/20100101 Firefox/%[1]d.0", 115},
		{"Opera/9.80 (X11; Linux i686; U; pt-BR) Presto/2.%[1]d.181 Version/12.00", 8},
		{"curl/8.%[1]d.0", 1},
		{"Café-Lecteur/%[1]d.2 (+https://example.org/lecteur)", 1},
	}
	kind := kinds[random.IntN(len(kinds))]
	return fmt.Sprintf(kind.format, kind.version+random.IntN(8))
}
