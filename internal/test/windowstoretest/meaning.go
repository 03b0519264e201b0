package windowstoretest

import (
	"errors"
	"time"

	"github.com/tidemark-dev/tidemark/windowstore"
)

var meaningTests = []promise{
	{"the first Add records the meaning", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		f.reopen()
		f.addKeys(minute(1), 1, 2)
		f.wantCount(minute(1), 2)
	}},
	{"Register records the meaning, and refuses another before anything is stored", func(f *fixture) {
		if err := f.store.Register(f.ctx); err != nil {
			f.Fatal(err)
		}
		if err := f.store.Register(f.ctx); err != nil {
			f.Errorf("Register again: %v", err)
		}
		f.store.Close()
		config := f.config("pipeline")
		config.Meaning.WindowDuration = time.Hour
		f.wantRefused(config)
		f.reopen()
		if err := f.store.Register(f.ctx); err != nil {
			f.Errorf("Register of the recorded meaning: %v", err)
		}
		f.wantPending()
	}},
	{"another meaning of the pipeline is refused and writes nothing", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		f.store.Close()
		for _, change := range []func(*windowstore.Meaning){
			func(m *windowstore.Meaning) { m.WindowDuration = time.Hour },
			func(m *windowstore.Meaning) { m.EventTime = "publish" },
			func(m *windowstore.Meaning) { m.EventID = "attribute:id" },
			func(m *windowstore.Meaning) { m.RawTable = "other_raw" },
			func(m *windowstore.Meaning) { m.AggTable = "other_agg" },
		} {
			config := f.config("pipeline")
			change(&config.Meaning)
			f.wantRefused(config)
		}
		f.reopen()
		f.wantPending(minute(1))
		f.wantCount(minute(1), 1)
	}},
	{"tables that belong to another pipeline are refused", func(f *fixture) {
		f.addKeys(minute(1), 0, 1)
		f.store.Close()
		raw, agg := f.config("other"), f.config("other")
		raw.Meaning.RawTable = f.config("pipeline").Meaning.RawTable
		agg.Meaning.AggTable = f.config("pipeline").Meaning.AggTable
		f.wantRefused(raw)
		f.wantRefused(agg)
		// The refused store recorded nothing for the other pipeline either.
		f.store = f.open(f.config("other"))
		f.wantPending()
		f.addKeys(minute(1), 0, 1)
	}},
	{"of two stores with different meanings the second to add is refused", func(f *fixture) {
		if f.h.Handles < 2 {
			f.Skip("only one store at a time can be open on a place of this implementation")
		}
		config := f.config("pipeline")
		config.Meaning.WindowDuration = time.Hour
		second := f.open(config) // no meaning is recorded yet
		f.addKeys(minute(1), 0, 1)
		var refused *windowstore.MeaningError
		if err := second.Add(f.ctx, add(minute(0), keys(5, 6))); !errors.As(err, &refused) {
			f.Fatalf("Add with another meaning: %v, want a *MeaningError", err)
		}
		f.wantPending(minute(1))
		f.wantCount(minute(0), 0)
	}},
	{"pipelines do not see each other's windows", func(f *fixture) {
		f.addKeys(minute(1), 0, 5)
		f.addKeys(minute(2), 0, 5)
		mine := f.pending(end)
		f.store.Close()

		f.store = f.open(f.config("other"))
		f.wantPending()
		f.wantCount(minute(1), 0)
		f.addKeys(minute(1), 4, 6)
		f.wantCount(minute(1), 2)
		f.settle(mine[1].Shards, f.clock.Now()) // these shards belong to the other pipeline: for this one they do not exist
		f.settle(f.onlyPending().Shards, f.clock.Now())
		f.expire(f.clock.Now())
		f.wantCount(minute(1), 0)

		f.reopen()
		f.wantPending(minute(1), minute(2))
		f.wantCount(minute(1), 5)
	}},
}

// wantRefused checks that a store with the given config either cannot be opened or
// refuses an Add.
func (f *fixture) wantRefused(config Config) {
	f.Helper()
	store, err := f.place.Open(f.ctx, config)
	if err == nil {
		err = store.Add(f.ctx, add(minute(7), keys(100, 103)))
		if closeErr := store.Close(); closeErr != nil {
			f.Errorf("Close: %v", closeErr)
		}
	}
	var refused *windowstore.MeaningError
	if !errors.As(err, &refused) {
		f.Errorf("%+v: %v, want a *MeaningError", config.Meaning, err)
	} else if refused.Pipeline != config.Pipeline || len(refused.Problems) != 1 {
		f.Errorf("%+v: refused with %+v, want one problem, of pipeline %q", config.Meaning, refused, config.Pipeline)
	}
}
