package strictjson_test

import (
	"strings"
	"testing"

	"github.com/tidemark-dev/tidemark/internal/strictjson"
)

func TestQuoteCutsOnlyWhatIsLong(t *testing.T) {
	t.Parallel()
	account := strings.Repeat("a", 30) + "@" + strings.Repeat("p", 30) + ".iam.gserviceaccount.com" // the longest possible
	long := strings.Repeat("x", 128)
	for text, want := range map[string]string{
		"":           `""`,
		"a\n\"b\x00": `"a\n\"b\x00"`,
		account:      `"` + account + `"`,
		"https://" + strings.Repeat("s", 49) + "-123456789012.northamerica-northeast1.run.app": `"https://` + strings.Repeat("s", 49) + `-123456789012.northamerica-northeast1.run.app"`,
		long:       `"` + long + `"`,
		long + "y": `"` + long + `"...`,
	} {
		if got := strictjson.Quote(text); got != want {
			t.Errorf("Quote(%q) = %s, want %s", text, got, want)
		}
	}
}
