package check

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/windowstore"
	"github.com/tidemark-dev/tidemark/windowstore/firestorecounters"
)

// firestore checks the counters in Firestore.
func (c *checker) firestore(ctx context.Context) []Finding {
	s := c.settings
	config := service.FirestoreConfig(s)
	if c.firestoreHost != "" {
		config.EmulatorHost = c.firestoreHost
	}
	if s.FirestoreEmulator != "" {
		return append([]Finding{warning(nil, "Firestore emulator at %s: TTL and index exemptions are not checked, for an emulator has neither", s.FirestoreEmulator)},
			c.documents(ctx, config)...)
	}
	adminConfig := config
	if c.adminHost != "" {
		adminConfig.EmulatorHost = c.adminHost
	}
	admin, err := firestorecounters.OpenAdmin(ctx, adminConfig)
	if err != nil {
		return []Finding{c.failed("Firestore", err)}
	}
	defer admin.Close()
	database, state, usable := c.database(ctx, admin)
	if !usable {
		return []Finding{database}
	}
	findings := append([]Finding{database}, c.documents(ctx, config)...)
	return append(findings, c.fields(ctx, admin, state)...)
}

func (c *checker) databaseTitle() string {
	return "Firestore database " + c.settings.FirestoreDatabase + " of project " + c.settings.Project
}

// database checks that the database exists. It returns usable as false only if it is
// certain that the database can keep nothing.
func (c *checker) database(ctx context.Context, admin *firestorecounters.Admin) (f Finding, state firestorecounters.DatabaseState, usable bool) {
	state, err := admin.Database(ctx)
	switch {
	case status.Code(err) == codes.NotFound:
		return c.missingDatabase(), state, false
	case isDenied(err):
		return c.undetermined(c.databaseTitle()+": how it is set up", err), state, true
	case err != nil:
		return c.failed(c.databaseTitle(), err), state, disabledService(err) == ""
	case !state.Native:
		return problem([]string{
			c.createDatabase("tidemark"),
			"FIRESTORE_DATABASE=tidemark",
		}, "%s: it is in Datastore mode, want native mode", c.databaseTitle()), state, false
	}
	return ok("%s: in native mode", c.databaseTitle()), state, true
}

func (c *checker) missingDatabase() Finding {
	return problem([]string{c.createDatabase(c.settings.FirestoreDatabase), "-- REGION is where the service runs, as us-central1"}, "%s: it does not exist", c.databaseTitle())
}

func (c *checker) createDatabase(name string) string {
	return "gcloud firestore databases create --project=" + c.settings.Project + " --database=" + shellQuote(name) + " --location=REGION --type=firestore-native"
}

// documents checks that documents can be read and written, and that the settings fit the
// pipeline's record.
func (c *checker) documents(ctx context.Context, config firestorecounters.Config) []Finding {
	counters, err := service.OpenFirestore(ctx, c.settings, config)
	if err != nil {
		return []Finding{c.failed(c.databaseTitle(), err)}
	}
	defer counters.Close()
	record, readable := c.record(ctx, counters)
	if !readable {
		return []Finding{record}
	}
	return []Finding{record, c.write(ctx, counters)}
}

func (c *checker) record(ctx context.Context, counters service.FirestoreCounters) (f Finding, readable bool) {
	recorded, err := counters.Recorded(ctx)
	if mismatch, found := errors.AsType[*windowstore.MeaningError](err); found {
		return c.meaningProblem(mismatch), true
	}
	switch {
	case status.Code(err) == codes.NotFound:
		return c.missingDatabase(), false
	case isDenied(err):
		return problem([]string{c.grantOnProject("roles/datastore.user")}, "%s: %s may not read it", c.databaseTitle(), c.account), false
	case err != nil:
		return c.failed(c.databaseTitle(), err), false
	case !recorded:
		return ok("pipeline %q: will be recorded by the first push", c.settings.Pipeline), true
	}
	return ok("pipeline %q: on record with these settings", c.settings.Pipeline), true
}

func (c *checker) write(ctx context.Context, counters service.FirestoreCounters) Finding {
	err := counters.TryWrite(ctx, c.settings.Pipeline)
	switch {
	case isDenied(err):
		return problem([]string{c.grantOnProject("roles/datastore.user")}, "%s: %s may read it and not write it", c.databaseTitle(), c.account)
	case err != nil:
		return c.failed(c.databaseTitle(), err)
	case c.settings.FirestoreEmulator != "":
		return ok("%s: documents can be read and written", c.databaseTitle())
	}
	return ok("%s: %s may read and write documents", c.databaseTitle(), c.account)
}

// fields checks the indexes and the TTL of the shards. Only two faults are problems: an
// index that a query needs is missing, or a TTL deletes what is still to be counted.
// Without a TTL, settled shards are never deleted. An unnecessary index makes writes
// slower. With two index entries a batch and one batch a second, a document of one window
// reaches the limit of 40,000 entries after five hours, and then only that one commit is
// refused.
func (c *checker) fields(ctx context.Context, admin *firestorecounters.Admin, database firestorecounters.DatabaseState) []Finding {
	group := "collection group " + firestorecounters.ShardsCollection
	states, err := admin.Fields(ctx)
	switch {
	case isDenied(err):
		return []Finding{c.undetermined(group+": whether its TTL and index exemptions are set", err)}
	case err != nil:
		return []Finding{c.failed(group, err)}
	}
	var findings []Finding
	if database.Enterprise {
		findings = append(findings, warning([]string{"use a database of the Standard edition, or index by hand: " + strings.Join(needed(states), ", ")},
			"%s: the database is of the Enterprise edition, which indexes nothing by itself; indexes are not checked", group))
	}
	for _, f := range states {
		findings = append(findings, c.ttl(group, f)...)
		if !database.Enterprise {
			findings = append(findings, c.index(group, f)...)
		}
	}
	return findings
}

func needed(states []firestorecounters.FieldState) []string {
	var names []string
	for _, f := range states {
		if f.Index == firestorecounters.IndexNeeded {
			names = append(names, f.Name)
		}
	}
	return names
}

func (c *checker) ttl(group string, f firestorecounters.FieldState) []Finding {
	update := c.updateField("fields ttls", f.Name)
	switch {
	case f.TTL && f.TTLSet:
		return []Finding{ok("%s: documents expire by %s", group, f.Name)}
	case f.TTL:
		return []Finding{warning([]string{update + " --enable-ttl"}, "%s: documents do not expire by %s, so that settled counters are never deleted", group, f.Name)}
	case f.TTLSet:
		return []Finding{problem([]string{update + " --disable-ttl"}, "%s: documents expire by %s, so that counters are deleted that are still to be counted", group, f.Name)}
	}
	return nil
}

func (c *checker) index(group string, f firestorecounters.FieldState) []Finding {
	update := c.updateField("indexes fields", f.Name)
	switch {
	case f.Index == firestorecounters.IndexNeeded && !f.Ascending:
		return []Finding{problem([]string{update + " --index=order=ASCENDING"}, "%s: %s has no ascending index, without which no flush finds a window", group, f.Name)}
	case f.Index == firestorecounters.IndexNeeded:
		return []Finding{ok("%s: %s is indexed", group, f.Name)}
	case f.Index == firestorecounters.IndexExempt && f.Indexed:
		return []Finding{warning([]string{update + " --disable-indexes"}, "%s: %s is indexed, so that each write is slower and takes more storage", group, f.Name)}
	case f.Index == firestorecounters.IndexExempt:
		return []Finding{ok("%s: %s is exempt from indexes", group, f.Name)}
	}
	return nil
}

func (c *checker) updateField(command, field string) string {
	return "gcloud firestore " + command + " update " + shellQuote(field) + " --project=" + c.settings.Project +
		" --database=" + shellQuote(c.settings.FirestoreDatabase) + " --collection-group=" + firestorecounters.ShardsCollection
}
