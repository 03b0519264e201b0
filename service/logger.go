package service

import (
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// NewJSONLogger returns a logger that writes one JSON object a line, with the field names
// that Cloud Logging reads (https://cloud.google.com/logging/docs/structured-logging). A
// line that is logged with a request's context has the request's trace. By the trace, the
// log viewer shows the line below Cloud Run's own line of the request. The trace needs
// the project: if project is empty, lines have no trace.
//
// Lines have no httpRequest. Cloud Run's own line has that field, and only lines without
// it are shown below.
func NewJSONLogger(w io.Writer, level slog.Level, project string) *slog.Logger {
	var handler slog.Handler = slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch a.Key {
			case slog.TimeKey:
				if a.Value.Kind() == slog.KindTime { // an attribute may have this name
					a.Value = slog.TimeValue(a.Value.Time().UTC())
				}
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
	})
	if project != "" {
		handler = traceHandler{root: handler, derive: func(root slog.Handler) slog.Handler { return root }, project: project}
	}
	return slog.New(handler)
}

// A traceHandler adds the trace in a record's context to the record's line. Cloud Logging
// looks for the trace outside of all groups. So a traceHandler keeps the handler without
// groups and attributes, and applies the groups and attributes after it has added the
// trace.
type traceHandler struct {
	root    slog.Handler
	derive  func(root slog.Handler) slog.Handler // applies all WithAttrs and WithGroup so far
	project string
}

func (h traceHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.root.Enabled(ctx, level)
}

func (h traceHandler) Handle(ctx context.Context, r slog.Record) error {
	root := h.root
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		attrs := []slog.Attr{slog.String("logging.googleapis.com/trace", "projects/"+h.project+"/traces/"+span.TraceID().String())}
		if span.HasSpanID() {
			attrs = append(attrs, slog.String("logging.googleapis.com/spanId", span.SpanID().String()))
		}
		root = root.WithAttrs(append(attrs, slog.Bool("logging.googleapis.com/trace_sampled", span.IsSampled())))
	}
	return h.derive(root).Handle(ctx, r)
}

func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(derived slog.Handler) slog.Handler { return derived.WithAttrs(attrs) })
}

func (h traceHandler) WithGroup(name string) slog.Handler {
	return h.with(func(derived slog.Handler) slog.Handler { return derived.WithGroup(name) })
}

// with returns a handler whose derive has one more step.
func (h traceHandler) with(step func(derived slog.Handler) slog.Handler) slog.Handler {
	before := h.derive
	h.derive = func(root slog.Handler) slog.Handler { return step(before(root)) }
	return h
}
