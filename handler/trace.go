package handler

import (
	"context"
	"encoding/binary"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// cloudTrace is Google's older header of a trace, which some of its services still
// send alone (https://cloud.google.com/trace/docs/trace-context).
const cloudTrace = "X-Cloud-Trace-Context"

// withTrace returns the context with the trace that the request says it is part of, so
// that the log lines of a request can be found together. A header that is malformed
// is as good as none.
func withTrace(ctx context.Context, header http.Header) context.Context {
	traced := propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(header))
	if trace.SpanContextFromContext(traced).IsValid() {
		return traced
	}
	if span, ok := parseCloudTrace(header.Get(cloudTrace)); ok {
		return trace.ContextWithRemoteSpanContext(ctx, span)
	}
	return ctx
}

// parseCloudTrace reads TRACE/SPAN;o=1, of which all but the trace may be missing: 32
// hexadecimal digits, a decimal number, and whether the trace is sampled.
func parseCloudTrace(value string) (trace.SpanContext, bool) {
	value, options, _ := strings.Cut(value, ";o=")
	id, span, _ := strings.Cut(value, "/")
	var config trace.SpanContextConfig
	var err error
	if config.TraceID, err = trace.TraceIDFromHex(id); err != nil {
		return trace.SpanContext{}, false
	}
	if span != "" {
		number, err := strconv.ParseUint(span, 10, 64)
		if err != nil {
			return trace.SpanContext{}, false
		}
		binary.BigEndian.PutUint64(config.SpanID[:], number)
	}
	switch options {
	case "", "0":
	case "1":
		config.TraceFlags = trace.FlagsSampled
	default:
		return trace.SpanContext{}, false
	}
	return trace.NewSpanContext(config), true
}
