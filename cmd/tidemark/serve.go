package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/settings"
)

func serveCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server: store and count what is pushed to it",
		Long: `Run the server. It stores and counts what Pub/Sub, or curl, pushes to /push, and
writes the windows that are due when /flush is called. On SIGINT or SIGTERM it
answers what it has accepted and exits.`,
		Example: `  tidemark serve
  WINDOW_DURATION=10s tidemark serve --port 9000 --data-dir /tmp/tidemark`,
		Args: arguments(cobra.NoArgs),
	}
	settings := settingsFlags(cmd, p, settingsOptions{server: true})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := settings()
		if err != nil {
			return err
		}
		return serve(cmd.Context(), s, p)
	}
	return cmd
}

func serve(ctx context.Context, s settings.Settings, p process) error {
	log := newLogger(p, s)
	toUser := textLog(p, s) && isTerminal(p.stderr)
	if !toUser {
		log.Info("starting", "version", version(), "settings", s, "pipeline_file", s.PipelineFile.String())
	}
	return withListener(ctx, s, log, func(service *service.Service, listener net.Listener) error {
		if toUser {
			introduceServer(p.stderr, s, serverURL(listener))
		} else {
			log.Info("listening", "url", serverURL(listener))
		}
		return service.Serve(ctx, listener)
	})
}

// introduceServer prints, on a terminal, the URL of the server and what the user still
// has to do.
func introduceServer(out io.Writer, s settings.Settings, url string) {
	fmt.Fprintf(out, "tidemark %s serves at %s until Ctrl-C.\n", version(), url)
	chosen := s.Chosen()
	if chosen == nil {
		chosen = []string{"none"}
	}
	fmt.Fprintf(out, "Settings that are not the defaults: %s\n", strings.Join(chosen, " "))
	fmt.Fprintf(out, "Nothing flushes by itself, so no window becomes final. In another terminal:\n\n"+
		"  while sleep 60; do curl -sX POST %s/flush > /dev/null; done\n\n", url)
}

// serverURL returns a URL by which programs on this machine reach the server.
func serverURL(listener net.Listener) string {
	address := listener.Addr().(*net.TCPAddr)
	if address.IP.IsUnspecified() {
		return fmt.Sprintf("http://127.0.0.1:%d", address.Port)
	}
	return "http://" + address.String()
}

// withListener runs f on a service and on the listener that the service is to serve. If
// the data directory or the port is in use, withListener returns an error and creates no
// tables.
func withListener(ctx context.Context, s settings.Settings, log *slog.Logger, f func(*service.Service, net.Listener) error) (err error) {
	unlock, err := service.Lock(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	listener, err := listen(s)
	if err != nil {
		return err
	}
	defer listener.Close() // for an error before Serve, which closes it too
	service, err := service.New(ctx, s, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeService(ctx, service)) }()
	return f(service, listener)
}

// closeService closes a service, even if ctx has ended.
func closeService(ctx context.Context, service *service.Service) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settings.CloseTimeout)
	defer cancel()
	return service.Close(ctx)
}

func listen(s settings.Settings) (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d is in use by another process; stop it or give this one another with --port: %w", s.Port, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener, nil
}
