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

// cloudTrace is Google's older header for traces. Some of Google's services still send
// only this header (https://cloud.google.com/trace/docs/trace-context).
const cloudTrace = "X-Cloud-Trace-Context"

// withTrace returns the context with the trace that the request belongs to, so that a
// user can find the log lines of a request together. It ignores a malformed header.
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

// parseCloudTrace reads TRACE/SPAN;o=1. TRACE is 32 hexadecimal digits, SPAN a decimal
// number, and o=1 means that the trace is sampled. SPAN and o may be missing.
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
