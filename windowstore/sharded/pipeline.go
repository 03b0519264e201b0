package sharded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

// Register implements [windowstore.Store]. Several calls may run at the same time.
func (s *Store) Register(ctx context.Context) error {
	if s.registered.Load() {
		return nil
	}
	recorded, err := s.checkRecord(ctx)
	if err != nil {
		return err
	}
	if !recorded {
		if err := s.record(ctx); err != nil {
			return err
		}
	}
	s.registered.Store(true)
	return nil
}

// Recorded reports whether the pipeline is on record. It returns a
// [*windowstore.MeaningError] if the settings do not fit the record. It records nothing,
// so a caller that only reads may use it.
func (s *Store) Recorded(ctx context.Context) (bool, error) {
	recorded, err := s.checkRecord(ctx)
	if err != nil {
		return false, s.wrap("compare the settings with", err)
	}
	return recorded, nil
}

func (s *Store) checkRecord(ctx context.Context) (recorded bool, err error) {
	records, err := s.config.Documents.Pipelines(ctx)
	if err != nil {
		return false, fmt.Errorf("read the pipelines on record: %w", err)
	}
	meanings := make(map[string]windowstore.Meaning, len(records))
	for name, record := range records {
		meanings[name] = record.Meaning
	}
	_, recorded = records[s.config.Pipeline]
	return recorded, windowstore.CheckMeaning(s.config.Pipeline, s.config.Meaning, meanings)
}

func (s *Store) record(ctx context.Context) error {
	err := s.config.Documents.CreatePipeline(ctx, PipelineRecord{Meaning: s.config.Meaning})
	if err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("record the pipeline: %w", err)
	}
	if err == nil {
		return nil
	}
	// Somebody recorded a pipeline after the check. Perhaps this very call did so: its
	// answer was lost, and the call was repeated. Or another process recorded this
	// pipeline, or one with the same tables.
	recorded, checkErr := s.checkRecord(ctx)
	if checkErr != nil {
		return checkErr
	}
	if !recorded {
		return fmt.Errorf("record the pipeline: table %s or %s is claimed, but not by a pipeline on record that uses it in the same way: %w",
			s.config.Meaning.RawTable, s.config.Meaning.AggTable, err)
	}
	return nil
}

// KeepAtLeast implements [windowstore.Store]. If the pipeline is not on record, nothing
// of it can have been settled: KeepAtLeast returns keep and records nothing.
func (s *Store) KeepAtLeast(ctx context.Context, keep time.Duration) (time.Duration, error) {
	least, err := s.keepAtLeast(ctx, keep)
	if err != nil {
		return 0, s.wrap("record how long to keep", err)
	}
	return least, nil
}

func (s *Store) keepAtLeast(ctx context.Context, keep time.Duration) (time.Duration, error) {
	if keep <= 0 {
		return 0, fmt.Errorf("%v is not a time to keep anything", keep) // 0 on record says that there was no flush
	}
	for {
		records, err := s.config.Documents.Pipelines(ctx)
		if err != nil {
			return 0, fmt.Errorf("read the pipelines on record: %w", err)
		}
		record, ok := records[s.config.Pipeline]
		if !ok {
			return keep, nil
		}
		if record.LeastKept != 0 && record.LeastKept <= keep {
			return record.LeastKept, nil
		}
		err = s.config.Documents.LowerLeastKept(ctx, keep, record.UpdateTime)
		if err == nil {
			return keep, nil
		}
		if !errors.Is(err, ErrPrecondition) {
			return 0, err
		}
		// Another flush was first. It lowered the value, so this loop ends.
	}
}
