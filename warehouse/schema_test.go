package warehouse_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemark-dev/tidemark/event"
	"github.com/tidemark-dev/tidemark/internal/lab/accesslog"
	"github.com/tidemark-dev/tidemark/warehouse"
)

func TestRawBeginsWithTheLabsColumns(t *testing.T) {
	t.Parallel()
	want := []string{
		"ip", "user_id", "user_agent", "lat", "lng", "event_timestamp", "processing_timestamp",
		"http_request", "http_response", "num_bytes",
	}
	var got []string
	for _, c := range warehouse.RawTable(accesslog.Layout()).Columns[:len(want)] {
		got = append(got, c.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTablesAreWholeAndPartitionedByTheirOwnColumns(t *testing.T) {
	t.Parallel()
	for _, table := range warehouse.Tables(accesslog.Layout()) {
		seen := map[string]bool{}
		for _, c := range table.Columns {
			if c.Name == "" || c.Type == "" || c.Description == "" || seen[c.Name] {
				t.Errorf("%s: column %+v is not whole, or is there twice", table.Name, c)
			}
			seen[c.Name] = true
		}
		for _, by := range []string{table.PartitionBy, table.ClusterBy} {
			isColumn := slices.ContainsFunc(table.Columns, func(c warehouse.Column) bool {
				return c.Name == by && c.Type == warehouse.Timestamp && !c.Nullable
			})
			if by != "" && !isColumn {
				t.Errorf("%s: %s is not a required TIMESTAMP column of it", table.Name, by)
			}
		}
	}
}

func TestPartsAreTheDataInOrderAndAtLeastOne(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ size, parts int }{
		{0, 1}, {1, 1},
		{warehouse.MaxPart - 1, 1}, {warehouse.MaxPart, 1}, {warehouse.MaxPart + 1, 2},
		{2 * warehouse.MaxPart, 2}, {2*warehouse.MaxPart + 1, 3},
	} {
		data := make([]byte, tc.size)
		for i := range data {
			data[i] = byte(i ^ i>>8 ^ i>>16 ^ i>>22)
		}
		parts := warehouse.DeadLetter{Message: event.Message{Data: data}}.Parts()
		if len(parts) != tc.parts {
			t.Errorf("%d bytes are %d parts, want %d", tc.size, len(parts), tc.parts)
		}
		var joined []byte
		for i, part := range parts {
			if n := len(part.Message.Data); n > warehouse.MaxPart || part.Part != int64(i+1) || part.Parts != int64(tc.parts) {
				t.Errorf("part %d of %d bytes has %d and is %d of %d", i+1, tc.size, n, part.Part, part.Parts)
			}
			joined = append(joined, part.Message.Data...)
		}
		if !bytes.Equal(joined, data) {
			t.Errorf("the parts of %d bytes are not the data", tc.size)
		}
	}
}

func TestStorableTimeIsTheTimeUpToTheLastInstant(t *testing.T) {
	t.Parallel()
	last := time.Date(9999, time.December, 31, 23, 59, 59, 999_999_000, time.UTC)
	for _, tc := range []struct{ t, want time.Time }{
		{time.Time{}, time.Time{}},
		{last.Add(-time.Microsecond), last.Add(-time.Microsecond)},
		{last, last},
		{last.Add(time.Nanosecond), last},
		{last.Add(time.Microsecond), last},
		{last.Add(24 * time.Hour), last},
	} {
		if got := warehouse.StorableTime(tc.t); !got.Equal(tc.want) {
			t.Errorf("StorableTime(%v) = %v, want %v", tc.t, got, tc.want)
		}
	}
}
