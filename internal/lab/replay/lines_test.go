package replay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/event"
)

func TestLongLines(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	var log bytes.Buffer
	longest := `{"x": "` + strings.Repeat("a", maxLine-9) + `"}`
	o := options(s.URL, longest+"\n"+longest+"bc\n"+bare)
	o.Log = &log
	summary := replay(t, o)
	if got := s.received(); len(got) != 2 || string(message(t, got[0]).Data) != longest || string(message(t, got[1]).Data) != bare {
		t.Errorf("%d bodies, want the first line and the last", len(got))
	}
	if summary.Lines != 3 || summary.NotAcknowledged != 1 || !strings.Contains(log.String(), "line 2, given up: longer than") {
		t.Errorf("summary %+v, log %q, want line 2 given up", summary, &log)
	}
}

// Pub/Sub's largest message has 10 MB. With base64 and the envelope, its line has nearly
// 14 MB.
func TestTheLargestMessageOfPubSubIsSent(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	data := `{"x": "` + strings.Repeat("a", 10<<20-9) + `"}`
	summary := replay(t, options(s.URL, pushLine("1", "2026-03-14T09:26:58.401Z", []byte(data))+"\n"))
	if got := s.received(); len(got) != 1 || len(message(t, got[0]).Data) != 10<<20 || summary.NotAcknowledged != 0 {
		t.Errorf("%d bodies arrived, summary %+v, want the message", len(got), summary)
	}
}

func TestADamagedGzipFileIsSaidToBeDamaged(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	whole := []byte(zipped(t, strings.Repeat(bare+"\n", 100)))
	for name, tt := range map[string]struct {
		input []byte
		want  string
	}{
		"the header is cut off":   {whole[:5], "read the beginning of the gzip file: the gzip file ends too early, so it is not whole"},
		"the checksum is wrong":   {append(bytes.Clone(whole[:len(whole)-8]), 0, 0, 0, 0, 0, 0, 0, 0), "read line 101: the gzip file is damaged"},
		"the method is not known": {append([]byte{0x1f, 0x8b, 7}, whole[3:]...), "read the beginning of the gzip file: the gzip file is damaged"},
	} {
		if _, err := Run(t.Context(), options(s.URL, string(tt.input))); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestInputThatBreaksOffIsAnErrorAfterWhatWasRead(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&lines, "{\"n\": %d, \"x\": %q}\n", i, event.DerivedID([]byte(fmt.Sprint(i)), nil))
	}
	whole := zipped(t, lines.String())
	s := newServer(t, nil)
	summary, err := Run(t.Context(), options(s.URL, whole[:len(whole)/2]))
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), fmt.Sprintf("read line %d:", summary.Lines+1)) {
		t.Errorf("error is %v, want that the end was not expected, and where", err)
	}
	if summary.Lines == 0 || summary.Acknowledged != summary.Lines || len(s.received()) != summary.Lines {
		t.Errorf("summary is %+v, want all that was read acknowledged", summary)
	}
	for _, body := range s.received() {
		if data := message(t, body).Data; !bytes.HasSuffix(data, []byte("}")) {
			t.Errorf("half a line was sent: %q", data)
		}
	}
}
