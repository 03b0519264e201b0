package main

import (
	"cmp"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

// A settingValue is the text of a setting as a flag. A settingValue accepts any text, so
// that settings.Load can report all bad values together.
type settingValue struct{ text, kind string }

func (v *settingValue) String() string { return v.text }
func (v *settingValue) Type() string   { return v.kind } // help shows the kind
func (v *settingValue) Set(text string) error {
	v.text = text
	return nil
}

// newSettingsFlags returns a flag for every setting. A default in defaults, by name,
// replaces the setting's own default.
func newSettingsFlags(defaults map[string]string) *pflag.FlagSet {
	flags := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	for _, s := range settings.Table() {
		kind := cmp.Or(strings.Join(s.Choices(), "|"), "value")
		flags.Var(&settingValue{cmp.Or(defaults[s.Name], s.Default), kind}, s.Flag(), s.Usage)
	}
	return flags
}

// settingsOptions say which settings a command has.
type settingsOptions struct {
	defaults map[string]string // the command's own, by name
	server   bool              // the command listens
}

// settingsFlags adds a flag for every setting to the command. The returned function reads
// the settings after the flags are parsed.
func settingsFlags(cmd *cobra.Command, p process, o settingsOptions) func() (settings.Settings, error) {
	own := newSettingsFlags(o.defaults)
	lookup := func(name string) (string, bool) {
		if value, ok := p.lookup(name); ok && value != "" {
			return value, true
		}
		value, ok := o.defaults[name]
		return value, ok
	}
	cmd.Flags().AddFlagSet(own)
	completeSettings(cmd)
	cmd.SetUsageFunc(func(cmd *cobra.Command) error { return printUsage(cmd, own, o.server) })
	load := func() (settings.Settings, error) {
		given := map[string]string{}
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if own.Lookup(f.Name) != nil {
				given[f.Name] = f.Value.String()
			}
		})
		s, err := settings.Load(given, lookup)
		if err != nil {
			return s, usageError{err}
		}
		return s, nil
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		_, problems := load() // report the problems that the next call would find, too
		return usageError{errors.Join(flagError(cmd, err), problems)}
	})
	return load
}

// A durationValue is a duration as a flag. It is read like a setting: a plain number
// means seconds.
type durationValue time.Duration

func (d *durationValue) String() string { return durations.Text(time.Duration(*d)) }
func (d *durationValue) Type() string   { return "duration" }
func (d *durationValue) Set(text string) error {
	parsed, err := durations.Parse(text)
	*d = durationValue(parsed)
	return err
}

// textLog reports whether the log is written as text.
func textLog(p process, s settings.Settings) bool {
	return s.LogFormat == "text" || s.LogFormat == "" && isTerminal(p.stderr)
}

// newLogger returns the process's log on standard error: as text, or as JSON with the
// field names that Cloud Logging reads.
func newLogger(p process, s settings.Settings) *slog.Logger {
	if textLog(p, s) {
		return slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: s.LogLevel}))
	}
	return service.NewJSONLogger(p.stderr, s.LogLevel, s.Project)
}
