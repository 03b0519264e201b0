package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tidemark-dev/tidemark"
)

// settingsFlags gives the command a flag for every setting and returns what reads
// the settings once the flags are parsed. All are strings to pflag, so that every
// bad value is reported together, by tidemark.Load. The command's own defaults are
// by name, and go before the settings'.
func settingsFlags(cmd *cobra.Command, p process, defaults map[string]string) func() (tidemark.Settings, error) {
	own := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	for _, s := range tidemark.SettingsTable() {
		own.String(s.Flag(), cmp.Or(defaults[s.Name], s.Default), s.Usage)
	}
	lookup := func(name string) (string, bool) {
		if value, ok := p.lookup(name); ok && value != "" {
			return value, true
		}
		value, ok := defaults[name]
		return value, ok
	}
	cmd.Flags().AddFlagSet(own)
	cmd.SetUsageFunc(func(cmd *cobra.Command) error { return printUsage(cmd, own) })
	load := func() (tidemark.Settings, error) {
		given := map[string]string{}
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if own.Lookup(f.Name) != nil {
				given[f.Name] = f.Value.String()
			}
		})
		s, err := tidemark.Load(given, lookup)
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

// printUsage prints how to call a command that has settings, with the flags that
// are its alone apart from them.
func printUsage(cmd *cobra.Command, settings *pflag.FlagSet) error {
	own := pflag.NewFlagSet(cmd.Name(), pflag.ContinueOnError)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if settings.Lookup(f.Name) == nil {
			own.AddFlag(f)
		}
	})
	_, err := fmt.Fprintf(cmd.OutOrStderr(), `Usage:
  %s

Examples:
%s

Flags:
%s
Settings (each is also an environment variable: --data-dir is DATA_DIR):
%s`, cmd.UseLine(), cmd.Example, own.FlagUsages(), settings.FlagUsages())
	return err
}

// A durationValue is a duration as a flag, read as a setting is: a plain number is
// in seconds.
type durationValue time.Duration

func (d *durationValue) String() string { return time.Duration(*d).String() }
func (d *durationValue) Type() string   { return "duration" }
func (d *durationValue) Set(text string) error {
	parsed, err := tidemark.ParseDuration(text)
	*d = durationValue(parsed)
	return err
}

// textLog tells whether the log is text.
func textLog(p process, s tidemark.Settings) bool {
	return s.LogFormat == "text" || s.LogFormat == "" && isTerminal(p.stderr)
}

// newLogger returns the process's log, on standard error: text for a person, else
// JSON in the field names that Cloud Logging reads.
func newLogger(p process, s tidemark.Settings) *slog.Logger {
	if textLog(p, s) {
		return slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: s.LogLevel}))
	}
	return tidemark.NewJSONLogger(p.stderr, s.LogLevel, s.Project)
}
