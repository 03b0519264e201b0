package replay

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/internal/console"
	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
)

func TestLatencyIsByNearestRank(t *testing.T) {
	t.Parallel()
	tally := newTally()
	for i := range 1000 { // 1 to 1000 ms in mixed order
		d := time.Duration((i*7)%1000+1) * time.Millisecond
		if d == time.Second {
			d += 4321 * time.Nanosecond
		}
		tally.acknowledged(delivery.Attempt{Status: 200, Latency: d})
	}
	want := Latency{P50: 500 * time.Millisecond, P90: 900 * time.Millisecond, P99: 990 * time.Millisecond, Max: time.Second + 4321*time.Nanosecond}
	if diff := cmp.Diff(want, tally.summary(time.Second).Latency); diff != "" {
		t.Errorf("latency (-want +got):\n%s", diff)
	}
	one := newTally()
	one.acknowledged(delivery.Attempt{Latency: 123456})
	if got, want := one.summary(0).Latency, (Latency{123000, 123000, 123000, 123456}); got != want {
		t.Errorf("latency of one attempt is %+v, want %+v", got, want)
	}
	if got := newTally().summary(0).Latency; got != (Latency{}) {
		t.Errorf("latency without any attempt is %+v", got)
	}
}

// The percentiles of a long replay need no more memory than those of a short one.
func TestLatenciesStaySmall(t *testing.T) {
	t.Parallel()
	tally := newTally()
	for i := range 200_000 {
		tally.acknowledged(delivery.Attempt{Latency: time.Duration(i) * 7919 * time.Microsecond / 13})
	}
	if n := len(tally.lat.count); n > 10_000 {
		t.Errorf("%d keys for 200000 latencies", n)
	}
}

func TestVerdictsAreReadFromAnswers(t *testing.T) {
	t.Parallel()
	tally := newTally()
	for _, body := range []string{
		`{"status": "counted", "event_id": "1"}`, `{"status": "counted"}`, `{"status": "late"}`,
		`{"status": "dead_letter", "reason": "bad_json", "error": "x"}`,
		"", "ok", "[]", `{"status": 1, "reason": "no"}`, // texts that are no verdicts, as another server may return
	} {
		tally.acknowledged(delivery.Attempt{Status: 200, Body: []byte(body)})
	}
	s := tally.summary(time.Second)
	if diff := cmp.Diff(map[string]int{"counted": 2, "late": 1, "dead_letter": 1}, s.ByVerdict); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"bad_json": 1}, s.ByReason); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

func TestSummaryPrint(t *testing.T) {
	t.Parallel()
	s := Summary{
		Lines: 8377, Deliveries: 8412, Acknowledged: 8370, NotAcknowledged: 7, Elapsed: 12345678 * time.Microsecond,
		Latency:      Latency{P50: 1234567, P90: 3456789, P99: 9 * time.Millisecond, Max: 1234 * time.Millisecond},
		ByHTTPStatus: map[int]int{200: 8370, 503: 30, 0: 5, 400: 7},
		ByVerdict:    map[string]int{"late": 139, "counted": 8205, "dead_letter": 26},
		ByReason:     map[string]int{"wrong_type": 5, "bad_json": 21},
	}
	want := `lines             8377
deliveries        8412
acknowledged      8370
not acknowledged  7
elapsed           12.3s
throughput        678.0 lines/s
latency           p50 1.23ms, p90 3.46ms, p99 9ms, max 1.23s
answers           5 without answer, 8370 200 OK, 7 400 Bad Request, 30 503 Service Unavailable
verdicts          8205 counted, 26 dead_letter, 139 late (of lines; a message on several lines is counted once)
dead letters      21 bad_json, 5 wrong_type
`
	var b bytes.Buffer
	if err := s.Print(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	b.Reset()
	if err := (Summary{}).Print(&b); err != nil || strings.Contains(b.String(), "NaN") || strings.Count(b.String(), "\n") != 6 {
		t.Errorf("empty summary is %v\n%s", err, &b)
	}
}

// A warning is never on the progress line, and the progress line is erased at the end.
func TestProgressLineMakesWayForWarnings(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	clock := now
	p := progress{start: now, size: 1000}
	c := console.New(&b, func() time.Time { return clock }, p.line)
	done := func(consumed int64) { c.Update(func() { p.done(consumed) }) }
	c.Printf("before")
	clock = clock.Add(2 * time.Second)
	done(400)
	done(410) // too soon after the last time: the line is not drawn again
	c.GivenUp("line 2", "why")
	clock = clock.Add(time.Second)
	done(1000)
	c.Close()
	c.Printf("after the end")
	const clear = "\r\x1b[K"
	half := "[" + strings.Repeat("=", 12) + strings.Repeat(" ", 18) + "]  "
	want := "before\n" +
		clear + half + "40 %  1 lines, 0/s" +
		clear + "line 2, given up: why\n" + half + "41 %  2 lines, 1/s" +
		clear + "[" + strings.Repeat("=", 30) + "] 100 %  3 lines, 1/s" +
		clear
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestWithoutProgressNothingIsDrawn(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	var log bytes.Buffer
	o := options(s.URL, strings.Repeat(bare+"\n", 10))
	o.Log = &log
	replay(t, o)
	if log.Len() > 0 {
		t.Errorf("log is %q, want nothing", &log)
	}
}
