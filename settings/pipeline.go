package settings

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/pipeline"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// readPipelineFile reads the setting PIPELINE_FILE: a path, or the text of a file if the
// value has a line break.
func (s *Settings) readPipelineFile(value string) error {
	if value == "" {
		return nil // the built-in one
	}
	text := []byte(value)
	if !strings.Contains(value, "\n") {
		var err error
		if text, err = os.ReadFile(value); err != nil {
			return fmt.Errorf("read the pipeline file: %w", errors.Unwrap(err))
		}
	}
	file, err := pipeline.Parse(text)
	if err != nil {
		return fmt.Errorf("the pipeline file is wrong:\n%w", err)
	}
	s.PipelineFile = file
	return nil
}

// ofFile returns what the pipeline file says of a setting, or nothing. The built-in file
// leaves all settings as they are.
func (s *Settings) ofFile(name string) string {
	f := s.PipelineFile
	if f.Name == "" {
		return ""
	}
	return map[string]string{
		"PIPELINE":          f.Name,
		"RAW_TABLE":         f.Name + "_raw",
		"AGG_TABLE":         f.Name,
		"DEAD_LETTER_TABLE": f.Name + "_dead_letter",
		"WINDOW_DURATION":   f.Window,
		"ALLOWED_LATENESS":  f.Lateness,
		"EVENT_ID":          f.ID,
	}[name]
}

// mayDiffer reports whether a setting may differ from what the pipeline file says.
func (s *Settings) mayDiffer(name string) bool { return strings.HasSuffix(name, "_TABLE") }

// same reports whether two texts are the same value of a setting.
func same(a, b string) bool {
	x, errX := durations.Parse(a)
	y, errY := durations.Parse(b)
	return a == b || errX == nil && errY == nil && x == y
}

// checkSources checks that the pipeline file has the fields which EVENT_TIME and EVENT_ID
// mean.
func (s *Settings) checkSources() (problems []error) {
	if s.EventTime.String() == "payload" && s.PipelineFile.Schema.Time == "" {
		problems = append(problems, errors.New("EVENT_TIME=payload: the pipeline file names no field with the event time; write event: time: and a field's name into the file, or set EVENT_TIME to publish or attribute:NAME"))
	}
	if name := s.EventID.Field(); name != "" {
		if problem := s.PipelineFile.CheckIDField(name); problem != "" {
			problems = append(problems, fmt.Errorf("EVENT_ID=%s: %s", s.EventID, problem))
		}
	}
	return problems
}

// Layout returns the names and the columns of the pipeline's tables.
func (s Settings) Layout() warehouse.Layout {
	f := s.PipelineFile
	return warehouse.Layout{Names: s.Tables, Schema: f.Schema, ProcessingAt: f.ProcessingAt, Count: f.Count}
}

// EventTimeMeaning returns where the event time is, as it is recorded with the pipeline:
// EVENT_TIME, and the field if the payload has the time. A record of "payload" alone
// means the field of the built-in file.
func (s Settings) EventTimeMeaning() string {
	source, field := s.EventTime.String(), s.PipelineFile.Schema.Time
	if source == "payload" && field != pipeline.LabFile().Schema.Time {
		return source + ":" + field
	}
	return source
}
