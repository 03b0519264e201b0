package sharded_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/internal/test/memdocs"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// BenchmarkCount counts a window that has the given number of ids in 2,000 documents.
// peak-MB is how much the heap grows during a count. This includes documents that were
// read and are garbage already.
func BenchmarkCount(b *testing.B) {
	for _, ids := range []int{2_000, 6_000_000} {
		b.Run(fmt.Sprintf("ids=%d", ids), func(b *testing.B) {
			const documents = 2000
			docs := memdocs.New(time.Now).Pipeline("p")
			random := rand.New(rand.NewPCG(1, 2))
			for n := range documents {
				batch := []byte{1}
				for range ids / documents {
					batch = binary.BigEndian.AppendUint64(batch, random.Uint64())
					batch = binary.BigEndian.AppendUint64(batch, random.Uint64())
				}
				err := docs.Merge(b.Context(), []sharded.ShardWrite{{Name: fmt.Sprint(n), Window: minute(1), Key: "0", Batch: batch}})
				if err != nil {
					b.Fatal(err)
				}
			}
			store := sharded.New(sharded.Config{Documents: docs, Pipeline: "p", Meaning: meaning("p"), Writer: "w", Now: time.Now})
			b.ReportAllocs()
			var peak uint64
			for b.Loop() {
				runtime.GC()
				before := heap()
				sampled := sample()
				n, err := store.Count(b.Context(), minute(1))
				peak = max(peak, sampled()-before)
				if err != nil || n != int64(ids) {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(peak)/1e6, "peak-MB")
		})
	}
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// sample watches the heap. The function that it returns ends this, and returns the
// greatest size of the heap, garbage included.
func sample() func() uint64 {
	done, result := make(chan struct{}), make(chan uint64)
	go func() {
		peak := heap()
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				peak = max(peak, heap())
			case <-done:
				result <- max(peak, heap())
				return
			}
		}
	}()
	return func() uint64 {
		close(done)
		return <-result
	}
}

// BenchmarkAdd adds a thousand ids of one window, as a full batch of the service does.
func BenchmarkAdd(b *testing.B) {
	now := time.Now()
	db := memdocs.New(time.Now)
	store := sharded.New(sharded.Config{
		Documents: db.Pipeline("p"), Pipeline: "p", Meaning: meaning("p"), Writer: "w",
		Now: func() time.Time { return now },
	})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		now = now.Add(200 * time.Millisecond)
		increments := []windowstore.Increment{{Window: minute(n / 300), Keys: keys(1000*n, 1000*n+1000)}}
		if err := store.Add(b.Context(), increments); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
