package settings_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/settings"
)

const orders = `
name: orders
window: 30s
event:
  time: created_at
  id: field:order_id
  fields:
    - {name: order_id, type: STRING, mode: REQUIRED}
    - {name: created_at, type: TIMESTAMP, mode: REQUIRED}
    - {name: note, type: STRING}
aggregate:
  columns:
    - {name: orders, count: true}
`

func TestAPipelineFileDecidesWhatSettingsLeaveOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "orders.yaml")
	if err := os.WriteFile(path, []byte(orders), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"path": path, "text": orders} {
		s, err := settings.Load(nil, env("PIPELINE_FILE", value, "RAW_TABLE", "all_orders"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.Pipeline != "orders" || s.Tables.Raw != "all_orders" || s.Tables.Agg != "orders" || s.Tables.DeadLetter != "orders_dead_letter" ||
			s.WindowDuration != 30*time.Second || s.AllowedLateness != 2*time.Minute || s.EventID.String() != "field:order_id" {
			t.Errorf("%s: pipeline %s, tables %+v, window %v, lateness %v, id %s", name, s.Pipeline, s.Tables, s.WindowDuration, s.AllowedLateness, s.EventID)
		}
		if l := s.Layout(); l.Count != "orders" || len(l.Schema.Fields) != 3 || s.EventTimeMeaning() != "payload:created_at" {
			t.Errorf("%s: layout %+v, event time %s", name, l, s.EventTimeMeaning())
		}
	}
	if s, err := settings.Load(nil, env()); err != nil || s.Tables.Raw != "raw" || s.Layout().Count != "page_views" || s.EventTimeMeaning() != "payload" {
		t.Errorf("without a file: %v, %+v", err, s.Layout())
	}
}

func TestSettingsAgreeWithThePipelineFile(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env  []string
		want string // empty if the settings are good
	}{
		{[]string{"WINDOW_DURATION", "30", "PIPELINE", "orders", "EVENT_ID", "field:order_id", "ALLOWED_LATENESS", "5m"}, ""},
		{[]string{"WINDOW_DURATION", "60s"}, `WINDOW_DURATION="60s": the pipeline file says 30s; leave the setting out, or change the file`},
		{[]string{"PIPELINE", "other"}, `PIPELINE="other": the pipeline file says orders`},
		{[]string{"EVENT_ID", "message"}, `EVENT_ID="message": the pipeline file says field:order_id`},
		{[]string{"PIPELINE_FILE", "missing.yaml"}, "PIPELINE_FILE=\"missing.yaml\": read the pipeline file: no such file or directory"},
		{[]string{"PIPELINE_FILE", strings.Replace(orders, "window: 30s", "windows: 30s", 1)}, `line 3: the file has no key "windows"`},
		{[]string{"PIPELINE_FILE", strings.Replace(orders, "  time: created_at\n", "", 1)}, "EVENT_TIME=payload: the pipeline file names no field with the event time"},
		{[]string{"PIPELINE_FILE", strings.Replace(orders, "  time: created_at\n", "", 1), "EVENT_TIME", "publish"}, ""},
		{[]string{"PIPELINE_FILE", strings.Replace(orders, "  id: field:order_id\n", "", 1), "EVENT_ID", "field:note"}, `EVENT_ID="field:note": the pipeline file says message`},
	} {
		_, err := settings.Load(nil, env(append(test.env, "PIPELINE_FILE", orders)...))
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q: %v", test.env, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: %v, want %s", test.env, err, test.want)
		}
	}
	if _, err := settings.Load(nil, env("EVENT_ID", "field:lat")); err == nil || !strings.Contains(err.Error(), "EVENT_ID=field:lat: must be a field of type STRING or INTEGER") {
		t.Errorf("a field that cannot be an id: %v", err)
	}
}
