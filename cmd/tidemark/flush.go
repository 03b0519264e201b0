package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/internal/lab/delivery"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

func flushCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flush",
		Short: "Write the windows that are due to the aggregate, once",
		Long: `Write the count of every window that is due to the aggregate, and print the
report as JSON: on the configured backend, or at a running server with --url.
Exits with 1 if any part failed.`,
		Example: `  tidemark flush --url http://127.0.0.1:8080
  tidemark flush --data-dir ./data --flush-quiet 0s`,
		Args: arguments(cobra.NoArgs),
	}
	settings := settingsFlags(cmd, p, settingsOptions{})
	server := cmd.Flags().String("url", "", "server to ask, as http://127.0.0.1:8080, instead of the configured backend; it is sent "+delivery.TokenVariable+", if set")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *server != "" {
			return flushServer(cmd.Context(), *server, p)
		}
		s, err := settings()
		if err != nil {
			return err
		}
		return flushBackend(cmd.Context(), s, p)
	}
	return cmd
}

func flushBackend(ctx context.Context, s settings.Settings, p process) error {
	return withBackend(ctx, s, p, func(service *service.Service) error {
		report := service.Flush(ctx)
		if err := printReport(p.stdout, report); err != nil {
			return err
		}
		if len(report.Errors) > 0 {
			return errNo
		}
		return nil
	})
}

// withBackend runs f on a service of the configured backend. A server may run at the same
// time.
func withBackend(ctx context.Context, s settings.Settings, p process, f func(*service.Service) error) (err error) {
	if err := service.CheckStored(ctx, s); err != nil {
		return err
	}
	service, err := service.New(ctx, s, newLogger(p, s))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeService(ctx, service)) }()
	return f(service)
}

// printReport prints a report as indented JSON.
func printReport(out io.Writer, report any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(report); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}

// flushServer calls a server's flush route as Cloud Scheduler does, and prints the
// server's report. The answer has a report even if a part of the flush failed.
func flushServer(ctx context.Context, server string, p process) error {
	answer, err := askServer(ctx, p.token(), http.MethodPost, server, "/flush", nil)
	var report struct {
		ReadTime time.Time `json:"read_time"`
	}
	// Something other than Tidemark may answer 200 too; its answer must not pass for a
	// flush.
	if json.Unmarshal(answer, &report) != nil || report.ReadTime.IsZero() {
		if err != nil {
			return withAnswer(err, answer)
		}
		return fmt.Errorf("what %s answers is not the report of a flush", server)
	}
	return errors.Join(printReport(p.stdout, json.RawMessage(answer)), err)
}
