package replay

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

// A Summary says what a replay did.
type Summary struct {
	Lines           int // lines read, blank lines not counted
	Deliveries      int // attempts; a line may need many
	Acknowledged    int // lines that were acknowledged
	NotAcknowledged int // lines refused for good, too long, or not acknowledged when the replay was stopped
	Elapsed         time.Duration
	Latency         Latency        // of the attempts that were acknowledged
	ByHTTPStatus    map[int]int    // deliveries; status 0 means no answer
	ByVerdict       map[string]int // acknowledged lines by the "status" of the answer: counted, late, dead_letter
	ByReason        map[string]int // dead letters by the "reason" of the answer
}

// Latency is the distribution of the times from the start of a request to the end of its
// answer. The percentiles are accurate to 0.5 %, and Max is exact.
type Latency struct{ P50, P90, P99, Max time.Duration }

// Throughput returns the acknowledged lines per second.
func (s Summary) Throughput() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Acknowledged) / s.Elapsed.Seconds()
}

// Print writes the summary for the user: one fact per line, aligned.
func (s Summary) Print(w io.Writer) error {
	var b bytes.Buffer
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-18s%s\n", name, fmt.Sprintf(format, args...))
	}
	row("lines", "%d", s.Lines)
	row("deliveries", "%d", s.Deliveries)
	row("acknowledged", "%d", s.Acknowledged)
	row("not acknowledged", "%d", s.NotAcknowledged)
	row("elapsed", "%s", brief(s.Elapsed))
	row("throughput", "%.1f lines/s", s.Throughput())
	if s.Acknowledged > 0 {
		row("latency", "p50 %s, p90 %s, p99 %s, max %s",
			brief(s.Latency.P50), brief(s.Latency.P90), brief(s.Latency.P99), brief(s.Latency.Max))
	}
	rows := func(name string, counts []string) {
		if len(counts) > 0 {
			row(name, "%s", strings.Join(counts, ", "))
		}
	}
	rows("answers", counts(s.ByHTTPStatus, statusName))
	asItIs := func(name string) string { return name }
	verdicts := counts(s.ByVerdict, asItIs)
	if s.ByVerdict["counted"] > 0 {
		verdicts[len(verdicts)-1] += " (of lines; a message on several lines is counted once)"
	}
	rows("verdicts", verdicts)
	rows("dead letters", counts(s.ByReason, asItIs))
	_, err := w.Write(b.Bytes())
	return err
}

// counts returns the text "number name" for every key, in the order of the keys.
func counts[K cmp.Ordered](m map[K]int, name func(K) string) []string {
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		texts = append(texts, fmt.Sprintf("%d %s", m[key], name(key)))
	}
	return texts
}

func statusName(status int) string {
	if status == 0 {
		return "without answer"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// brief returns a duration with three digits; more digits are not useful.
func brief(d time.Duration) string {
	if d >= time.Minute {
		return durations.Text(d.Round(time.Second))
	}
	return roundTo3Digits(d).String()
}

// A tally collects a Summary from many goroutines.
type tally struct {
	mu  sync.Mutex
	s   Summary
	lat latencies
}

func newTally() *tally {
	return &tally{
		s:   Summary{ByHTTPStatus: map[int]int{}, ByVerdict: map[string]int{}, ByReason: map[string]int{}},
		lat: latencies{count: map[time.Duration]int{}},
	}
}

func (t *tally) line() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Lines++
}

// unfinished reports whether any line was not acknowledged.
func (t *tally) unfinished() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.s.Acknowledged < t.s.Lines
}

func (t *tally) attempt(a delivery.Attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Deliveries++
	t.s.ByHTTPStatus[a.Status]++
}

// acknowledged counts a line, by the attempt that the server acknowledged.
func (t *tally) acknowledged(a delivery.Attempt) {
	var verdict struct{ Status, Reason string }
	// A server other than Tidemark may return something that is not a verdict.
	if json.Unmarshal(a.Body, &verdict) != nil {
		verdict.Status, verdict.Reason = "", ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Acknowledged++
	t.lat.add(a.Latency)
	if verdict.Status != "" {
		t.s.ByVerdict[verdict.Status]++
	}
	if verdict.Reason != "" {
		t.s.ByReason[verdict.Reason]++
	}
}

func (t *tally) summary(elapsed time.Duration) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.s
	s.NotAcknowledged = s.Lines - s.Acknowledged
	s.Elapsed = elapsed
	s.Latency = t.lat.distribution()
	return s
}

// latencies counts durations by their first three digits. So it stays small even in a long
// replay: it has at most a few thousand keys.
type latencies struct {
	count map[time.Duration]int
	n     int
	max   time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.count[roundTo3Digits(d)]++
	l.n++
	l.max = max(l.max, d)
}

func (l *latencies) distribution() Latency {
	keys := slices.Sorted(maps.Keys(l.count))
	// at returns the smallest duration that at least percent of all durations do not exceed.
	at := func(percent int) time.Duration {
		need := (l.n*percent + 99) / 100
		for _, d := range keys {
			if need -= l.count[d]; need <= 0 {
				return min(d, l.max)
			}
		}
		return 0
	}
	return Latency{P50: at(50), P90: at(90), P99: at(99), Max: l.max}
}

func roundTo3Digits(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for range len(strconv.FormatInt(int64(d), 10)) - 3 {
		unit *= 10
	}
	return d.Round(unit)
}
