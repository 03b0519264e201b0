package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark"
	"github.com/tidemark-dev/tidemark/flush"
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
	settings := settingsFlags(cmd, p)
	server := cmd.Flags().String("url", "", "server to ask, as http://127.0.0.1:8080, instead of the configured backend")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *server != "" {
			return flushServer(cmd.Context(), *server, p.stdout)
		}
		s, err := settings()
		if err != nil {
			return err
		}
		return flushBackend(cmd.Context(), s, p)
	}
	return cmd
}

func flushBackend(ctx context.Context, s tidemark.Settings, p process) (err error) {
	service, err := tidemark.New(ctx, s, newLogger(p, s))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close(ctx)) }()
	report := service.Flush(ctx)
	return printReport(p.stdout, report)
}

func printReport(out io.Writer, report flush.Report) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(report); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if len(report.Errors) > 0 {
		return errNo
	}
	return nil
}

// flushServer calls a server's flush route as Cloud Scheduler does and prints its
// answer.
func flushServer(ctx context.Context, server string, out io.Writer) error {
	target, err := url.Parse(server)
	if err != nil || target.Host == "" {
		return usageError{fmt.Errorf("--url=%q is not a URL as http://127.0.0.1:8080", server)}
	}
	if target.Path == "" || target.Path == "/" {
		target.Path = "/flush"
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return fmt.Errorf("read the answer of %s: %w", target, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", target, response.Status)
	}
	return nil
}
