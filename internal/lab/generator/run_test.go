package generator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A recorder is a server that keeps the deliveries.
type recorder struct {
	mu         sync.Mutex
	deliveries []Delivery
	took       []time.Time // when each delivery arrived
}

func (r *recorder) publish(_ context.Context, d Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deliveries = append(r.deliveries, d)
	r.took = append(r.took, time.Now())
	return nil
}

// The clock of a synctest bubble is exact. So Run and Simulate yield the same stream, and Run
// makes each delivery when it is due.
func TestRunIsTheSimulatedStreamPacedByTheClock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"without lag": config(500, func(c *Config) { c.Start = time.Time{} }),
		"with faults": config(500, func(c *Config) { c.Start = time.Time{}; withEverything(c) }),
		"a duration":  config(0, func(c *Config) { c.Lag, c.Duration = true, 5*time.Minute }),
		"fast":        config(5000, func(c *Config) { c.Users, c.Rate, c.Lag = 1000, 600_000, true }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				simulated := c
				simulated.Start = time.Now()
				want := simulate(t, simulated, time.Time{})

				var got recorder
				if err := Run(t.Context(), c, Options{Publish: got.publish, Concurrency: 1}); err != nil {
					t.Fatal(err)
				}
				if lines(got.deliveries) != lines(want) {
					t.Fatalf("deliveries (-simulated +real):\n%s", cmp.Diff(want, got.deliveries))
				}
				for i, d := range got.deliveries {
					if late := got.took[i].Sub(d.At); late < 0 || late >= time.Microsecond {
						t.Fatalf("delivery due at %v arrives at %v", d.At, got.took[i])
					}
				}
			})
		})
	}
}

func TestEndOfContextPublishesWhatIsHeld(t *testing.T) {
	t.Parallel()
	const length = 5 * time.Minute
	for _, seed := range []uint64{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), length)
			defer cancel()
			c := config(0, func(c *Config) { c.Lag, c.Duplicates, c.Seed = true, 0.3, seed })
			simulated := c
			simulated.Start, simulated.Duration = time.Now(), length
			want := simulate(t, simulated, time.Time{})

			var got recorder
			began := time.Now()
			publish := func(ctx context.Context, d Delivery) error {
				if ctx.Err() != nil {
					t.Errorf("message %s has a context that is over", d.Message.ID)
				}
				return got.publish(ctx, d)
			}
			if err := Run(ctx, c, Options{Publish: publish, Concurrency: 1}); err != nil {
				t.Fatal(err)
			}
			if lines(got.deliveries) != lines(want) {
				t.Errorf("deliveries (-simulated +real):\n%s", cmp.Diff(want, got.deliveries))
			}
			if ran := time.Since(began); ran != length {
				t.Errorf("ran for %v, want %v", ran, length)
			}
		})
	}
}

// Messages are delivered when they are due, even if the server is slow with others.
func TestSlowServerDoesNotHoldUpTheSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const concurrency = 4
		var got recorder
		var running, most int
		publish := func(ctx context.Context, d Delivery) error {
			got.mu.Lock()
			running++
			most = max(most, running)
			got.mu.Unlock()
			time.Sleep(20 * time.Second) // so the calls take 12 messages a minute, and the users create 120
			got.mu.Lock()
			running--
			got.mu.Unlock()
			return got.publish(ctx, d)
		}
		c := config(600, nil)
		if err := Run(t.Context(), c, Options{Publish: publish, Concurrency: concurrency}); err != nil {
			t.Fatal(err)
		}
		if len(got.deliveries) != c.Count {
			t.Errorf("%d deliveries, want %d", len(got.deliveries), c.Count)
		}
		if most != concurrency {
			t.Errorf("%d calls at once, want %d", most, concurrency)
		}
		first, last := got.deliveries[0].At, got.deliveries[0].At
		for _, d := range got.deliveries {
			if d.At.After(last) {
				last = d.At
			}
		}
		if length := last.Sub(first); length < 4*time.Minute || length > 6*time.Minute {
			t.Errorf("the messages were created within %v, want about 5 minutes", length)
		}
	})
}

// A process that was stopped for a time must not make up for it with a burst.
func TestStreamDoesNotCatchUpWithAStall(t *testing.T) {
	t.Parallel()
	const stall = time.Hour
	now := start
	stalled := false
	sleep := func(ctx context.Context, d time.Duration) error {
		now = now.Add(d)
		if !stalled && now.Sub(start) > 5*time.Minute {
			stalled = true
			now = now.Add(stall)
		}
		return ctx.Err()
	}
	var got recorder
	c := config(0, func(c *Config) { c.Duration = stall + 10*time.Minute })
	options := Options{Publish: got.publish, Concurrency: 1, Now: func() time.Time { return now }, Sleep: sleep}
	if err := Run(t.Context(), c, options); err != nil {
		t.Fatal(err)
	}
	within(t, "messages in ten minutes", float64(len(got.deliveries)), 1200, 60)
	for _, d := range got.deliveries {
		if at := d.At.Sub(start); at > 5*time.Minute+10*time.Second && at < 5*time.Minute+stall {
			t.Fatalf("a message is of the time of the stall: %v after the start", at)
		}
	}
}

// Timers that fire a little late do not lower the rate.
func TestLateTimersDoNotAddUp(t *testing.T) {
	t.Parallel()
	now := start
	sleep := func(ctx context.Context, d time.Duration) error {
		now = now.Add(d + 2*time.Millisecond)
		return ctx.Err()
	}
	var got recorder
	c := config(0, func(c *Config) { c.Rate, c.Duration = 60_000, 10*time.Second })
	options := Options{Publish: got.publish, Concurrency: 1, Now: func() time.Time { return now }, Sleep: sleep}
	if err := Run(t.Context(), c, options); err != nil {
		t.Fatal(err)
	}
	within(t, "messages in ten seconds", float64(len(got.deliveries)), 10_000, 300)
}

func TestErrorOfPublishEndsTheRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		calls := 0
		err := Run(t.Context(), config(0, withLag), Options{Concurrency: 1, Publish: func(context.Context, Delivery) error {
			if calls++; calls == 100 {
				return refused
			}
			return nil
		}})
		if !errors.Is(err, refused) || !strings.Contains(err.Error(), "publish message ") {
			t.Errorf("error is %v, want the one of publish with the message's id", err)
		}
		if calls != 100 {
			t.Errorf("%d calls of publish, want none after the one that failed, the 100th", calls)
		}
	})
}

// If the server is unavailable when the run ends, the run waits for it, but no longer
// than the grace.
func TestGraceBoundsTheEndOfARun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		comesBack time.Duration // after the end of the context
		wantErr   bool
	}{
		{9 * time.Second, false},
		{11 * time.Second, true},
	} {
		t.Run(fmt.Sprint(tt.comesBack), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const length = time.Minute
				ctx, cancel := context.WithTimeout(t.Context(), length)
				defer cancel()
				began := time.Now()
				back := make(chan struct{})
				time.AfterFunc(length+tt.comesBack, func() { close(back) })
				var got recorder
				publish := func(ctx context.Context, d Delivery) error {
					select {
					case <-back:
						return got.publish(ctx, d)
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				err := Run(ctx, config(0, withLag), Options{Publish: publish, Concurrency: 3})
				ran := time.Since(began)
				if !tt.wantErr {
					if err != nil || ran != length+tt.comesBack || len(got.deliveries) < 100 {
						t.Errorf("%d deliveries after %v, %v, want all when the server is back", len(got.deliveries), ran, err)
					}
					return
				}
				if !errors.Is(err, errGrace) || !strings.Contains(err.Error(), "deliveries were not published") || ran != length+DefaultGrace {
					t.Errorf("ended after %v with %v, want an error that tells how many, when the grace is over", ran, err)
				}
			})
		})
	}
}

// After the count is reached, there is no time limit for redeliveries.
func TestEndByCountWaitsForTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got recorder
		publish := func(ctx context.Context, d Delivery) error {
			time.Sleep(time.Hour)
			return got.publish(ctx, d)
		}
		if err := Run(t.Context(), config(200, withLag), Options{Publish: publish}); err != nil {
			t.Fatal(err)
		}
		if len(got.deliveries) != 200 {
			t.Errorf("%d deliveries, want 200", len(got.deliveries))
		}
	})
}

// A full backlog pauses the stream. No message is dropped.
func TestFullBacklogPausesTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		back := make(chan struct{})
		time.AfterFunc(time.Hour, func() { close(back) })
		var got recorder
		publish := func(ctx context.Context, d Delivery) error {
			<-back
			return got.publish(ctx, d)
		}
		c := config(0, func(c *Config) { c.Rate, c.Duration = 60_000, 2*time.Hour })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour+10*time.Second)
		defer cancel()
		began := time.Now()
		if err := Run(ctx, c, Options{Publish: publish, Concurrency: 1}); err != nil {
			t.Fatal(err)
		}
		early := 0
		for _, d := range got.deliveries {
			if d.At.Sub(began) < time.Hour {
				early++
			}
		}
		if early < maxBacklog || early > maxBacklog+2 {
			t.Errorf("%d messages created while the server was away, want %d", early, maxBacklog)
		}
		within(t, "messages in the ten seconds after", float64(len(got.deliveries)-early), 10_000, 500)
	})
}

func TestRunChecksItsConfiguration(t *testing.T) {
	t.Parallel()
	if err := Run(t.Context(), Config{}, Options{}); err == nil || !strings.Contains(err.Error(), "users is 0") {
		t.Errorf("error is %v", err)
	}
}
