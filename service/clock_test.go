package service

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-dev/tidemark/internal/memfirestore"
	"github.com/tidemark-dev/tidemark/internal/test/membigquery"
	"github.com/tidemark-dev/tidemark/metrics"
)

// A server compares its own clock with Firestore's whenever Firestore answers.
func TestAClockThatDiffersFromFirestoresIsMeasuredAndWarnedOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ahead time.Duration // how far Firestore's clock is ahead
		warns bool
	}{{0, false}, {50 * time.Second, false}, {-50 * time.Second, false}, {70 * time.Second, true}, {-70 * time.Second, true}, {-time.Hour, true}} {
		t.Run(test.ahead.String(), func(t *testing.T) {
			t.Parallel()
			firestore := memfirestore.New(func() time.Time { return time.Now().Add(test.ahead) })
			rest, grpc := membigquery.New(t).Start(t)
			var log bytes.Buffer
			service, err := New(t.Context(), settingsOf(t, map[string]string{
				"BACKEND": "gcp", "GOOGLE_CLOUD_PROJECT": "my-project", "FIRESTORE_EMULATOR_HOST": firestore.Start(t),
				"BIGQUERY_EMULATOR_HOST": rest, "BIGQUERY_STORAGE_EMULATOR_HOST": grpc,
			}), slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				body := fmt.Sprintf(`{"message": {"data": "eyJpcCI6ICIxOTguNTEuMTAwLjIzIiwgInVzZXJfaWQiOiAiMSIsICJ0aW1lc3RhbXAiOiAiMjAyNi0wMy0xNFQwOToyNjoxMFoiLCAiaHR0cF9yZXF1ZXN0IjogIkdFVCIsICJodHRwX3Jlc3BvbnNlIjogMjAwLCAibnVtX2J5dGVzIjogMSwgInVzZXJfYWdlbnQiOiAiYyJ9", "messageId": "%d", "publishTime": "2026-03-14T09:26:10Z"}}`, i)
				answer := httptest.NewRecorder()
				service.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/push", strings.NewReader(body)))
				if answer.Code != http.StatusOK || !strings.Contains(answer.Body.String(), "counted") {
					t.Fatalf("push: %d %s", answer.Code, answer.Body)
				}
			}
			answer := httptest.NewRecorder()
			service.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil))
			if err := service.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
			found := regexp.MustCompile(`(?m)^tidemark_firestore_clock_ahead_seconds (\S+)$`).FindStringSubmatch(answer.Body.String())
			if found == nil {
				t.Fatalf("no metric of the clock:\n%s", answer.Body)
			}
			// A call takes some time, so the measured difference is a little smaller than
			// the real one.
			if got, _ := strconv.ParseFloat(found[1], 64); math.Abs(got-test.ahead.Seconds()) > 10 || math.Abs(got) > test.ahead.Abs().Seconds() {
				t.Errorf("the metric says %v s, want %v or a little nearer to 0", got, test.ahead.Seconds())
			}
			want := 0
			if test.warns {
				want = 1
			}
			if n := strings.Count(log.String(), "clocks of this machine and of Firestore differ"); n != want {
				t.Errorf("%d warnings, want %d:\n%s", n, want, &log)
			}
		})
	}
}

func TestWarningsOfTheClockAreFew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		clock := clockWatch{log: slog.New(slog.NewTextHandler(&log, nil)), metrics: metrics.New(time.Now)}
		for range 25 * 60 { // one answer a second, for twenty-five minutes
			clock.ahead(-2 * time.Minute)
			time.Sleep(time.Second)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 3 {
			t.Errorf("%d warnings in 25 minutes, want 3", n)
		}
	})
}
