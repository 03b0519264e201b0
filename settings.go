package tidemark

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/warehouse"
	"github.com/tidemark-dev/tidemark/window"
)

// Settings is everything a person may choose. Each setting is an environment
// variable and a command-line flag; [Load] reads and checks them.
type Settings struct {
	Backend string

	Port    int
	Host    string
	DataDir string

	Pipeline string
	Tables   warehouse.Names

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

	MaxBody     int
	QueueLength int
	BatchRows   int
	BatchBytes  int

	Auth string

	LogLevel  slog.Level
	LogFormat string

	texts map[string]string // what was read, by setting
}

// LogValue returns every setting by its name.
func (s Settings) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, setting := range s.table() {
		attrs = append(attrs, slog.String(setting.Name, s.texts[setting.Name]))
	}
	return slog.GroupValue(attrs...)
}

// A Setting describes one setting to a person.
type Setting struct {
	Name    string // of the environment variable
	Default string
	Usage   string

	read func(text string) error // parses text into its field
}

// Flag returns the name of the setting's command-line flag.
func (s Setting) Flag() string { return strings.ReplaceAll(strings.ToLower(s.Name), "_", "-") }

// minBody is the least MAX_BODY: Pub/Sub's largest message, 10 MB, in base64 in
// its envelope. A lower limit would refuse, and so redeliver, for ever what
// Pub/Sub has accepted.
const minBody = 14 << 20

// table lists the settings in the order of their documentation, with the field
// of s that each is read into.
func (s *Settings) table() []Setting {
	return []Setting{
		{"BACKEND", "local", "where rows and counters are kept: local (SQLite in DATA_DIR)", oneOf(&s.Backend, "local")},
		{"PORT", "8080", "port to listen on; 0 for any free one", integer(&s.Port, 0, 65535)},
		{"HOST", "", "address to listen on (default 127.0.0.1; all addresses when K_SERVICE is set)", text(&s.Host)},
		{"DATA_DIR", "./data", "directory of the SQLite files, made when needed", nonempty(&s.DataDir)},
		{"PIPELINE", "minute-traffic", "name of the pipeline: its counters are its own", name(&s.Pipeline)},
		{"RAW_TABLE", warehouse.DefaultNames.Raw, "table of the raw rows", nonempty(&s.Tables.Raw)},
		{"AGG_TABLE", warehouse.DefaultNames.Agg, "view with one row per window; its log is AGG_TABLE_log", nonempty(&s.Tables.Agg)},
		{"DEAD_LETTER_TABLE", warehouse.DefaultNames.DeadLetter, "table of the dead letters", nonempty(&s.Tables.DeadLetter)},
		{"WINDOW_DURATION", "60s", "length of a window: whole seconds that divide a day", duration(&s.WindowDuration)},
		{"ALLOWED_LATENESS", "2m", "how long after its window's end an event may be published and still be counted", duration(&s.AllowedLateness)},
		{"MAX_CLOCK_SKEW", "5m", "how far past its publish time an event time may be; further ahead is a dead letter", duration(&s.MaxClockSkew)},
		{"EVENT_TIME", "payload", "where event time is: payload, publish or attribute:NAME", parsed(&s.EventTime, event.ParseTimeSource)},
		{"EVENT_ID", "message", "what makes two deliveries one event: message (its id) or attribute:NAME", parsed(&s.EventID, event.ParseIDSource)},
		{"EMIT", "final", "final, or early: publish windows also before they are due", oneOf(&s.Emit, "final", "early")},
		{"COMMIT_INTERVAL", "1ms", "least time between two batches of writes", duration(&s.CommitInterval)},
		{"FLUSH_QUIET", "10s", "how long after closing a window is due; a due window written within it is held back; 0 turns it off", duration(&s.FlushQuiet)},
		{"FLUSH_HOLD_MAX", "10m", "the longest that a due window is held back", duration(&s.FlushHoldMax)},
		{"FLUSH_MAX_WINDOWS", "1000", "windows that one flush publishes at most", integer(&s.FlushMaxWindows, 1, 1_000_000)},
		{"FLUSH_TIMEOUT", "50s", "bound on one flush", duration(&s.FlushTimeout)},
		{"COUNTER_RETENTION", "192h", "how long settled counters are kept; older windows are counted from the raw rows", duration(&s.CounterRetention)},
		{"MAX_BODY", "14MB", "largest request body, at least 14MB (1 MB is 2^20 bytes)", size(&s.MaxBody)},
		{"QUEUE_LENGTH", "10000", "messages that may wait to be stored; one more is answered 503", integer(&s.QueueLength, 1, 10_000_000)},
		{"BATCH_ROWS", "1000", "messages stored at once", integer(&s.BatchRows, 1, 50_000)},
		{"BATCH_BYTES", "4MB", "bytes of data stored at once", size(&s.BatchBytes)},
		{"AUTH", "none", "who may call: none (anyone who can connect; never on Cloud Run)", oneOf(&s.Auth, "none")},
		{"LOG_LEVEL", "info", "debug, info, warn or error", func(text string) error { return s.LogLevel.UnmarshalText([]byte(text)) }},
		{"LOG_FORMAT", "", "text or json (default text on a terminal, else json)", oneOf(&s.LogFormat, "", "text", "json")},
	}
}

// SettingsTable returns the description of every setting.
func SettingsTable() []Setting { return new(Settings).table() }

// Load reads the settings: from flags, given by flag name; else from the
// environment through lookup, where an empty variable counts as not set; else
// the default. The error names every problem, with its value.
func Load(flags map[string]string, lookup func(name string) (string, bool)) (Settings, error) {
	s := Settings{texts: map[string]string{}}
	var problems []error
	for _, setting := range s.table() {
		from, text := setting.Name, setting.Default
		if value, ok := lookup(setting.Name); ok && value != "" {
			text = value
		}
		if value, ok := flags[setting.Flag()]; ok {
			from, text = "--"+setting.Flag(), value
		}
		s.texts[setting.Name] = text
		if err := setting.read(text); err != nil {
			problems = append(problems, fmt.Errorf("%s=%q: %w", from, text, err))
			_ = setting.read(setting.Default) // so that the checks below find no fault in a consequence of this one
		}
	}
	_, onCloudRun := lookup("K_SERVICE")
	return s, errors.Join(append(problems, s.complete(onCloudRun)...)...)
}

// complete fills in the defaults that depend on other settings and checks the
// settings against each other.
func (s *Settings) complete(onCloudRun bool) (problems []error) {
	if onCloudRun && s.Auth == "none" {
		problems = append(problems, errors.New("AUTH=none on Cloud Run (K_SERVICE is set) would let anyone on the internet write"))
	}
	if s.Host == "" && !onCloudRun {
		s.Host = "127.0.0.1"
		s.texts["HOST"] = s.Host
	}
	if _, err := window.New(s.WindowDuration, s.AllowedLateness); err != nil {
		problems = append(problems, fmt.Errorf("WINDOW_DURATION, ALLOWED_LATENESS: %w", err))
	}
	if err := s.Tables.Check(); err != nil {
		problems = append(problems, fmt.Errorf("RAW_TABLE, AGG_TABLE, DEAD_LETTER_TABLE: %w", err))
	}
	if s.MaxBody < minBody {
		problems = append(problems, fmt.Errorf("MAX_BODY=%d: less than 14MB would refuse messages that Pub/Sub accepts, for ever", s.MaxBody))
	}
	if s.FlushTimeout == 0 {
		problems = append(problems, errors.New("FLUSH_TIMEOUT=0: a flush needs some time"))
	}
	if s.CounterRetention == 0 {
		problems = append(problems, errors.New("COUNTER_RETENTION=0: counters must be kept longer than Pub/Sub keeps messages"))
	}
	return problems
}

// windows returns the scheme of windows. Load has checked it.
func (s Settings) windows() window.Fixed {
	return window.Fixed{Duration: s.WindowDuration, AllowedLateness: s.AllowedLateness}
}

// The readers of settings' texts.

func text(field *string) func(string) error {
	return func(text string) error {
		*field = text
		return nil
	}
}

func nonempty(field *string) func(string) error {
	return func(text string) error {
		*field = text
		if text == "" {
			return errors.New("it is empty")
		}
		return nil
	}
}

func name(field *string) func(string) error {
	return func(text string) error {
		*field = text
		if text == "" || len(text) > 100 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" ||
			strings.HasPrefix(text, ".") || strings.HasPrefix(text, "__") {
			return errors.New("want letters, digits, -, _ and ., at most 100, not beginning with . or __")
		}
		return nil
	}
}

func oneOf(field *string, choices ...string) func(string) error {
	return func(text string) error {
		*field = text
		for _, choice := range choices {
			if text == choice {
				return nil
			}
		}
		return fmt.Errorf("want %s", strings.TrimPrefix(strings.Join(choices, " or "), " or "))
	}
}

func parsed[T any](field *T, parse func(string) (T, error)) func(string) error {
	return func(text string) (err error) {
		*field, err = parse(text)
		return err
	}
}

func integer(field *int, low, high int) func(string) error {
	return func(text string) (err error) {
		if *field, err = strconv.Atoi(text); err != nil || *field < low || *field > high {
			return fmt.Errorf("want an integer from %d to %d", low, high)
		}
		return nil
	}
}

// duration reads a duration of zero or more; one without a unit is in seconds,
// as in the lab's WINDOW_DURATION=60.
func duration(field *time.Duration) func(string) error {
	return func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil {
			d, err = time.ParseDuration(text + "s")
		}
		if *field = d; err != nil || d < 0 {
			return errors.New("want a duration of zero or more, as 90s, 2m or 1h30m; without a unit it is in seconds")
		}
		return nil
	}
}

// size reads a number of bytes. Its units are powers of two, as in the limits
// that Pub/Sub and BigQuery state.
func size(field *int) func(string) error {
	return func(text string) error {
		digits := strings.TrimRight(text, "KMGB")
		factor, ok := map[string]int{"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}[text[len(digits):]]
		n, err := strconv.Atoi(digits)
		if *field = n * factor; !ok || err != nil || n <= 0 || n > (1<<40)/cmp.Or(factor, 1) {
			return errors.New("want a number of bytes above zero, as 16MB or 512KB")
		}
		return nil
	}
}
