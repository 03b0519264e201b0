package firestorecounters

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/windowstore/sharded"
)

// The requests must use the fields exactly as the documentation of ShardFields says.
func TestShardFieldsAreThoseOfTheRequests(t *testing.T) {
	t.Parallel()
	d := &documents{Database: &Database{path: "projects/p/databases/d"}, name: "n"}
	merge := d.mergeWrite(sharded.ShardWrite{Name: "s", Window: time.Unix(60, 0), Key: "1", Batch: []byte{1}})
	settle := d.settleWrite(sharded.ShardInfo{Name: "s"}, time.Unix(60, 0))
	queries := []*pb.StructuredQuery{d.pendingQuery(sharded.Cursor{}, time.Unix(60, 0), 1), windowQuery(time.Unix(60, 0))}

	var written, asked []string
	for _, write := range []*pb.Write{merge, settle} {
		var masked []string
		for _, path := range write.UpdateMask.FieldPaths {
			name, _, _ := strings.Cut(path, ".")
			masked = append(masked, name)
		}
		written = append(written, masked...)
		for _, transform := range write.UpdateTransforms {
			written = append(written, transform.FieldPath)
		}
		for name := range write.GetUpdate().Fields {
			if !slices.Contains(masked, name) {
				t.Errorf("field %s has a value and is not in the mask, so it is not written", name)
			}
		}
	}
	for _, query := range queries {
		asked = append(asked, query.Where.GetFieldFilter().Field.FieldPath)
		for _, order := range query.OrderBy {
			if order.Field.FieldPath != fieldName {
				asked = append(asked, order.Field.FieldPath)
			}
		}
	}

	var all, needed, exempt, ttl []string
	for _, f := range ShardFields() {
		all = append(all, f.Name)
		switch f.Index {
		case IndexNeeded:
			needed = append(needed, f.Name)
		case IndexExempt:
			exempt = append(exempt, f.Name)
		}
		if f.TTL {
			ttl = append(ttl, f.Name)
		}
	}
	for _, test := range []struct {
		what      string
		got, want []string
	}{
		{"fields that requests write", written, all},
		{"fields that queries filter or order by", asked, needed},
		{"fields that need an index", needed, []string{"pending", "window"}},
		{"fields that are exempt from indexes", exempt, []string{"batches", "expire_at"}},
		{"TTL fields", ttl, []string{"expire_at"}},
	} {
		if diff := cmp.Diff(set(test.want), set(test.got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.what, diff)
		}
	}
	if _, ok := settle.GetUpdate().Fields[ttl[0]]; !ok {
		t.Error("settling does not set the TTL field")
	}
	if _, ok := merge.GetUpdate().Fields[ttl[0]]; ok {
		t.Error("adding sets the TTL field")
	}
}

func set(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

func TestRetryPausesMoreAndMoreUntilItSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		n := 0
		err := retry(t, time.Minute, func(*attempt) error {
			if n++; n <= 10 {
				return status.Error(codes.Aborted, "contention")
			}
			return nil
		})
		if took := time.Since(began); err != nil || took == 0 || took > 10*5*time.Second {
			t.Errorf("retry: %v after %v", err, took)
		}
	})
}

func TestRetryEndsAtTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := retry(t, 10*time.Second, func(*attempt) error { return status.Error(codes.ResourceExhausted, "quota") })
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("retry took %v, want 10s", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "quota") {
			t.Errorf("retry: %v, want the deadline and the last answer", err)
		}
	})
}

// retry retries the call within the timeout.
func retry(t *testing.T, timeout time.Duration, call func(*attempt) error) error {
	t.Helper()
	db, err := Open(t.Context(), Config{Project: "p", EmulatorHost: "127.0.0.1:1"}) // nobody listens there
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return db.retry(ctx, call)
}
