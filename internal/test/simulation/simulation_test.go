package simulation

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds    = flag.Int("seeds", 100, "how many new seeds to run")
	oneSeed  = flag.Uint64("seed", 0, "run this seed only, and print what happened")
	maxSeeds = flag.Int("bug-seeds", 200, "how many seeds a planted bug may need to be caught")
)

// simulate runs a seed in a bubble of its own.
func simulate(t *testing.T, seed uint64, bug *Bug) (result Result) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { result = Run(seed, bug) })
	return result
}

// TestSeeds runs random seeds, other ones each time. With the flag -seed it repeats the run
// of that one seed.
func TestSeeds(t *testing.T) {
	if *oneSeed != 0 {
		result := simulate(t, *oneSeed, nil)
		t.Log(strings.Join(result.Trace, "\n"))
		report(t, result)
		return
	}
	first := rand.Uint64() >> 16
	workers := runtime.GOMAXPROCS(0)
	totals := make([]Totals, workers)
	t.Run("workers", func(t *testing.T) {
		for worker := range workers {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for i := worker; i < *seeds && !t.Failed(); i += workers {
					result := simulate(t, first+uint64(i), nil)
					report(t, result)
					totals[worker].Add(result)
				}
			})
		}
	})
	var all Totals
	for _, one := range totals {
		all.Merge(one)
	}
	t.Logf("from seed %d: %s", first, all)
}

// report fails the test if the run broke a promise, and says how to repeat the run.
func report(t *testing.T, r Result) {
	t.Helper()
	if len(r.Violations) == 0 {
		return
	}
	const lines = 60
	trace := r.Trace
	omitted := ""
	if len(trace) > lines && *oneSeed == 0 {
		omitted = fmt.Sprintf("... %d lines before these\n", len(trace)-lines)
		trace = trace[len(trace)-lines:]
	}
	t.Errorf("seed %d:\n%s\n\n%s%s\n\nAll of it again: go test ./internal/test/simulation -run TestSeeds -seed %d -v",
		r.Seed, strings.Join(r.Violations, "\n"), omitted, strings.Join(trace, "\n"), r.Seed)
}

func TestTwoRunsOfOneSeedAreIdentical(t *testing.T) {
	first := rand.Uint64() >> 16
	for i := range uint64(10) {
		a, b := simulate(t, first+i, nil), simulate(t, first+i, nil)
		if a.Digest == b.Digest {
			continue
		}
		for n := range min(len(a.Trace), len(b.Trace)) {
			if a.Trace[n] != b.Trace[n] {
				t.Fatalf("seed %d differs at line %d:\n%s\n%s", first+i, n, a.Trace[n], b.Trace[n])
			}
		}
		t.Fatalf("seed %d: one trace is longer", first+i)
	}
}

func TestEveryPlantedBugIsCaught(t *testing.T) {
	for _, bug := range Bugs {
		t.Run(bug.Name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= uint64(*maxSeeds); seed++ {
				if r := simulate(t, seed, &bug); len(r.Violations) > 0 {
					t.Logf("caught by seed %d: %s", seed, r.Violations[0])
					return
				}
			}
			t.Errorf("not caught by %d seeds", *maxSeeds)
		})
	}
}

// Totals are sums over runs.
type Totals struct {
	Runs, Events, Messages, Deliveries int
	Simulated                          time.Duration
	Faults                             map[string]int
}

// Add adds a run to the totals.
func (t *Totals) Add(r Result) {
	t.Merge(Totals{1, r.Events, r.Messages, r.Deliveries, r.Simulated, r.Faults})
}

// Merge adds other totals to these.
func (t *Totals) Merge(other Totals) {
	if t.Faults == nil {
		t.Faults = map[string]int{}
	}
	t.Runs += other.Runs
	t.Events += other.Events
	t.Messages += other.Messages
	t.Deliveries += other.Deliveries
	t.Simulated += other.Simulated
	for fault, n := range other.Faults {
		t.Faults[fault] += n
	}
}

func (t Totals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs, %.0f simulated hours, %d events, %d messages, %d deliveries", t.Runs, t.Simulated.Hours(), t.Events, t.Messages, t.Deliveries)
	for _, fault := range slices.Sorted(maps.Keys(t.Faults)) {
		fmt.Fprintf(&b, "\n  %6d  %s", t.Faults[fault], fault)
	}
	return b.String()
}
