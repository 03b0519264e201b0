package settings

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/tidemark-dev/tidemark/internal/durations"
	"github.com/tidemark-dev/tidemark/warehouse"
)

// A reader of a setting parses a text into a field of Settings. Its error says what was
// expected; Load adds the setting's name and the text.

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

// projectID reads the id of a project. The text may be empty.
func projectID(field *string) func(string) error {
	return func(text string) error {
		if *field = text; text == "" {
			return nil
		}
		return warehouse.CheckProject(text)
	}
}

// pipelineName reads the name of a pipeline, which must also be valid as the id of a
// Firestore document.
func pipelineName(field *string) func(string) error {
	return func(text string) error {
		*field = text
		if text == "" || len(text) > 100 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" ||
			strings.HasPrefix(text, ".") || strings.HasPrefix(text, "__") {
			return errors.New("want letters, digits, -, _ and ., at most 100, not beginning with . or __")
		}
		return nil
	}
}

func tableName(field *string) func(string) error {
	return func(text string) error {
		*field = text
		return warehouse.CheckName(text)
	}
}

// list reads items separated by commas. isItem must accept each item.
func list(field *[]string, isItem func(string) bool, want string) func(string) error {
	return func(text string) error {
		if *field = nil; text == "" {
			return nil
		}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); !isItem(item) {
				return fmt.Errorf("%q is not one %s", item, want)
			}
			*field = append(*field, item)
		}
		return nil
	}
}

// accounts reads a list of e-mail addresses.
func accounts(field *[]string) func(string) error {
	return list(field, isAddress, "e-mail address (as a@b.iam.gserviceaccount.com, without serviceAccount: before it, and no pattern)")
}

// hostNames reads a list of host names.
func hostNames(field *[]string) func(string) error {
	return list(field, isHostName, "name of a host (as tidemark.internal, without http:// before it or a port after it, and no pattern)")
}

// isHostName reports whether a browser can send the name. A name that no browser sends
// would never match, so that every request for that host would be refused.
func isHostName(name string) bool {
	return name != "" && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// isAddress reports whether a token can have the address. An address that no token has
// would never match, so that every request of that caller would be refused.
func isAddress(account string) bool {
	for _, char := range []byte(account) {
		if char <= ' ' || char >= 0x7f || strings.IndexByte(`:*,;<>()"`, char) >= 0 {
			return false
		}
	}
	name, domain, _ := strings.Cut(account, "@")
	return name != "" && domain != "" && !strings.Contains(domain, "@") && !strings.HasSuffix(domain, ".")
}

func hostPort(field *string) func(string) error {
	return func(text string) error {
		*field = text
		if text == "" {
			return nil
		}
		if _, port, err := net.SplitHostPort(text); err != nil || port == "" {
			return errors.New("want host:port")
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
		return choiceError(choices)
	}
}

// A choiceError says which values a setting can have.
type choiceError []string

func (e choiceError) Error() string {
	choices := e
	if choices[0] == "" { // an empty choice means not set
		choices = choices[1:]
	}
	last := len(choices) - 1
	return "want " + strings.Join(choices[:last], ", ") + " or " + choices[last]
}

func logLevel(field *slog.Level) func(string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	return func(text string) error {
		level, ok := levels[text]
		if *field = level; !ok {
			return choiceError{"debug", "info", "warn", "error"}
		}
		return nil
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

func duration(field *time.Duration) func(string) error { return parsed(field, durations.Parse) }

func durationOrEmpty(field *time.Duration) func(string) error {
	return func(text string) error {
		if text == "" {
			return nil
		}
		return duration(field)(text)
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
