// Package settings has every setting with its name, default and check, and the time
// limits that belong to the settings. Environment variables and flags are read here and
// nowhere else.
package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/pipeline"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
)

// Settings is everything that the operator may choose. Each setting is an environment
// variable and a command-line flag; [Load] reads and checks the settings.
type Settings struct {
	Backend string

	Port    int
	Host    string
	DataDir string

	Project           string
	BigQueryLocation  string
	FirestoreDatabase string

	// PipelineFile is the content of the file that PIPELINE_FILE names, or of the
	// built-in file.
	PipelineFile pipeline.File
	Pipeline     string
	Dataset      string
	Tables       warehouse.Names

	WindowDuration  time.Duration
	AllowedLateness time.Duration
	MaxClockSkew    time.Duration
	EventTime       event.TimeSource
	EventID         event.IDSource
	Emit            string

	CommitInterval   time.Duration
	FlushQuiet       time.Duration
	FlushHoldMax     time.Duration
	FlushMaxWindows  int
	FlushTimeout     time.Duration
	CounterRetention time.Duration

	RawMethod   string
	MaxBody     int
	QueueLength int
	BatchRows   int
	BatchBytes  int

	Auth         string
	Audience     string
	PushCallers  []string
	FlushCallers []string
	ViewCallers  []string
	AllowedHosts []string

	LogLevel  slog.Level
	LogFormat string

	FirestoreEmulator       string
	PubSubEmulator          string
	BigQueryEmulator        string
	BigQueryStorageEmulator string

	texts map[string]string // the text that was read, by setting
	given map[string]bool   // whether the setting was given a text other than the default
}

// LogValue returns every setting by its name.
func (s Settings) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, setting := range s.table() {
		attrs = append(attrs, slog.String(setting.Name, s.texts[setting.Name]))
	}
	return slog.GroupValue(attrs...)
}

// Chosen returns the settings that were given a value other than the default, as
// NAME=value.
func (s Settings) Chosen() []string {
	var chosen []string
	for _, setting := range s.table() {
		if s.given[setting.Name] {
			chosen = append(chosen, setting.Name+"="+s.texts[setting.Name])
		}
	}
	return chosen
}

// A Setting describes one setting for the user.
type Setting struct {
	Name    string // of the environment variable
	Default string // a value; empty if the default depends on other settings
	Usage   string

	read func(text string) error // parses text into its field
}

// Flag returns the name of the setting's command-line flag.
func (s Setting) Flag() string { return strings.ReplaceAll(strings.ToLower(s.Name), "_", "-") }

// Choices returns the values that the setting can have. It returns nothing if a list
// cannot name them all.
func (s Setting) Choices() []string {
	choices, _ := errors.AsType[choiceError](s.read("\x00")) // no setting has this value
	return slices.DeleteFunc(slices.Clone([]string(choices)), func(choice string) bool { return choice == "" })
}

// minBody is the least MAX_BODY: the largest message of Pub/Sub, 10 MB, as base64 in its
// envelope. With a lower limit, Tidemark would refuse a message that Pub/Sub has
// accepted, and Pub/Sub would deliver the message again and again.
const minBody = 14 << 20

// table returns the settings in the order of their documentation. Each setting is read
// into a field of s.
func (s *Settings) table() []Setting {
	return []Setting{
		{"BACKEND", "local", "where rows and counters are kept: local (SQLite in DATA_DIR; not on Cloud Run) or gcp (BigQuery and Firestore)", oneOf(&s.Backend, "local", "gcp")},
		{"PORT", "8080", "port to listen on; 0 for any free one", integer(&s.Port, 0, 65535)},
		{"HOST", "", "address to listen on; default 127.0.0.1, or all addresses when K_SERVICE is set", text(&s.Host)},
		{"DATA_DIR", "./data", "local: directory of the SQLite files, created when needed, for its owner alone", nonempty(&s.DataDir)},
		{"GOOGLE_CLOUD_PROJECT", "", "gcp: project of the dataset and the database; with LOG_FORMAT=json, also of the traces that log lines name", projectID(&s.Project)},
		{"BIGQUERY_LOCATION", "US", "gcp: location in which the dataset is created", nonempty(&s.BigQueryLocation)},
		{"FIRESTORE_DATABASE", "(default)", "gcp: database of the counters", nonempty(&s.FirestoreDatabase)},
		{"PIPELINE_FILE", "", "what an event is and what is counted: path of a pipeline file, or its text; default the access log of the streaming lab", s.readPipelineFile},
		{"PIPELINE", "minute-traffic", "name of the pipeline: its counters are its own", pipelineName(&s.Pipeline)},
		{"DATASET", "logs", "gcp: dataset of the tables", tableName(&s.Dataset)},
		{"RAW_TABLE", warehouse.DefaultNames.Raw, "table of the raw rows", tableName(&s.Tables.Raw)},
		{"AGG_TABLE", warehouse.DefaultNames.Agg, "view with one row per window; its log is AGG_TABLE_log", tableName(&s.Tables.Agg)},
		{"DEAD_LETTER_TABLE", warehouse.DefaultNames.DeadLetter, "table of the dead letters", tableName(&s.Tables.DeadLetter)},
		{"WINDOW_DURATION", "60s", "length of a window: whole seconds that divide a day", duration(&s.WindowDuration)},
		{"ALLOWED_LATENESS", "2m", "how long after its window's end an event may be published and still be counted", duration(&s.AllowedLateness)},
		{"MAX_CLOCK_SKEW", "5m", "how far past its publish time an event time may be; further ahead is a dead letter", duration(&s.MaxClockSkew)},
		{"EVENT_TIME", "payload", "where event time is: payload, publish or attribute:NAME", parsed(&s.EventTime, event.ParseTimeSource)},
		{"EVENT_ID", "message", "what makes two deliveries one event: message (its id), attribute:NAME or field:NAME", parsed(&s.EventID, event.ParseIDSource)},
		{"EMIT", "final", "final, or early: publish windows also before they are due", oneOf(&s.Emit, "final", "early")},
		{"COMMIT_INTERVAL", "", "least time between two batches of writes; default 1ms, or 200ms with BACKEND=gcp", durationOrEmpty(&s.CommitInterval)},
		{"FLUSH_QUIET", "10s", "how long after closing a window is due; a due window written within it is held back; 0 turns it off", duration(&s.FlushQuiet)},
		{"FLUSH_HOLD_MAX", "10m", "the longest that a due window is held back", duration(&s.FlushHoldMax)},
		{"FLUSH_MAX_WINDOWS", "1000", "windows that one flush publishes at most, up to a quarter of them the newest, the others the oldest", integer(&s.FlushMaxWindows, 1, 1_000_000)},
		{"FLUSH_TIMEOUT", "50s", "bound on one flush, and on one audit", duration(&s.FlushTimeout)},
		{"COUNTER_RETENTION", "192h", "how long settled counters are kept; older windows are also counted from the raw rows", duration(&s.CounterRetention)},
		{"RAW_METHOD", "storage_write", "gcp: how rows are appended, storage_write or insert_all", oneOf(&s.RawMethod, "storage_write", "insert_all")},
		{"MAX_BODY", "14MB", "largest request body, at least 14MB (1 MB is 2^20 bytes)", size(&s.MaxBody)},
		{"QUEUE_LENGTH", "10000", "messages that may wait to be stored; one more is answered 503", integer(&s.QueueLength, 1, 10_000_000)},
		{"BATCH_ROWS", "1000", "messages stored at once", integer(&s.BatchRows, 1, 50_000)},
		{"BATCH_BYTES", "4MB", "bytes of data stored at once", size(&s.BatchBytes)},
		{"AUTH", "", "how callers are checked: none (anyone who can connect may call), iam (Cloud Run has checked the token) or oidc (the token is verified here); default none, or iam when K_SERVICE is set", oneOf(&s.Auth, "", "none", "iam", "oidc")},
		{"AUDIENCE", "", "iam, oidc: the exact audience of every caller's token, as the service's URL", text(&s.Audience)},
		{"PUSH_CALLERS", "", "iam, oidc: accounts that may push, separated by commas; one at least", accounts(&s.PushCallers)},
		{"FLUSH_CALLERS", "", "iam, oidc: accounts that may flush and repair; one at least", accounts(&s.FlushCallers)},
		{"VIEW_CALLERS", "", "iam, oidc: accounts that may read audits and metrics; default nobody", accounts(&s.ViewCallers)},
		{"ALLOWED_HOSTS", "", "none: the names by which audits, metrics and pages in a browser may reach this server, separated by commas; IP addresses, localhost and HOST always may", hostNames(&s.AllowedHosts)},
		{"LOG_LEVEL", "info", "debug, info, warn or error", logLevel(&s.LogLevel)},
		{"LOG_FORMAT", "", "text or json; default text on a terminal, else json", oneOf(&s.LogFormat, "", "text", "json")},
		{"FIRESTORE_EMULATOR_HOST", "", "gcp: host:port of a Firestore emulator", hostPort(&s.FirestoreEmulator)},
		{"PUBSUB_EMULATOR_HOST", "", "generate --topic: host:port of a Pub/Sub emulator; a server is pushed to, and needs none", hostPort(&s.PubSubEmulator)},
		{"BIGQUERY_EMULATOR_HOST", "", "gcp: host:port of a BigQuery emulator, REST", hostPort(&s.BigQueryEmulator)},
		{"BIGQUERY_STORAGE_EMULATOR_HOST", "", "gcp: host:port of a BigQuery emulator, gRPC", hostPort(&s.BigQueryStorageEmulator)},
	}
}

// Table returns the description of every setting.
func Table() []Setting { return new(Settings).table() }

// Load reads each setting from the flags, which are given by flag name; else from the
// environment through lookup, if the variable is not empty; else from the pipeline file,
// if the file decides the setting; else Load takes the default. The error names every
// problem, with the value.
func Load(flags map[string]string, lookup func(name string) (string, bool)) (Settings, error) {
	s := Settings{texts: map[string]string{}, given: map[string]bool{}, PipelineFile: pipeline.LabFile()}
	var problems []error
	for _, setting := range s.table() {
		from, text, given := setting.Name, setting.Default, false
		if value, ok := lookup(setting.Name); ok && value != "" {
			text, given = value, true
		}
		if value, ok := flags[setting.Flag()]; ok {
			from, text, given = "--"+setting.Flag(), value, true
		}
		// The table has PIPELINE_FILE before the settings that the file decides.
		if ofFile := s.ofFile(setting.Name); ofFile != "" {
			if given && !s.mayDiffer(setting.Name) && !same(text, ofFile) {
				problems = append(problems, fmt.Errorf("%s=%q: the pipeline file says %s; leave the setting out, or change the file", from, text, ofFile))
			}
			if !given || !s.mayDiffer(setting.Name) {
				text = ofFile
			}
		}
		s.texts[setting.Name], s.given[setting.Name] = text, text != setting.Default
		if err := setting.read(text); err != nil {
			problems = append(problems, fmt.Errorf("%s=%q: %w", from, text, err))
			_ = setting.read(setting.Default) // so that the checks below do not report this problem again
		}
	}
	service, _ := lookup("K_SERVICE")
	return s, errors.Join(append(problems, s.complete(service != "")...)...)
}

// complete fills in the defaults that depend on other settings and checks the
// settings against each other.
func (s *Settings) complete(onCloudRun bool) (problems []error) {
	if s.Host == "" && !onCloudRun {
		s.setText("HOST", "127.0.0.1")
	}
	if s.Auth == "" {
		s.setText("AUTH", map[bool]string{false: "none", true: "iam"}[onCloudRun])
	}
	if s.texts["COMMIT_INTERVAL"] == "" {
		interval := "200ms"
		if s.Local() {
			interval = "1ms"
		}
		s.setText("COMMIT_INTERVAL", interval)
	}
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !s.Local() && s.texts["GOOGLE_CLOUD_PROJECT"] == "" {
		problem("BACKEND=gcp needs GOOGLE_CLOUD_PROJECT")
	}
	if onCloudRun && s.Local() {
		problem("BACKEND=local on Cloud Run (K_SERVICE is set) would keep what was acknowledged in files of one instance, which Cloud Run deletes with it: set BACKEND=gcp")
	}
	problems = append(problems, s.checkAuth(onCloudRun)...)
	problems = append(problems, s.checkSources()...)
	if _, err := window.New(s.WindowDuration, s.AllowedLateness); err != nil {
		problem("WINDOW_DURATION, ALLOWED_LATENESS: %w", err)
	}
	if err := s.Tables.Check(); err != nil {
		problem("RAW_TABLE, AGG_TABLE, DEAD_LETTER_TABLE: %w", err)
	}
	if rest, grpc := s.BigQueryEmulator, s.BigQueryStorageEmulator; !s.Local() && (rest == "") != (grpc == "") &&
		(rest == "" || s.RawMethod == "storage_write") { // streaming inserts are REST
		problem("BIGQUERY_EMULATOR_HOST=%s, BIGQUERY_STORAGE_EMULATOR_HOST=%s: one is an emulator and the other BigQuery itself; set both or neither", rest, grpc)
	}
	var sum time.Duration
	for _, d := range []time.Duration{s.AllowedLateness, s.MaxClockSkew, s.FlushQuiet, s.FlushHoldMax, s.CounterRetention} {
		if sum += d; sum > 2*durations.Max {
			problem("ALLOWED_LATENESS=%s, MAX_CLOCK_SKEW=%s, FLUSH_QUIET=%s, FLUSH_HOLD_MAX=%s, COUNTER_RETENTION=%s: together they are more than two centuries",
				s.texts["ALLOWED_LATENESS"], s.texts["MAX_CLOCK_SKEW"], s.texts["FLUSH_QUIET"], s.texts["FLUSH_HOLD_MAX"], s.texts["COUNTER_RETENTION"])
			break
		}
	}
	if s.MaxBody < minBody {
		problem("MAX_BODY=%s: less than 14MB would refuse messages that Pub/Sub accepts and delivers again and again", s.texts["MAX_BODY"])
	}
	if s.FlushTimeout < time.Second || s.FlushTimeout > MaxFlushTimeout {
		problem("FLUSH_TIMEOUT=%s: it must be from 1s to %s, so that its report can still be answered", s.texts["FLUSH_TIMEOUT"], durations.Text(MaxFlushTimeout))
	}
	if s.CommitInterval > MaxCommitInterval {
		problem("COMMIT_INTERVAL=%s: more than %s leaves too little of the time in which a push must be answered", s.texts["COMMIT_INTERVAL"], durations.Text(MaxCommitInterval))
	}
	if s.CounterRetention == 0 {
		problem("COUNTER_RETENTION=0: counters must be kept longer than Pub/Sub keeps messages")
	}
	return problems
}

// setText sets a setting to a value that is known to be valid.
func (s *Settings) setText(name, text string) {
	for _, setting := range s.table() {
		if setting.Name == name {
			s.texts[name] = text
			_ = setting.read(text)
		}
	}
}

// Windows returns the windows of the pipeline. Load has checked them.
func (s Settings) Windows() window.Fixed {
	return window.Fixed{Duration: s.WindowDuration, AllowedLateness: s.AllowedLateness}
}

// Local reports whether rows and counters are kept in the data directory, and not on
// Google Cloud.
func (s Settings) Local() bool { return s.Backend == "local" }
