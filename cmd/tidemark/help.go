package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tidemark-dev/tidemark/settings"
)

// helpWidth is the longest line of the help.
const helpWidth = 100

// A settingsGroup is a part of the settings, as the help shows them: the settings that
// most users need, and the rest.
type settingsGroup struct {
	title        string
	common, rest []string
	server       bool // only for a command that listens
}

var settingsGroups = []settingsGroup{
	{
		title:  "Where the data is",
		common: []string{"BACKEND", "DATA_DIR", "GOOGLE_CLOUD_PROJECT", "PIPELINE_FILE", "PIPELINE", "DATASET"},
		rest:   []string{"BIGQUERY_LOCATION", "FIRESTORE_DATABASE", "RAW_TABLE", "AGG_TABLE", "DEAD_LETTER_TABLE"},
	},
	{
		title:  "What is counted",
		common: []string{"WINDOW_DURATION", "ALLOWED_LATENESS", "EVENT_TIME", "EVENT_ID"},
		rest:   []string{"MAX_CLOCK_SKEW", "EMIT"},
	},
	{
		title:  "The server",
		common: []string{"PORT", "HOST", "AUTH", "LOG_LEVEL"},
		rest:   []string{"AUDIENCE", "PUSH_CALLERS", "FLUSH_CALLERS", "VIEW_CALLERS", "ALLOWED_HOSTS", "LOG_FORMAT"},
		server: true,
	},
	{
		title: "Flushes and limits",
		rest: []string{"FLUSH_QUIET", "FLUSH_HOLD_MAX", "FLUSH_MAX_WINDOWS", "FLUSH_TIMEOUT", "COUNTER_RETENTION",
			"COMMIT_INTERVAL", "RAW_METHOD", "MAX_BODY", "QUEUE_LENGTH", "BATCH_ROWS", "BATCH_BYTES"},
	},
	{
		title: "Emulators",
		rest:  []string{"FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST"},
	},
}

// flagUsages returns the usage of the named settings.
func flagUsages(all *pflag.FlagSet, names ...string) string {
	shown := pflag.NewFlagSet("", pflag.ContinueOnError)
	shown.SortFlags = false
	for _, name := range names {
		shown.AddFlag(all.Lookup(settings.Setting{Name: name}.Flag()))
	}
	return shown.FlagUsagesWrapped(helpWidth)
}

// printUsage prints how to call a command that has settings: first the command's own
// flags, then the settings that most users need.
func printUsage(cmd *cobra.Command, settings *pflag.FlagSet, server bool) error {
	own := pflag.NewFlagSet(cmd.Name(), pflag.ContinueOnError)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if settings.Lookup(f.Name) == nil {
			own.AddFlag(f)
		}
	})
	var text strings.Builder
	fmt.Fprintf(&text, "Usage:\n  %s\n\nExamples:\n%s\n\nFlags:\n%s", cmd.UseLine(), cmd.Example, own.FlagUsagesWrapped(helpWidth))
	text.WriteString("\nSettings (each is also an environment variable: --data-dir is DATA_DIR)\n")
	for _, group := range settingsGroups {
		if group.common != nil && (server || !group.server) {
			fmt.Fprintf(&text, "\n%s:\n%s", group.title, flagUsages(settings, group.common...))
		}
	}
	text.WriteString("\nAll settings: tidemark help settings\n")
	_, err := fmt.Fprint(cmd.OutOrStderr(), text.String())
	return err
}

// settingsTopic returns the help topic with all settings. The topic cannot be run.
func settingsTopic() *cobra.Command {
	all := newSettingsFlags(nil)
	var text strings.Builder
	text.WriteString(`Every setting is an environment variable, and a flag of the commands that work on what
is stored: serve, dev, flush, audit, check and replay. DATA_DIR=/tmp/tidemark is the same
as --data-dir /tmp/tidemark; the flag wins. A duration without a unit is in seconds.
`)
	for _, group := range settingsGroups {
		fmt.Fprintf(&text, "\n%s:\n%s", group.title, flagUsages(all, append(group.common[:len(group.common):len(group.common)], group.rest...)...))
	}
	return &cobra.Command{Use: "settings", Short: "All settings, which commands take as flags and from the environment", Long: text.String()}
}

// flagError returns an error of flag parsing in words for the user.
func flagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && unknown.GetSpecifiedShortnames() == "" {
		text := "unknown flag: --" + unknown.GetSpecifiedName()
		if meant := similarFlags(cmd, unknown.GetSpecifiedName()); len(meant) > 0 {
			text += "; did you mean --" + strings.Join(meant, " or --") + "?"
		}
		return errors.New(text)
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		flag := invalid.GetFlag()
		want := errors.Unwrap(invalid)
		switch flag.Value.Type() {
		case "int", "uint64":
			want = errors.New("want a whole number")
		case "float64":
			want = errors.New("want a number")
		case "bool":
			want = errors.New("want true or false")
		}
		return fmt.Errorf("--%s=%q: %w", flag.Name, invalid.GetValue(), want)
	}
	return err
}

// similarFlags returns the flags of the command whose names are similar to the given name
// or begin with it.
func similarFlags(cmd *cobra.Command, name string) []string {
	names := &cobra.Command{SuggestionsMinimumDistance: 2} // cobra finds the similar names
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	return names.SuggestionsFor(strings.ReplaceAll(name, "_", "-"))
}

// completeChoices makes shells complete the values of a flag from its choices.
func completeChoices(cmd *cobra.Command, flag string, choices ...string) {
	directive := cobra.ShellCompDirectiveNoFileComp
	if len(choices) > 0 && strings.HasSuffix(choices[len(choices)-1], ":") { // the user goes on with a name
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(choices, directive)); err != nil {
		panic(err) // the command has no such flag
	}
}

// completeSettings does what completeChoices does, for every setting.
func completeSettings(cmd *cobra.Command) {
	for _, s := range settings.Table() {
		switch s.Name {
		case "DATA_DIR":
			if err := cmd.MarkFlagDirname(s.Flag()); err != nil {
				panic(err)
			}
		case "EVENT_TIME":
			completeChoices(cmd, s.Flag(), "payload", "publish", "attribute:")
		case "EVENT_ID":
			completeChoices(cmd, s.Flag(), "message", "attribute:")
		default:
			completeChoices(cmd, s.Flag(), s.Choices()...)
		}
	}
}
