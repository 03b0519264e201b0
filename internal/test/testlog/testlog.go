// Package testlog reads the logs in testdata for tests: real web traffic as push bodies,
// with the right counts, and edge cases with their verdicts.
package testlog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/tidemark-dev/tidemark/event"
)

// These are the right totals of the traffic log under the default settings, counted by
// distinct message ids.
const (
	Deliveries  = 8377 // counts redeliveries too
	Messages    = 8248
	Counted     = 8083
	Late        = 139
	DeadLetters = 26
)

// Reasons are the right numbers of dead letters in the traffic log, by reason.
var Reasons = map[event.Reason]int{
	event.BadJSON: 6, event.NotAnObject: 6, event.MissingField: 3, event.WrongType: 5,
	event.BadTime: 2, event.BadUTF8: 2, event.Empty: 2,
}

// path returns the path of a file in testdata. It does not depend on the directory in
// which the test runs.
func path(name string) string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "..", "testdata", name)
}

// TrafficPath returns the path of the compressed traffic log.
func TrafficPath() string { return path("nasa-1995-08-01-a.push.jsonl.gz") }

// Traffic returns the push bodies of the traffic log, in the order of delivery.
func Traffic(tb testing.TB) [][]byte {
	tb.Helper()
	file, err := os.Open(TrafficPath())
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		tb.Fatal(err)
	}
	var lines [][]byte
	for scanner := bufio.NewScanner(unzipped); scanner.Scan(); {
		lines = append(lines, bytes.Clone(scanner.Bytes()))
	}
	return lines
}

// TrafficWindows returns the right page views of each window of the traffic log under the
// default settings. A window's key is its start as event.FormatTime writes it.
func TrafficWindows(tb testing.TB) map[string]int64 {
	tb.Helper()
	file, err := os.Open(path("nasa-1995-08-01-a.windows.csv"))
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	windows := map[string]int64{}
	for _, record := range records[1:] {
		start, err := event.ParseTime(record[0])
		if err != nil {
			tb.Fatal(err)
		}
		if windows[event.FormatTime(start)], err = strconv.ParseInt(record[1], 10, 64); err != nil {
			tb.Fatal(err)
		}
	}
	return windows
}

// An EdgeCase is a push body and the verdict it must get under the default
// settings.
type EdgeCase struct {
	Body        []byte       `json:"-"`
	MessageID   string       `json:"message_id"`
	Why         string       `json:"why"`
	Status      event.Status `json:"status"`
	WindowStart string       `json:"window_start"` // empty for a dead letter
	Reason      event.Reason `json:"reason"`
}

// EdgeCases returns all edge cases.
func EdgeCases(tb testing.TB) []EdgeCase {
	tb.Helper()
	verdicts, err := os.ReadFile(path("edge.verdicts.json"))
	if err != nil {
		tb.Fatal(err)
	}
	var cases []EdgeCase
	if err := json.Unmarshal(verdicts, &cases); err != nil {
		tb.Fatal(err)
	}
	bodies, err := os.ReadFile(path("edge.push.jsonl"))
	if err != nil {
		tb.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(bodies), []byte("\n"))
	if len(lines) != len(cases) {
		tb.Fatalf("there are %d edge cases and %d verdicts", len(lines), len(cases))
	}
	for i := range cases {
		cases[i].Body = lines[i]
	}
	return cases
}
