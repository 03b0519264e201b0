package sqlitecounters

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// BenchmarkAdd measures one durable Add of new keys, with different numbers of windows
// and of keys per window.
func BenchmarkAdd(b *testing.B) {
	for _, size := range []struct{ keys, windows int }{{1, 1}, {64, 1}, {1024, 1}, {64, 10}} {
		b.Run(fmt.Sprintf("keys=%d/windows=%d", size.keys, size.windows), func(b *testing.B) {
			s := openAt(b, filepath.Join(b.TempDir(), "counters.db"))
			b.ReportAllocs()
			next := 0
			for b.Loop() {
				var batch []windowstore.Increment
				for w := range size.windows {
					// After some thousands of keys in one window, the next window is
					// used.
					batch = append(batch, increment(int64(next/5000*600+w*60), next, next+size.keys)...)
				}
				next += size.keys
				if err := s.Add(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCount counts windows with different numbers of keys.
func BenchmarkCount(b *testing.B) {
	for _, keys := range []int{10, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s := openAt(b, filepath.Join(b.TempDir(), "counters.db"))
			if err := s.Add(b.Context(), increment(0, 0, keys)); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if n, err := s.Count(b.Context(), time.Unix(0, 0)); n != int64(keys) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// BenchmarkDeleteExpired deletes a window, with different numbers of keys. The time in
// which the window is added before is not measured.
func BenchmarkDeleteExpired(b *testing.B) {
	for _, keys := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s := openAt(b, filepath.Join(b.TempDir(), "counters.db"))
			batch := increment(0, 0, keys)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				if err := s.Add(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				for w := range s.Pending(b.Context(), time.Time{}, time.Unix(0, 0)) {
					if err := s.Settle(b.Context(), w.Shards, time.Unix(0, 0)); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				if n, err := s.DeleteExpired(b.Context(), time.Unix(0, 0)); n != 1 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
