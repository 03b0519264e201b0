package generator

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestValidateTellsEveryProblemWithItsValue(t *testing.T) {
	t.Parallel()
	err := Config{Users: -3, Rate: math.NaN(), Malformed: 1.5, Duplicates: -0.25, Count: -7, Duration: -time.Second}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"users is -3", "rate is NaN", "malformed is 1.5", "duplicates is -0.25", "count is -7", "duration is -1s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 6 {
		t.Errorf("%d problems, want 6:\n%v", n, err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string // part of the error; empty if there must be no error
	}{
		"the default":         {func(*Config) {}, ""},
		"everything":          {func(c *Config) { c.Malformed, c.Duplicates, c.Count, c.Duration = 1, 1, 1, 1 }, ""},
		"no users":            {func(c *Config) { c.Users = 0 }, "users is 0"},
		"most users":          {func(c *Config) { c.Users = 1_000_000 }, ""},
		"too many users":      {func(c *Config) { c.Users = 1_000_001 }, "users is 1000001"},
		"no rate":             {func(c *Config) { c.Rate = 0 }, "rate is 0"},
		"infinite rate":       {func(c *Config) { c.Rate = math.Inf(1) }, "rate is +Inf"},
		"below a microsecond": {func(c *Config) { c.Rate = 1e9 }, "rate 1e+09 events a minute with 10 users"},
		"a microsecond":       {func(c *Config) { c.Rate = 6e8 }, ""},
		"over a year":         {func(c *Config) { c.Rate = 1e-5 }, "rate 1e-05 events a minute"},
		"share not a number":  {func(c *Config) { c.Malformed = math.NaN() }, "malformed is NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Default()
			tt.change(&c)
			err := c.Validate()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("error: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error is %v, want one with %q", err, tt.want)
			}
		})
	}
}
