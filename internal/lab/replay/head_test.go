package replay

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// classifyingServer answers as Tidemark does: an object with a timestamp is an event.
func classifyingServer(t *testing.T) *server {
	t.Helper()
	return newServer(t, func(w http.ResponseWriter, _ int, body []byte) {
		if strings.Contains(string(message(t, string(body)).Data), "timestamp") {
			fmt.Fprint(w, `{"status": "counted"}`)
			return
		}
		fmt.Fprint(w, `{"status": "dead_letter", "reason": "missing_field", "error": "required key \"ip\" is missing"}`)
	})
}

// A wrong file must not be sent: its lines would become dead letters, which stay in the
// table.
func TestAFileWithoutEventsIsNotSent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ input, want string }{
		"text":                {strings.Repeat("127.0.0.1 - - GET /\n", 375), "none of the first 100 lines is a push body or an event, so nothing was sent: line 1: it is no JSON object"},
		"other JSON":          {strings.Repeat(`{"level": "info"}`+"\n", 375), `line 1: missing_field: required key "ip" is missing`},
		"fewer lines":         {"\n\na,b\n1,2\n", "none of the first 2 lines is a push body or an event, so nothing was sent: line 3: it is no JSON object"},
		"one line":            {"null", "none of the first 1 lines"},
		"long lines":          {strings.Repeat(strings.Repeat("a", 6_000_000)+"\n", 5), "none of the first 3 lines"},
		"lines that are long": {strings.Repeat("a", maxLine+1), "line 1: it is too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := classifyingServer(t)
			o := options(s.URL+"/push?x=1", tt.input)
			o.Anyway = false
			summary, err := Run(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
			if n := len(s.received()); n != 0 || summary.Lines != 0 {
				t.Errorf("%d lines were sent, summary %+v", n, summary)
			}
		})
	}
}

func TestAFileWithAnEventInItsFirstHundredLinesIsSentWhole(t *testing.T) {
	t.Parallel()
	body := pushLine("1", "2026-03-14T09:26:58.401Z", []byte("no event"))
	for name, tt := range map[string]struct {
		first string
		asked int
	}{"an event": {bare, 1}, "a push body": {body, 0}} {
		s := classifyingServer(t)
		o := options(s.URL, strings.Repeat("half a line\n", 99)+tt.first+"\n"+strings.Repeat("{}\n", 200))
		o.Anyway = false
		if summary := replay(t, o); summary.Acknowledged != 300 || len(s.received()) != 300 || s.asked != tt.asked {
			t.Errorf("%s: %d sent and %d asked, summary %+v, want 300 and %d", name, len(s.received()), s.asked, summary, tt.asked)
		}
	}
	for name, input := range map[string]string{
		"asked for":   strings.Repeat("no event\n", 300),
		"no lines":    "",
		"blank lines": "\n \n",
	} {
		s := classifyingServer(t)
		o := options(s.URL, input)
		o.Anyway = name == "asked for"
		if summary := replay(t, o); summary.Acknowledged != strings.Count(input, "no") || s.asked != 0 {
			t.Errorf("%s: %d asked, summary %+v", name, s.asked, summary)
		}
	}
}

// If the server returns no verdict, or refuses the request, it has not said that the line is
// not an event.
func TestOnlyADeadLetterIsNoEvent(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"no verdict": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") },
		"refused":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
	} {
		sent := 0
		s := newServer(t, nil)
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("dry_run") == "" {
				sent++
			}
			answer(w, r)
		})
		o := options(s.URL, bare+"\n"+bare)
		o.Anyway = false
		if summary := replay(t, o); summary.Lines != 2 || sent != 2 {
			t.Errorf("%s: %d sent, summary %+v, want both lines", name, sent, summary)
		}
	}
}
