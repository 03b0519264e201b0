package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tidemark-dev/tidemark"
)

// settingsFlags gives the command a flag for every setting and returns what reads
// the settings once the flags are parsed. All are strings to pflag, so that every
// bad value is reported together, by tidemark.Load.
func settingsFlags(cmd *cobra.Command, p process) func() (tidemark.Settings, error) {
	own := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	for _, s := range tidemark.SettingsTable() {
		own.String(s.Flag(), s.Default, s.Usage)
	}
	cmd.Flags().AddFlagSet(own)
	load := func() (tidemark.Settings, error) {
		given := map[string]string{}
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if own.Lookup(f.Name) != nil {
				given[f.Name] = f.Value.String()
			}
		})
		s, err := tidemark.Load(given, p.lookup)
		if err != nil {
			return s, usageError{err}
		}
		return s, nil
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		_, problems := load() // those that would be found next
		return usageError{errors.Join(err, problems)}
	})
	return load
}

// newLogger returns the process's log, on standard error: text for a person, else
// JSON in the field names that Cloud Logging reads.
func newLogger(p process, s tidemark.Settings) *slog.Logger {
	if s.LogFormat == "text" || s.LogFormat == "" && isTerminal(p.stderr) {
		return slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: s.LogLevel}))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, &slog.HandlerOptions{
		Level: s.LogLevel,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch a.Key {
			case slog.MessageKey:
				a.Key = "message"
			case slog.LevelKey:
				a.Key = "severity"
				if a.Value.Any() == slog.LevelWarn {
					a.Value = slog.StringValue("WARNING")
				}
			}
			return a
		},
	}))
}
