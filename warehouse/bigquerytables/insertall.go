package bigquerytables

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// maxInsertRows is the most rows of one streaming insert, according to BigQuery's
// documentation.
const maxInsertRows = 50_000

// An inserter appends by streaming inserts.
type inserter struct {
	dataset *bigquery.Dataset
	layout  warehouse.Layout
}

func (n *inserter) requests(t warehouse.Table, rows []warehouse.Row) ([]request, error) {
	return cut(rows, maxInsertRows, func(i int) int { return jsonSize(t, rows[i]) }), nil
}

func (n *inserter) send(ctx context.Context, t warehouse.Table, r request) error {
	savers := make([]bigquery.ValueSaver, len(r.rows))
	for i, row := range r.rows {
		savers[i] = saver{t, row, n.insertID(t, row)}
	}
	err := n.dataset.Table(t.Name).Inserter().Put(ctx, savers)
	var rows bigquery.PutMultiError
	if errors.As(err, &rows) {
		return insertRefusal(rows)
	}
	if isInvalid(err) {
		return &refusal{err: err, tooLarge: len(savers) == 1 && savers[0].(saver).size() > maxRequest}
	}
	return restError(err)
}

func (n *inserter) close() error { return nil }

// isInvalid reports whether the whole request is one that can never succeed.
func isInvalid(err error) bool {
	api, ok := errors.AsType[*googleapi.Error](err)
	return ok && (api.Code == http.StatusBadRequest || api.Code == http.StatusRequestEntityTooLarge)
}

// insertRefusal returns the refusal of the rows that are at fault. One bad row stops
// the whole request, and the other rows come back with the reason "stopped". If any
// reason is passing, nothing is refused permanently.
func insertRefusal(rows bigquery.PutMultiError) error {
	refused := &refusal{rows: map[int]error{}, err: errors.New("streaming insert refused")}
	for _, row := range rows {
		for _, err := range row.Errors {
			switch reason := reasonOf(err); reason {
			case "stopped":
			case "invalid":
				refused.rows[row.RowIndex] = err
				refused.unseen = refused.unseen || strings.Contains(err.Error(), "no such field")
			default:
				return fmt.Errorf("row %d of a streaming insert: %w", row.RowIndex, err)
			}
		}
	}
	return refused
}

func reasonOf(err error) string {
	if e, ok := errors.AsType[*bigquery.Error](err); ok {
		return e.Reason
	}
	return ""
}

// A saver is a row in the form that the client takes.
type saver struct {
	table    warehouse.Table
	row      warehouse.Row
	insertID string
}

// size returns how many bytes the row is in a request.
func (s saver) size() int {
	values, id, _ := s.Save()
	text, err := json.Marshal(map[string]any{"insertId": id, "json": values})
	if err != nil {
		return 0
	}
	return len(text)
}

func (s saver) Save() (map[string]bigquery.Value, string, error) {
	values := make(map[string]bigquery.Value, len(s.row))
	for i, value := range s.row {
		if value != nil {
			values[s.table.Columns[i].Name] = jsonValue(value)
		}
	}
	return values, s.insertID, nil
}

// insertID returns an id by which BigQuery may recognize, for about a minute, a row
// that is sent again. For a raw row the id is computed from its message, window and
// lateness; for other rows, from the whole row without its data. The id is a digest,
// because a message id may be longer than the 128 characters of an insert id.
func (n *inserter) insertID(t warehouse.Table, row warehouse.Row) string {
	hash := sha256.New()
	for i, c := range t.Columns {
		if t.Name == n.layout.Raw && c.Name != "message_id" && c.Name != "window_start" && c.Name != "is_late" {
			continue
		}
		switch v := row[i].(type) {
		case []byte: // part and time of receipt distinguish the rows
		case time.Time:
			fmt.Fprintf(hash, "%d;", v.UnixMicro())
		default:
			fmt.Fprintf(hash, "%q;", fmt.Sprint(v))
		}
	}
	return base64.RawURLEncoding.EncodeToString(hash.Sum(nil))
}
