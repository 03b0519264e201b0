package generator

import (
	"encoding/json"
	"testing"
)

func TestRecordIsTheLabsToTheByte(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		record record
		want   string
	}{
		"browser": {
			record: record{
				identity: identity{ip: "198.51.100.23", userID: "-6120394857710293846", lat: 48.8566, lng: 2.3522,
					userAgent: "Mozilla/5.0 (Windows; U; Windows NT 6.1) AppleWebKit/534.18.4 (KHTML"},
				timestamp: "2026-03-14T09:26:53.589793Z", page: "fungi.html", numBytes: 287,
			},
			want: `{"ip": "198.51.100.23", "user_id": "-6120394857710293846", "lat": 48.8566, "lng": 2.3522, "timestamp": "2026-03-14T09:26:53.589793Z", "http_request": "\"GET fungi.html HTTP/1.0\"", "http_response": 200, "num_bytes": 287, "user_agent": "Mozilla/5.0 (Windows; U; Windows NT 6.1) AppleWebKit/534.18.4 (KHTML"}`,
		},
		"south of the equator": {
			record: record{
				identity: identity{ip: "203.0.113.77", userID: "2749103586627415093", lat: -33.8688, lng: 151.2093,
					userAgent: "Opera/8.61.(Windows NT 6.0; pt-BR) Presto/2.9.181 Version/12.00"},
				timestamp: "2026-03-14T09:25:41.020406Z", page: "eucharya.html", numBytes: 412,
			},
			want: `{"ip": "203.0.113.77", "user_id": "2749103586627415093", "lat": -33.8688, "lng": 151.2093, "timestamp": "2026-03-14T09:25:41.020406Z", "http_request": "\"GET eucharya.html HTTP/1.0\"", "http_response": 200, "num_bytes": 412, "user_agent": "Opera/8.61.(Windows NT 6.0; pt-BR) Presto/2.9.181 Version/12.00"}`,
		},
		"whole degrees and an agent beyond ASCII": {
			record: record{
				identity:  identity{ip: "192.0.2.1", userID: "7", lat: 48, lng: -0.5, userAgent: "Café 😀"},
				timestamp: "2026-03-14T09:00:00.000000Z", page: "home.html", numBytes: 100,
			},
			want: `{"ip": "192.0.2.1", "user_id": "7", "lat": 48.0, "lng": -0.5, "timestamp": "2026-03-14T09:00:00.000000Z", "http_request": "\"GET home.html HTTP/1.0\"", "http_response": 200, "num_bytes": 100, "user_agent": "Caf\u00e9 \ud83d\ude00"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := string(tt.record.encode()); got != tt.want {
				t.Errorf("record is\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// The wanted texts are the output of Python's json.dumps.
func TestStringsAreEscapedAsInPython(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":              `""`,
		"plain / <&> '": `"plain / <&> '"`,
		`say "hi" \ no`: `"say \"hi\" \\ no"`,
		"\b\f\n\r\t":    `"\b\f\n\r\t"`,
		"\x00\x1f\x7f":  `"\u0000\u001f\u007f"`,
		"é€\u2028":      `"\u00e9\u20ac\u2028"`,
		"😀\U0010ffff":   `"\ud83d\ude00\udbff\udfff"`,
	} {
		got := string(appendString(nil, s))
		if got != want {
			t.Errorf("%q is written %s, want %s", s, got, want)
		}
		var back string
		if err := json.Unmarshal([]byte(got), &back); err != nil || back != s {
			t.Errorf("%s reads back as %q, %v, want %q", got, back, err, s)
		}
	}
}

func TestFloatsAlwaysHaveAPoint(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{0: "0.0", 48: "48.0", -122: "-122.0", 2.3522: "2.3522", -0.1257: "-0.1257", 0.0001: "0.0001", 100: "100.0"} {
		if got := string(appendFloat(nil, x)); got != want {
			t.Errorf("%v is written %s, want %s", x, got, want)
		}
	}
}
