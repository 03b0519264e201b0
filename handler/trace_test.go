package handler_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/tidemark-dev/tidemark/flush"
	"github.com/tidemark-dev/tidemark/handler"
)

// The log lines of a request have the trace that is in the request's headers. If the
// headers are malformed, they have no trace.
func TestARequestIsPartOfItsTrace(t *testing.T) {
	t.Parallel()
	const (
		id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
		w3c        = "00-" + id + "-" + parent + "-01"
		older      = "105445aa7843bc8bf206b12000100000"
	)
	for _, tc := range []struct {
		traceparent, cloud string
		trace, span        string // empty if the line must not have it
		sampled            bool
	}{
		{"", "", "", "", false},
		{w3c, "", id, parent, true},
		{"00-" + id + "-" + parent + "-00", "", id, parent, false},
		{w3c, older + "/1;o=0", id, parent, true}, // the W3C header has precedence
		{"01-" + id + "-" + parent + "-01-more", "", id, parent, true},
		{"", older + "/1;o=1", older, "0000000000000001", true},
		{"", older + "/74;o=0", older, "000000000000004a", false},
		{"", older + "/18446744073709551615", older, "ffffffffffffffff", false},
		{"", older, older, "", false},
		{"", older + "/", older, "", false},
		{"", older + "/0;o=1", older, "", true},
		{"", older + ";o=1", older, "", true},
		{"00-" + id + "-" + parent, older + "/1;o=1", older, "0000000000000001", true}, // a malformed header is ignored
		{"00-00000000000000000000000000000000-" + parent + "-01", "", "", "", false},
		{"00-" + id + "-0000000000000000-01", "", "", "", false},
		{"ff-" + id + "-" + parent + "-01", "", "", "", false},
		{"00-4BF92F3577B34DA6A3CE929D0E0E4736-" + parent + "-01", "", "", "", false},
		{"00-" + id[1:] + "-" + parent + "-01", "", "", "", false},
		{w3c + "-more", "", "", "", false},
		{id, "", "", "", false},
		{"", "00000000000000000000000000000000/1;o=1", "", "", false},
		{"", older[1:] + "/1;o=1", "", "", false},
		{"", older + "/one;o=1", "", "", false},
		{"", older + "/-1;o=1", "", "", false},
		{"", older + "/18446744073709551616;o=1", "", "", false},
		{"", older + "/1;o=yes", "", "", false},
		{"", older + "/1;p=1", "", "", false},
		{"", "\"/../" + older, "", "", false},
	} {
		var span trace.SpanContext
		f := newFixture(t, func(c *handler.Config) {
			c.Flush = func(ctx context.Context) flush.Report {
				span = trace.SpanContextFromContext(ctx)
				return flush.Report{}
			}
		})
		r := post("/flush", "")
		for name, value := range map[string]string{"Traceparent": tc.traceparent, "X-Cloud-Trace-Context": tc.cloud} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		f.do(r)
		gotTrace, gotSpan := "", ""
		if span.HasTraceID() {
			gotTrace = span.TraceID().String()
		}
		if span.HasSpanID() {
			gotSpan = span.SpanID().String()
		}
		if gotTrace != tc.trace || gotSpan != tc.span || span.IsSampled() != tc.sampled {
			t.Errorf("traceparent %q, X-Cloud-Trace-Context %q: trace %q, span %q, sampled %v; want %q, %q, %v",
				tc.traceparent, tc.cloud, gotTrace, gotSpan, span.IsSampled(), tc.trace, tc.span, tc.sampled)
		}
	}
}
