package settings

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/pipeline"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// readPipelineFile reads the setting PIPELINE_FILE. The value is the path of a file or,
// if the value has a line break, the text of a file.
func (s *Settings) readPipelineFile(value string) error {
	if value == "" {
		return nil // use the built-in file
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

// ofFile returns the value that the pipeline file gives to a setting, or an empty string.
// The built-in file gives no values.
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

// mayDiffer reports whether a setting may differ from its value in the pipeline file.
func (s *Settings) mayDiffer(name string) bool { return strings.HasSuffix(name, "_TABLE") }

// same reports whether two texts mean the same value of a setting.
func same(a, b string) bool {
	x, errX := durations.Parse(a)
	y, errY := durations.Parse(b)
	return a == b || errX == nil && errY == nil && x == y
}

// checkSources checks that the pipeline file has the fields that EVENT_TIME and EVENT_ID
// need.
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

// EventTimeMeaning returns where the event time is, as the record of the pipeline spells
// it: EVENT_TIME, and the name, the key and the format of the field if the time is in the
// payload. A record of "payload" alone means the field of the built-in file.
func (s Settings) EventTimeMeaning() string {
	source, schema := s.EventTime.String(), s.PipelineFile.Schema
	if source != "payload" || schema.Time == pipeline.LabFile().Schema.Time {
		return source
	}
	field := schema.Fields[schema.Index(schema.Time)]
	text := source + ":" + field.Name
	if field.Key() != field.Name {
		text += " from " + field.Key()
	}
	if field.Format != event.RFC3339 {
		text += ", " + string(field.Format)
	}
	return text
}
