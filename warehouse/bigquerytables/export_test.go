package bigquerytables

import (
	"context"

	"github.com/tidemark-dev/tidemark/warehouse"
)

// Append appends rows, which need not be what Tidemark would append.
func (b *Warehouse) Append(ctx context.Context, table warehouse.Table, rows []warehouse.Row) error {
	return b.append(ctx, table, rows)
}
