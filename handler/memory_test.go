//go:build !race

// Not under the race detector: it makes this test fifty times slower, and finds races
// with smaller pushes too.

package handler_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/handler"
)

// As many of the largest pushes as may be in flight must fit into the memory of an
// instance, 1 GiB, with room to spare, whatever is in them. (Not parallel, since all
// tests share one heap.)
func TestSixteenOfTheWorstPushesAtOnceTakeLessThan600MBOfHeap(t *testing.T) {
	const pushes, limit = 16, 14 << 20
	for _, worst := range []struct {
		name string
		body []byte
		code int
	}{
		{"keys of the message", fmt.Appendf(nil, `{"message":{"messageId":"42",%s}}`, manyKeys(13<<20)), http.StatusOK},
		{"attributes", fmt.Appendf(nil, `{"message":{"messageId":"42","attributes":{%s}}}`, manyKeys(13<<20)), http.StatusBadRequest},
		{"keys of the event", hostilePush(), http.StatusOK},
	} {
		t.Run(worst.name, func(t *testing.T) {
			runtime.GC() // removes what other tests have left in the heap
			f := newFixture(t, func(c *handler.Config) { c.MaxBody, c.MaxInFlightBytes = limit, pushes*limit })
			server := httptest.NewServer(f)
			defer server.Close()
			var decoded sync.WaitGroup // no push is answered before all are decoded
			decoded.Add(pushes)
			f.ingest.hook = func(_ context.Context, m event.Message, v event.Verdict) (event.Verdict, error) {
				decoded.Done()
				decoded.Wait()
				return v, nil
			}
			var answered sync.WaitGroup
			for range pushes {
				answered.Go(func() {
					res, err := http.Post(server.URL+"/push", "", bytes.NewReader(worst.body))
					if err != nil {
						t.Error(err)
						decoded.Done()
						return
					}
					defer res.Body.Close()
					if res.StatusCode != worst.code {
						t.Errorf("a push was answered %d, want %d", res.StatusCode, worst.code)
					}
					if res.StatusCode != http.StatusOK {
						decoded.Done() // a refused push is not submitted, so the hook did not run
					}
				})
			}
			answered.Wait()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			t.Logf("the heap has grown to %d MB", m.HeapSys>>20) // HeapSys never shrinks
			if m.HeapSys > 600<<20 {
				t.Error("want at most 600 MB")
			}
		})
	}
}

// hostilePush returns the push of an event that consists of unknown keys and is 10 MB
// large, which is the most that Pub/Sub allows.
func hostilePush() []byte {
	data := "{" + manyKeys(10_000_000-len(record)-1) + "," + record[1:]
	return fmt.Appendf(nil, `{"message":{"messageId":"42","publishTime":%q,"data":%q}}`, onTime, base64.StdEncoding.EncodeToString([]byte(data)))
}

// manyKeys returns the members of a JSON object, as many as fit into size bytes.
func manyKeys(size int) string {
	members := make([]byte, 0, size)
	for i := 0; len(members) < size-12; i++ {
		members = append(members, `"`...)
		members = strconv.AppendInt(members, int64(i), 36)
		members = append(members, `":"",`...)
	}
	return string(members[:len(members)-1])
}
