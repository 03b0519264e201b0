package firestorecounters

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	admin "cloud.google.com/go/firestore/apiv1/admin"
	"cloud.google.com/go/firestore/apiv1/admin/adminpb"
	"google.golang.org/api/iterator"
)

// An Admin reads how a database is set up, by the Firestore Admin API. It changes
// nothing. Emulators do not have this API.
type Admin struct {
	client  *admin.FirestoreAdminClient
	path    string
	timeout time.Duration
}

// OpenAdmin returns the database's Admin. The first call connects.
func OpenAdmin(ctx context.Context, config Config) (*Admin, error) {
	a := &Admin{path: config.path(), timeout: config.timeout()}
	options, err := clientOptions(config)
	if err == nil {
		a.client, err = admin.NewFirestoreAdminClient(ctx, options...)
	}
	if err != nil {
		return nil, fmt.Errorf("open the administration of Firestore database %s: %w", a.path, err)
	}
	return a, nil
}

// Close closes the connection.
func (a *Admin) Close() error { return a.client.Close() }

// A DatabaseState is how a database is set up.
type DatabaseState struct {
	Native     bool // not in Datastore mode
	Enterprise bool // the edition, which indexes nothing by itself
}

// Database returns how the database is set up. If there is no database, the error's
// status is NotFound.
func (a *Admin) Database(ctx context.Context) (DatabaseState, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	found, err := a.client.GetDatabase(ctx, &adminpb.GetDatabaseRequest{Name: a.path})
	if err != nil {
		return DatabaseState{}, fmt.Errorf("look at database %s: %w", a.path, err)
	}
	return DatabaseState{
		Native:     found.Type == adminpb.Database_FIRESTORE_NATIVE,
		Enterprise: found.DatabaseEdition == adminpb.Database_ENTERPRISE,
	}, nil
}

// A FieldState is how a database is set up for a field of the shards.
type FieldState struct {
	Field
	Indexed   bool // the field has a single-field index
	Ascending bool // the field has the index that the shards' queries need
	TTLSet    bool // documents expire by the field
}

// Fields returns how the database is set up for each field of the shards. It adds any
// other field by which documents of the shards' collection group expire.
func (a *Admin) Fields(ctx context.Context) ([]FieldState, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	set, err := a.overrides(ctx, ShardsCollection)
	if err != nil {
		return nil, err
	}
	// The indexes of fields that have no setting of their own.
	defaults, err := a.overrides(ctx, "__default__")
	if err != nil {
		return nil, err
	}
	byDefault := automatic
	if all := defaults["*"]; all.GetIndexConfig() != nil {
		byDefault = all.IndexConfig.Indexes
	}
	var states []FieldState
	for _, f := range ShardFields() {
		state := FieldState{Field: f, TTLSet: set[f.Name].GetTtlConfig() != nil}
		indexes := byDefault
		// While a field is being reverted, its default indexes are being built again.
		if config := set[f.Name].GetIndexConfig(); config != nil && !config.UsesAncestorConfig && !config.Reverting {
			indexes = config.Indexes
		}
		state.Indexed = len(indexes) > 0
		for _, index := range indexes {
			state.Ascending = state.Ascending || isAscending(index)
		}
		states = append(states, state)
		delete(set, f.Name)
	}
	for name, other := range set {
		if other.TtlConfig != nil {
			states = append(states, FieldState{Field: Field{Name: name, Index: IndexUnused}, TTLSet: true})
		}
	}
	return states, nil
}

// automatic stands for the indexes that Firestore creates for a field by default.
var automatic = []*adminpb.Index{ascending}

var ascending = &adminpb.Index{
	QueryScope: adminpb.Index_COLLECTION,
	Fields: []*adminpb.Index_IndexField{{
		ValueMode: &adminpb.Index_IndexField_Order_{Order: adminpb.Index_IndexField_ASCENDING},
	}},
}

// isAscending reports whether an index serves the queries of one pipeline's shards.
func isAscending(index *adminpb.Index) bool {
	return index.QueryScope == adminpb.Index_COLLECTION && len(index.Fields) > 0 &&
		index.Fields[0].GetOrder() == adminpb.Index_IndexField_ASCENDING
}

// overrides returns, by name, the fields of a collection group whose setup differs
// from the default.
func (a *Admin) overrides(ctx context.Context, group string) (map[string]*adminpb.Field, error) {
	fields := a.client.ListFields(ctx, &adminpb.ListFieldsRequest{
		Parent: a.path + "/collectionGroups/" + group,
		Filter: "indexConfig.usesAncestorConfig:false OR ttlConfig:*", // the API lists no others
	})
	found := map[string]*adminpb.Field{}
	for {
		field, err := fields.Next()
		if errors.Is(err, iterator.Done) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list the fields of collection group %s: %w", group, err)
		}
		found[strings.Trim(path.Base(field.Name), "`")] = field
	}
}
