package service_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/envelope"
	"github.com/tidemark-dev/tidemark/internal/test/emulator"
	"github.com/tidemark-dev/tidemark/internal/test/testlog"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/windowstore"
)

// startOn starts a service that takes all counts from the counters, however old the
// windows are.
func startOn(t *testing.T, dir string, settings map[string]string) harness {
	t.Helper()
	all := map[string]string{"counter-retention": "400000h", "commit-interval": "0s"}
	for name, value := range settings {
		all[name] = value
	}
	return newService(t, dir, all)
}

// archive opens the tables of a data directory, which others may have open at the same
// time.
func archive(t *testing.T, dir string, flags map[string]string) (warehouse.Archive, settings.Settings) {
	t.Helper()
	all := map[string]string{"data-dir": dir}
	maps.Copy(all, flags)
	s, err := settings.Load(all, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	tables, err := service.OpenWarehouse(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tables.Close(); err != nil {
			t.Error(err)
		}
	})
	return tables, s
}

// redrive pushes again the message of every stored row or dead letter.
func redrive[T any](t *testing.T, s harness, stored iter.Seq2[T, error], message func(T) (event.Message, error)) {
	t.Helper()
	var bodies [][]byte
	for value, err := range stored {
		if err != nil {
			t.Fatal(err)
		}
		m, err := message(value)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, envelope.Encode(m))
	}
	s.pushAll(t, bodies, 16)
}

func letterMessage(l warehouse.DeadLetter) (event.Message, error) { return l.Message, nil }

// everything returns what a user can see: every window, event and dead letter.
func (s harness) everything(t *testing.T) map[string]map[string]int64 {
	t.Helper()
	return map[string]map[string]int64{
		"windows":      s.query(t, "SELECT timestamp, page_views FROM windowed_traffic"),
		"events":       s.query(t, "SELECT window_start || ' ' || event_id, is_late FROM events"),
		"dead letters": s.query(t, "SELECT message_id || ' ' || reason, length(data) FROM dead_letters WHERE data IS NOT NULL"),
	}
}

func TestDeadLettersAreCountedOnceAfterTheFix(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var bodies [][]byte
	published := time.Date(2026, time.March, 14, 9, 26, 53, 0, time.UTC)
	for i, data := range []string{"2026-03-14T09:36:00Z", "2026-03-14T09:36:59.999999Z", "2026-03-14T09:37:00Z", "2026-03-14T11:00:00Z", "never"} {
		bodies = append(bodies, envelope.Encode(event.Message{
			ID: string(rune('a' + i)), PublishTime: published, Attributes: map[string]string{"name": "value"},
			Data: []byte(`{"ip": "", "user_id": "", "timestamp": "` + data + `", "http_request": "", "http_response": 0, "num_bytes": 0, "user_agent": ""}`),
		}))
	}
	before := startOn(t, dir, nil)
	before.pushAll(t, append(bodies, bodies...), 4)
	if n := before.query(t, "SELECT reason, COUNT(*) FROM dead_letters GROUP BY 1"); n["too_far_ahead"] != 4 || n["bad_time"] != 1 {
		t.Fatalf("dead letters %v", n)
	}

	if err := before.Service.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	after := startOn(t, dir, map[string]string{"max-clock-skew": "1h"})
	tables, _ := archive(t, dir, nil)
	redrive(t, after, tables.DeadLetters(t.Context(), time.Time{}, time.Time{}), letterMessage)
	if report := after.Flush(t.Context()); len(report.Errors) != 0 {
		t.Fatalf("flush: %v", report.Errors)
	}
	want := map[string]int64{"2026-03-14T09:36:00.000000Z": 2, "2026-03-14T09:37:00.000000Z": 1}
	once := after.everything(t)
	if diff := cmp.Diff(want, once["windows"]); diff != "" {
		t.Errorf("windows (-want +got):\n%s", diff)
	}
	if n := len(once["dead letters"]); n != 5 {
		t.Errorf("%d dead letters, want the 5 from before", n)
	}

	redrive(t, after, tables.DeadLetters(t.Context(), time.Time{}, time.Time{}), letterMessage)
	after.Flush(t.Context())
	if diff := cmp.Diff(once, after.everything(t)); diff != "" {
		t.Errorf("after the second time (-once +twice):\n%s", diff)
	}
}

func TestLostCountersAreRestoredFromTheRawRows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	traffic := testlog.Traffic(t)
	before := startOn(t, dir, nil)
	before.pushAll(t, traffic, 16)
	if err := before.Service.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	lost, err := filepath.Glob(filepath.Join(dir, "counters.db*"))
	if err != nil || len(lost) == 0 {
		t.Fatalf("counters %q, %v", lost, err)
	}
	for _, file := range lost {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}

	after := startOn(t, dir, nil)
	if report := after.Flush(t.Context()); len(report.Windows) != 0 {
		t.Fatalf("%d windows without counters", len(report.Windows))
	}
	tables, s := archive(t, dir, nil)
	message := func(r warehouse.RawRow) (event.Message, error) {
		return r.Message(s.PipelineFile.Schema, s.EventID, s.EventTime)
	}
	redrive(t, after, tables.RawRows(t.Context(), time.Time{}, time.Time{}), message)
	after.Flush(t.Context())
	checkTrafficTables(t, after, traffic)
	once := after.everything(t)

	redrive(t, after, tables.RawRows(t.Context(), time.Time{}, time.Time{}), message)
	after.Flush(t.Context())
	if diff := cmp.Diff(once, after.everything(t)); diff != "" {
		t.Errorf("after the second time (-once +twice):\n%s", diff)
	}
}

// A command that only reads must not read a pipeline's rows with other settings than the
// pipeline has on record, wherever the record is kept.
func TestTheTablesAreNotOpenedUnderOtherSettingsThanAreOnRecord(t *testing.T) {
	t.Parallel()
	flags := map[string]string{
		"data-dir": t.TempDir(), "counters": "firestore",
		"google-cloud-project": emulator.Project(), "firestore-emulator-host": emulator.Firestore(t),
	}
	open := func() error {
		settings, err := settings.Load(flags, func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		w, err := service.OpenWarehouse(t.Context(), settings)
		if err == nil {
			err = w.Close()
		}
		return err
	}
	s := newService(t, flags["data-dir"], flags)
	if err := open(); err != nil {
		t.Errorf("before anything is on record: %v", err)
	}
	s.deliverAll(t, testlog.Traffic(t)[:1], 1)
	if err := open(); err != nil {
		t.Errorf("with the settings on record: %v", err)
	}
	flags["event-id"] = "attribute:id"
	var misfit *windowstore.MeaningError
	if err := open(); !errors.As(err, &misfit) {
		t.Errorf("with another EVENT_ID: %v, want a *MeaningError", err)
	}
}
