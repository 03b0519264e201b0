package check

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"cloud.google.com/go/firestore/apiv1/admin/adminpb"
	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tidemark-dev/tidemark/internal/test/emulator"
	"github.com/tidemark-dev/tidemark/internal/test/membigquery"
	"github.com/tidemark-dev/tidemark/pipeline"
	"github.com/tidemark-dev/tidemark/service"
	"github.com/tidemark-dev/tidemark/warehouse/bigquerytables"
	"github.com/tidemark-dev/tidemark/windowstore/firestorecounters"
)

// A fakeProject is a fake of Google's APIs that shows a project in the state that a test
// gives it. Its answers follow this documentation:
//   - https://docs.cloud.google.com/bigquery/docs/reference/rest/v2/datasets/get and tables/get
//   - https://docs.cloud.google.com/bigquery/docs/reference/rest/v2/tables/testIamPermissions
//   - https://docs.cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1
//   - https://docs.cloud.google.com/resource-manager/reference/rest/v1/projects/testIamPermissions
//   - https://docs.cloud.google.com/firestore/docs/reference/rpc/google.firestore.admin.v1
//   - https://docs.cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1
type fakeProject struct {
	adminpb.UnimplementedFirestoreAdminServer
	pb.UnimplementedFirestoreServer
	storagepb.UnimplementedBigQueryWriteServer

	mu        sync.Mutex
	location  string                    // of the dataset; empty if there is no dataset
	tables    map[string]map[string]any // tables and views: resources by name
	onTables  []string                  // the caller's permissions on tables
	onProject []string
	errors    map[string]error // errors of calls, by the end of their path or method

	database  *adminpb.Database // nil if there is no database
	fields    map[string][]*adminpb.Field
	pipelines []*pb.Document
	writable  bool

	changes []string // requests that would change something
}

// newProject returns a project as the Terraform in infra/ creates it, seen by its owner.
func newProject(t *testing.T) *fakeProject {
	t.Helper()
	exempt := &adminpb.Field_IndexConfig{}
	p := &fakeProject{
		location: "US", tables: map[string]map[string]any{},
		onTables:  []string{"bigquery.tables.get", "bigquery.tables.getData", "bigquery.tables.updateData"},
		onProject: []string{"bigquery.jobs.create", "bigquery.datasets.create", "bigquery.tables.create"},
		errors:    map[string]error{},
		database:  &adminpb.Database{Type: adminpb.Database_FIRESTORE_NATIVE, DatabaseEdition: adminpb.Database_STANDARD},
		writable:  true,
	}
	group := "projects/my-project/databases/(default)/collectionGroups/" + firestorecounters.ShardsCollection
	p.fields = map[string][]*adminpb.Field{group: {
		{Name: group + "/fields/batches", IndexConfig: exempt},
		{Name: group + "/fields/expire_at", IndexConfig: exempt, TtlConfig: &adminpb.Field_TtlConfig{State: adminpb.Field_TtlConfig_ACTIVE}},
	}}
	c := p.checker(t, nil)
	config := service.BigQueryConfig(c.settings)
	config.RESTHost = c.bigQueryHost
	tables, err := bigquerytables.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	if err := tables.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.changes = nil
	return p
}

// field returns the configuration of a field of the shards, or nil if the field has none.
func (p *fakeProject) field(name string) *adminpb.Field {
	for group, fields := range p.fields {
		for _, f := range fields {
			if f.Name == group+"/fields/"+name {
				return f
			}
		}
	}
	return nil
}

// setField adds a configuration of a field of the shards.
func (p *fakeProject) setField(f *adminpb.Field) {
	for group := range p.fields {
		f.Name = group + "/fields/" + f.Name
		p.fields[group] = append(p.fields[group], f)
		return
	}
}

// checker serves the project. It returns a checker that checks the project as
// jane@example.com.
func (p *fakeProject) checker(t *testing.T, environment map[string]string) *checker {
	t.Helper()
	all := map[string]string{"BACKEND": "gcp", "GOOGLE_CLOUD_PROJECT": "my-project"}
	for name, value := range environment {
		all[name] = value
	}
	rest := httptest.NewServer(p)
	t.Cleanup(rest.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	adminpb.RegisterFirestoreAdminServer(server, p)
	pb.RegisterFirestoreServer(server, p)
	storagepb.RegisterBigQueryWriteServer(server, p)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return &checker{
		settings:     settingsOf(t, all),
		who:          func(context.Context) (account, error) { return account{"user:jane@example.com"}, nil },
		bigQueryHost: strings.TrimPrefix(rest.URL, "http://"), projectsURL: rest.URL, storageHost: listener.Addr().String(),
		firestoreHost: listener.Addr().String(), adminHost: listener.Addr().String(),
	}
}

func (p *fakeProject) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var request map[string]any
	_ = json.NewDecoder(r.Body).Decode(&request) // a GET has no body
	test := strings.HasSuffix(r.URL.Path, ":testIamPermissions")
	if r.Method != http.MethodGet && !test {
		p.changes = append(p.changes, r.Method+" "+r.URL.Path)
	}
	answer := func(code int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(body)
	}
	for path, err := range p.errors {
		if strings.HasSuffix(r.URL.Path, path) {
			answer(http.StatusForbidden, restBody(http.StatusForbidden, err))
			return
		}
	}
	dataset := "/bigquery/v2/projects/my-project/datasets/logs"
	name, isTable := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, ":testIamPermissions"), dataset+"/tables/")
	notFound := restBody(http.StatusNotFound, status.Error(codes.NotFound, "Not found: "+r.URL.Path))
	switch {
	case r.URL.Path == "/v1/projects/my-project:testIamPermissions":
		answer(http.StatusOK, map[string]any{"permissions": both(request["permissions"].([]any), p.onProject)})
	case isTable && test && p.tables[name] == nil:
		answer(http.StatusOK, map[string]any{}) // the documentation says that this is not a 404
	case isTable && test:
		answer(http.StatusOK, map[string]any{"permissions": both(request["permissions"].([]any), p.onTables)})
	case p.location == "", isTable && p.tables[name] == nil:
		answer(http.StatusNotFound, notFound)
	case isTable:
		answer(http.StatusOK, p.tables[name])
	case r.URL.Path == dataset:
		answer(http.StatusOK, map[string]any{"location": p.location})
	case r.URL.Path == dataset+"/tables":
		request["type"] = "TABLE"
		if request["view"] != nil {
			request["type"] = "VIEW"
		}
		p.tables[request["tableReference"].(map[string]any)["tableId"].(string)] = request
		answer(http.StatusOK, request)
	default:
		answer(http.StatusNotFound, notFound)
	}
}

// restBody returns an error in the form that https://cloud.google.com/apis/design/errors
// describes.
func restBody(code int, err error) any {
	s := status.Convert(err)
	var details []any
	for _, d := range s.Details() {
		info := d.(*errdetails.ErrorInfo)
		details = append(details, map[string]any{
			"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": info.Reason, "domain": info.Domain, "metadata": info.Metadata,
		})
	}
	return map[string]any{"error": map[string]any{"code": code, "message": s.Message(), "status": rpccode.Code(s.Code()).String(), "details": details,
		"errors": []any{map[string]any{"domain": "global", "reason": "forbidden", "message": s.Message()}},
	}}
}

// both returns the permissions that are in both lists.
func both(asked []any, has []string) []string {
	found := []string{}
	for _, p := range asked {
		if slices.Contains(has, p.(string)) {
			found = append(found, p.(string))
		}
	}
	return found
}

// denied is the error with which Google's APIs refuse a call. disabled is their error if
// the project does not use the API:
// https://cloud.google.com/service-usage/docs/enabled-service.
var denied = status.Error(codes.PermissionDenied, "Missing or insufficient permissions.")

func disabled(service string) error {
	s, err := status.New(codes.PermissionDenied, "it has not been used in project 1 before or it is disabled").WithDetails(
		&errdetails.ErrorInfo{Reason: "SERVICE_DISABLED", Domain: "googleapis.com", Metadata: map[string]string{"service": service}})
	if err != nil {
		panic(err)
	}
	return s.Err()
}

func (p *fakeProject) GetWriteStream(_ context.Context, r *storagepb.GetWriteStreamRequest) (*storagepb.WriteStream, error) {
	if err := p.errors["GetWriteStream"]; err != nil {
		return nil, err
	}
	if r.Name != "projects/my-project/datasets/logs/tables/raw/streams/_default" {
		return nil, status.Errorf(codes.NotFound, "Requested entity was not found. Entity: %s", r.Name)
	}
	return &storagepb.WriteStream{Name: r.Name, Location: "us"}, nil
}

// AppendRows accepts a connection, records it as a change, and refuses it.
func (p *fakeProject) AppendRows(stream storagepb.BigQueryWrite_AppendRowsServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes = append(p.changes, "AppendRows")
	return denied
}

func (p *fakeProject) GetDatabase(_ context.Context, r *adminpb.GetDatabaseRequest) (*adminpb.Database, error) {
	if err := p.errors["GetDatabase"]; err != nil {
		return nil, err
	}
	if p.database == nil {
		return nil, status.Errorf(codes.NotFound, "Project 'my-project' or database '(default)' does not exist: %s", r.Name)
	}
	return p.database, nil
}

func (p *fakeProject) ListFields(_ context.Context, r *adminpb.ListFieldsRequest) (*adminpb.ListFieldsResponse, error) {
	if err := p.errors["ListFields"]; err != nil {
		return nil, err
	}
	if r.Filter != "indexConfig.usesAncestorConfig:false OR ttlConfig:*" {
		return nil, status.Errorf(codes.InvalidArgument, "only fields that are overridden can be listed, not %q", r.Filter)
	}
	return &adminpb.ListFieldsResponse{Fields: p.fields[r.Parent]}, nil
}

func (p *fakeProject) RunQuery(r *pb.RunQueryRequest, stream pb.Firestore_RunQueryServer) error {
	if err := p.errors["RunQuery"]; err != nil {
		return err
	}
	if p.database == nil {
		return status.Error(codes.NotFound, "The database (default) does not exist for project my-project")
	}
	for _, doc := range p.pipelines {
		if err := stream.Send(&pb.RunQueryResponse{Document: doc, ReadTime: timestamppb.Now()}); err != nil {
			return err
		}
	}
	return stream.Send(&pb.RunQueryResponse{ReadTime: timestamppb.Now()})
}

// Commit applies nothing. A write whose document must exist fails, since there are no
// documents.
func (p *fakeProject) Commit(_ context.Context, r *pb.CommitRequest) (*pb.CommitResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.writable {
		return nil, denied
	}
	for _, w := range r.Writes {
		if w.CurrentDocument.GetExists() {
			return nil, status.Errorf(codes.NotFound, "No document to update: %s", w.GetUpdate().Name)
		}
	}
	p.changes = append(p.changes, "Commit")
	return &pb.CommitResponse{}, nil
}

func textValue(s string) *pb.Value {
	return &pb.Value{ValueType: &pb.Value_StringValue{StringValue: s}}
}

func TestCheckFindsNothingWrongWithWhatInfraMakes(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	findings := p.checker(t, nil).run(t.Context())
	var got []string
	for _, f := range findings {
		if f.Do != nil {
			t.Errorf("%s: to do %q", f.What, f.Do)
		}
		got = append(got, f.Level.String()+" "+f.What)
	}
	want := []string{
		"ok pipeline file: " + pipeline.LabFile().String(),
		"ok credentials of user:jane@example.com: permissions below are that account's",
		"ok project my-project: user:jane@example.com may run queries",
		"ok dataset my-project.logs: as this version creates it",
		"ok table my-project.logs.raw: as this version creates it",
		"ok table my-project.logs.raw: user:jane@example.com may append to it and read it",
		"ok Storage Write API: the stream of my-project.logs.raw opens",
		"ok table my-project.logs.windowed_traffic_log: as this version creates it",
		"ok table my-project.logs.windowed_traffic_log: user:jane@example.com may append to it and read it",
		"ok table my-project.logs.dead_letter: as this version creates it",
		"ok table my-project.logs.dead_letter: user:jane@example.com may append to it and read it",
		"ok view my-project.logs.events: as this version creates it",
		"ok view my-project.logs.windowed_traffic: as this version creates it",
		"ok view my-project.logs.dead_letters: as this version creates it",
		"ok Firestore database (default) of project my-project: in native mode",
		`ok pipeline "minute-traffic": will be recorded by the first push`,
		"ok Firestore database (default) of project my-project: user:jane@example.com may read and write documents",
		"ok collection group counter_shards: window is indexed",
		"ok collection group counter_shards: pending is indexed",
		"ok collection group counter_shards: batches is exempt from indexes",
		"ok collection group counter_shards: documents expire by expire_at",
		"ok collection group counter_shards: expire_at is exempt from indexes",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if p.changes != nil {
		t.Errorf("check changes the project: %q", p.changes)
	}
}

func TestCheckFindsProblemsOnGoogleCloud(t *testing.T) {
	t.Parallel()
	const grantCounters = "gcloud projects add-iam-policy-binding my-project --member=user:jane@example.com --role=roles/datastore.user"
	updateField := func(command, field string) string {
		return "gcloud firestore " + command + " update " + field + " --project=my-project --database='(default)' --collection-group=counter_shards"
	}
	column := func(p *fakeProject, table, name string) map[string]any {
		for _, f := range p.tables[table]["schema"].(map[string]any)["fields"].([]any) {
			if f := f.(map[string]any); f["name"] == name {
				return f
			}
		}
		return nil
	}
	for name, test := range map[string]struct {
		damage      func(*fakeProject)
		environment map[string]string
		level       Level
		what, do    string
	}{
		"no dataset": {
			damage: func(p *fakeProject) { p.location = "" },
			level:  OK, what: "dataset my-project.logs: will be created by the first push, in US",
		},
		"no dataset, and none may be made": {
			damage: func(p *fakeProject) { p.location = ""; p.onProject = p.onProject[:1] },
			level:  Problem, what: "may not create it (bigquery.datasets.create)", do: "bq --project_id=my-project --location=US mk --dataset logs",
		},
		"no dataset, and who knows": {
			damage: func(p *fakeProject) { p.location = ""; p.errors[":testIamPermissions"] = denied },
			level:  Warning, what: "dataset my-project.logs: it does not exist, and whether user:jane@example.com may create it is not known", do: "mk --dataset logs",
		},
		"the dataset is elsewhere": {
			damage: func(p *fakeProject) { p.location = "EU" },
			level:  Problem, what: "dataset my-project.logs: it is in EU, and BIGQUERY_LOCATION is US", do: "BIGQUERY_LOCATION=EU",
		},
		"the dataset is elsewhere by letters only": {
			environment: map[string]string{"BIGQUERY_LOCATION": "us"},
			level:       OK, what: "dataset my-project.logs: as this version creates it",
		},
		"no table": {
			damage: func(p *fakeProject) { delete(p.tables, "raw"); delete(p.tables, "events") },
			level:  OK, what: "table my-project.logs.raw: will be created by the first push",
		},
		"no table, and who knows": {
			damage: func(p *fakeProject) { delete(p.tables, "raw"); p.onProject = p.onProject[:1] },
			level:  Warning, what: "which is not known (bigquery.tables.create)", do: "GRANT `roles/bigquery.dataEditor` ON SCHEMA `my-project.logs` TO \"user:jane@example.com\"",
		},
		"no view with its table": {
			damage: func(p *fakeProject) { delete(p.tables, "raw"); delete(p.tables, "events") },
			level:  OK, what: "view my-project.logs.events: will be created by the first push or flush that needs it",
		},
		"no view alone": {
			damage: func(p *fakeProject) { delete(p.tables, "events") },
			level:  OK, what: "view my-project.logs.events: will be created by the first push or flush that needs it",
		},
		"a stale view": {
			damage: func(p *fakeProject) { p.tables["events"]["view"].(map[string]any)["query"] = "SELECT 1" },
			level:  Warning, what: "view my-project.logs.events: its query is not the one", do: "CREATE OR REPLACE VIEW `my-project.logs.events`",
		},
		"a view that is not told": {
			damage: func(p *fakeProject) { delete(p.tables["events"], "view") },
			level:  Warning, what: "view my-project.logs.events: its query is not told",
		},
		"a missing column": {
			damage: func(p *fakeProject) { column(p, "raw", "user_id")["name"] = "user" },
			level:  Problem, what: "table my-project.logs.raw: column user_id STRING is missing", do: "ALTER TABLE `my-project.logs.raw` ADD COLUMN `user_id` STRING;",
		},
		"a time as text, as in the lab's table": {
			damage: func(p *fakeProject) { column(p, "raw", "event_timestamp")["type"] = "STRING" },
			level:  Problem, what: "table my-project.logs.raw: column event_timestamp is STRING, want TIMESTAMP", do: "choose another DATASET",
		},
		"the lab's aggregate": {
			damage: func(p *fakeProject) {
				p.tables["windowed_traffic"] = map[string]any{"type": "TABLE", "schema": map[string]any{}}
			},
			level: Problem, what: "view my-project.logs.windowed_traffic: it is a TABLE, want a view", do: "RENAME TO windowed_traffic_old;",
		},
		"a table that is not partitioned": {
			damage: func(p *fakeProject) { delete(p.tables["raw"], "timePartitioning") },
			level:  Warning, what: "table my-project.logs.raw: it is not partitioned by day of processing_timestamp", do: "PARTITION BY TIMESTAMP_TRUNC(processing_timestamp, DAY)\nCLUSTER BY window_start",
		},
		"a table that is not clustered": {
			damage: func(p *fakeProject) { delete(p.tables["windowed_traffic_log"], "clustering") },
			level:  Warning, what: "it is not clustered by timestamp", do: "bq update --clustering_fields=timestamp my-project:logs.windowed_traffic_log",
		},
		"a table that wants a filter": {
			damage: func(p *fakeProject) { p.tables["raw"]["requirePartitionFilter"] = true },
			level:  Problem, what: "requires a filter", do: "SET OPTIONS (require_partition_filter = FALSE);",
		},
		"no permission on tables": {
			damage: func(p *fakeProject) { p.onTables = p.onTables[:2] },
			level:  Problem, what: "table my-project.logs.raw: user:jane@example.com lacks bigquery.tables.updateData",
			do: "GRANT `roles/bigquery.dataEditor` ON TABLE `my-project.logs.raw` TO \"user:jane@example.com\";",
		},
		"permissions on tables cannot be asked for": {
			damage: func(p *fakeProject) { p.errors["/tables/raw:testIamPermissions"] = denied },
			level:  Warning, what: "table my-project.logs.raw: what user:jane@example.com may do there could not be found out",
		},
		"a table that may not be looked at": {
			damage: func(p *fakeProject) { p.errors["/tables/raw"] = denied },
			level:  Warning, what: "table my-project.logs.raw could not be found out", do: "GRANT `roles/bigquery.metadataViewer` ON SCHEMA `my-project.logs`",
		},
		"no queries": {
			damage: func(p *fakeProject) { p.onProject = nil },
			level:  Problem, what: "may not run queries (bigquery.jobs.create)",
			do: "gcloud projects add-iam-policy-binding my-project --member=user:jane@example.com --role=roles/bigquery.jobUser",
		},
		"permissions on the project cannot be asked for": {
			damage: func(p *fakeProject) {
				p.errors["my-project:testIamPermissions"] = disabled("cloudresourcemanager.googleapis.com")
			},
			level: Warning, what: "may do there could not be found out", do: "gcloud services enable cloudresourcemanager.googleapis.com --project=my-project",
		},
		"BigQuery is not enabled": {
			damage: func(p *fakeProject) { p.errors["/datasets/logs"] = disabled("bigquery.googleapis.com") },
			level:  Problem, what: "dataset my-project.logs: it has not been used", do: "gcloud services enable bigquery.googleapis.com --project=my-project",
		},
		"the stream is denied": {
			damage: func(p *fakeProject) { p.errors["GetWriteStream"] = denied },
			level:  Warning, what: "Storage Write API: whether the stream of my-project.logs.raw opens could not be found out", do: "--impersonate-service-account=ACCOUNT",
		},
		"the Storage Write API is not enabled": {
			damage: func(p *fakeProject) { p.errors["GetWriteStream"] = disabled("bigquerystorage.googleapis.com") },
			level:  Problem, what: "Storage Write API: ", do: "gcloud services enable bigquerystorage.googleapis.com --project=my-project",
		},
		"the Storage Write API is not needed": {
			damage:      func(p *fakeProject) { p.errors["GetWriteStream"] = denied },
			environment: map[string]string{"RAW_METHOD": "insert_all"},
			level:       OK, what: "table my-project.logs.raw: as this version creates it",
		},

		"no database": {
			damage: func(p *fakeProject) { p.database = nil },
			level:  Problem, what: "Firestore database (default) of project my-project: it does not exist",
			do: "gcloud firestore databases create --project=my-project --database='(default)' --location=REGION --type=firestore-native",
		},
		"no database, and its state may not be looked at": {
			damage: func(p *fakeProject) { p.database = nil; p.errors["GetDatabase"] = denied },
			level:  Problem, what: "it does not exist", do: "gcloud firestore databases create",
		},
		"Datastore mode": {
			damage: func(p *fakeProject) { p.database.Type = adminpb.Database_DATASTORE_MODE },
			level:  Problem, what: "it is in Datastore mode", do: "FIRESTORE_DATABASE=tidemark",
		},
		"Firestore is not enabled": {
			damage: func(p *fakeProject) { p.errors["GetDatabase"] = disabled("firestore.googleapis.com") },
			level:  Problem, what: "Firestore database", do: "gcloud services enable firestore.googleapis.com --project=my-project",
		},
		"counters may not be read": {
			damage: func(p *fakeProject) { p.errors["RunQuery"] = denied },
			level:  Problem, what: "user:jane@example.com may not read it", do: grantCounters,
		},
		"counters may not be written": {
			damage: func(p *fakeProject) { p.writable = false },
			level:  Problem, what: "user:jane@example.com may read it and not write it", do: grantCounters,
		},
		"the pipeline means something else": {
			damage: func(p *fakeProject) {
				p.pipelines = []*pb.Document{{
					Name: "projects/my-project/databases/(default)/documents/pipelines/minute-traffic",
					Fields: map[string]*pb.Value{
						"window_duration": textValue("1m0s"), "event_time": textValue("publish"), "event_id": textValue("message"),
						"raw_table": textValue("logs.raw"), "agg_table": textValue("logs.windowed_traffic"),
					},
				}}
			},
			level: Problem, what: "EVENT_TIME is publish on record and payload in this process", do: "start afresh with a new name in PIPELINE",
		},
		"no TTL": {
			damage: func(p *fakeProject) { p.field("expire_at").TtlConfig = nil },
			level:  Warning, what: "documents do not expire by expire_at", do: updateField("fields ttls", "expire_at") + " --enable-ttl",
		},
		"no exemption": {
			damage: func(p *fakeProject) { p.field("batches").IndexConfig = nil },
			level:  Warning, what: "batches is indexed", do: updateField("indexes fields", "batches") + " --disable-indexes",
		},
		"an exemption that is being taken back": {
			damage: func(p *fakeProject) { p.field("batches").IndexConfig.Reverting = true },
			level:  Warning, what: "batches is indexed", do: "--disable-indexes",
		},
		"TTL alone, without its exemption": {
			damage: func(p *fakeProject) {
				p.field("expire_at").IndexConfig = &adminpb.Field_IndexConfig{UsesAncestorConfig: true}
			},
			level: Warning, what: "expire_at is indexed", do: updateField("indexes fields", "expire_at") + " --disable-indexes",
		},
		"an index that is needed": {
			damage: func(p *fakeProject) {
				p.setField(&adminpb.Field{Name: "window", IndexConfig: &adminpb.Field_IndexConfig{}})
			},
			level: Problem, what: "window has no ascending index", do: updateField("indexes fields", "window") + " --index=order=ASCENDING",
		},
		"no index by default": {
			damage: func(p *fakeProject) {
				group := "projects/my-project/databases/(default)/collectionGroups/__default__"
				p.fields[group] = []*adminpb.Field{{Name: group + "/fields/*", IndexConfig: &adminpb.Field_IndexConfig{}}}
			},
			level: Problem, what: "pending has no ascending index", do: "--index=order=ASCENDING",
		},
		"TTL of a field that means something else": {
			damage: func(p *fakeProject) {
				p.setField(&adminpb.Field{Name: "pending", TtlConfig: &adminpb.Field_TtlConfig{}})
			},
			level: Problem, what: "documents expire by pending", do: updateField("fields ttls", "pending") + " --disable-ttl",
		},
		"TTL of a field that is none of ours": {
			damage: func(p *fakeProject) {
				p.setField(&adminpb.Field{Name: "created", TtlConfig: &adminpb.Field_TtlConfig{}})
			},
			level: Problem, what: "documents expire by created", do: "--disable-ttl",
		},
		"fields may not be looked at": {
			damage: func(p *fakeProject) { p.errors["ListFields"] = denied },
			level:  Warning, what: "whether its TTL and index exemptions are set could not be found out", do: "--impersonate-service-account=ACCOUNT",
		},
		"another edition": {
			damage: func(p *fakeProject) { p.database.DatabaseEdition = adminpb.Database_ENTERPRISE },
			level:  Warning, what: "Enterprise edition", do: "window, pending",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t)
			if test.damage != nil {
				test.damage(p)
			}
			findings := p.checker(t, test.environment).run(t.Context())
			wantFinding(t, findings, test.level, test.what, test.do)
			warnings, problems := levels(findings)
			if (problems > 0) != (test.level == Problem) || test.level == OK && warnings > 0 {
				t.Errorf("%d warnings, %d problems, want the worst to be a %v:\n%s", warnings, problems, test.level, listing(findings))
			}
			if test.environment["RAW_METHOD"] == "insert_all" && strings.Contains(listing(findings), "Storage Write API") {
				t.Errorf("a finding is about an API that is not used:\n%s", listing(findings))
			}
			for _, part := range []string{"dataset", "Firestore"} {
				if !strings.Contains(listing(findings), part) {
					t.Errorf("no finding is about the %s:\n%s", part, listing(findings))
				}
			}
			if p.changes != nil {
				t.Errorf("check changes the project: %q", p.changes)
			}
		})
	}
}

// If an API does not answer, this is a problem, since no push could be stored.
func TestCheckFindsThatTheStorageWriteAPIIsOutOfReach(t *testing.T) {
	t.Parallel()
	c := newProject(t).checker(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := service.BigQueryConfig(c.settings)
	config.RESTHost, config.GRPCHost = c.bigQueryHost, listener.Addr().String()
	listener.Close()
	tables, err := bigquerytables.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer tables.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // the call is retried until then
	defer cancel()
	check := &bigQueryCheck{checker: c, tables: tables, stream: true}
	raw := bigquerytables.Object{Kind: bigquerytables.BaseTable, Name: "raw", ID: "my-project.logs.raw"}
	findings := check.object(ctx, raw)
	wantFinding(t, findings, Problem, "Storage Write API: open the default stream: ", "see whether this machine reaches the service")
}

// The emulator of Firestore has documents, but no administration API.
func TestCheckOnAnEmulatorOfFirestore(t *testing.T) {
	t.Parallel()
	host := emulator.Firestore(t)
	rest, grpc := membigquery.New(t).Start(t)
	environment := map[string]string{
		"BACKEND": "gcp", "GOOGLE_CLOUD_PROJECT": emulator.Project(), "FIRESTORE_EMULATOR_HOST": host,
		"BIGQUERY_EMULATOR_HOST": rest, "BIGQUERY_STORAGE_EMULATOR_HOST": grpc,
	}
	for range 2 { // check itself records nothing, so the second time gives the same
		findings := Run(t.Context(), settingsOf(t, environment))
		wantFinding(t, findings, OK, `pipeline "minute-traffic": will be recorded by the first push`, "")
		wantFinding(t, findings, OK, "documents can be read and written", "")
		wantFinding(t, findings, Warning, "Firestore emulator at "+host+": TTL and index exemptions are not checked", "")
		wantFinding(t, findings, Warning, "BigQuery emulator at "+rest+": permissions are not checked", "")
		if warnings, problems := levels(findings); warnings != 2 || problems != 0 {
			t.Errorf("findings:\n%s", listing(findings))
		}
	}
	start(t, environment)
	wantFinding(t, Run(t.Context(), settingsOf(t, environment)), OK, `pipeline "minute-traffic": on record`, "")
	environment["WINDOW_DURATION"] = "10s"
	wantFinding(t, Run(t.Context(), settingsOf(t, environment)), Problem, "WINDOW_DURATION is 60s on record and 10s", "")
}
