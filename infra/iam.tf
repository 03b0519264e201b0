# Every grant there is. A test holds this file to a list of who may do what; nothing
# is granted to allUsers, and nothing on the project that could be granted on less.

# Who may call the service. Cloud Run checks this; which route each may call, the
# service checks by PUSH_CALLERS, FLUSH_CALLERS and VIEW_CALLERS (run.tf).
resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = {
    pusher    = google_service_account.pusher.member
    scheduler = google_service_account.scheduler.member
    viewer    = google_service_account.viewer.member
  }

  name     = google_cloud_run_v2_service.tidemark.name
  location = google_cloud_run_v2_service.tidemark.location
  role     = "roles/run.invoker"
  member   = each.value
}

# The running service: appends to its three tables and queries them. It may not create,
# change or delete a table: a table or view that is missing is for whoever runs Terraform.
# The permissions are those that tidemark check looks for, and a test compares them.
resource "google_project_iam_custom_role" "runtime" {
  # The id of a deleted role is taken for 37 days, and make deploy may come sooner after
  # make destroy. So each account has a role of its own id.
  role_id     = "${replace(var.name, "-", "_")}_runtime_${google_service_account.runtime.unique_id}"
  title       = "Tidemark: the running service, on its tables"
  description = "Looks at a table, reads it and appends to it."
  permissions = [
    "bigquery.tables.get",
    "bigquery.tables.getData",
    "bigquery.tables.updateData",
  ]
}

resource "google_bigquery_table_iam_member" "runtime" {
  for_each = {
    raw                  = google_bigquery_table.raw.table_id
    windowed_traffic_log = google_bigquery_table.windowed_traffic_log.table_id
    dead_letter          = google_bigquery_table.dead_letter.table_id
  }

  dataset_id = local.dataset_id
  table_id   = each.value
  role       = google_project_iam_custom_role.runtime.name
  member     = google_service_account.runtime.member
}

# To compare schemas with its own (tidemark check).
resource "google_bigquery_dataset_iam_member" "runtime" {
  dataset_id = local.dataset_id
  role       = "roles/bigquery.metadataViewer"
  member     = google_service_account.runtime.member
}

# To run queries at all. The role reads no data, and exists on projects only.
resource "google_project_iam_member" "runtime_queries" {
  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = google_service_account.runtime.member
}

# Its counters. Firestore's roles exist on projects only; the condition narrows this
# one to the database.
resource "google_project_iam_member" "runtime_counters" {
  project = var.project
  role    = "roles/datastore.user"
  member  = google_service_account.runtime.member

  condition {
    title       = "${var.name}-counters"
    description = "The database of Tidemark's counters only."
    expression  = "resource.name == \"projects/${var.project}/databases/${google_firestore_database.counters.name}\""
  }
}

# Pub/Sub signs the tokens of its pushes as the pusher. (Cloud Scheduler may do the
# same for the scheduler by its service agent's own role.) In a new project the agent
# comes with the first topic.
resource "google_service_account_iam_member" "pubsub_signs_as_pusher" {
  service_account_id = google_service_account.pusher.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  depends_on         = [google_pubsub_topic.events]

  # A project keeps its number. But a plan that enables an API does not know it yet, and
  # would take this grant away for a moment.
  lifecycle {
    ignore_changes = [member]
  }
}

# People become the viewer, who may call the service and nothing else. (Identity tokens
# are all they need, but gcloud gets itself an access token first, so the role that
# makes only the former, serviceAccountOpenIdTokenCreator, is not enough for it.)
resource "google_service_account_iam_member" "people_view" {
  for_each = setunion(var.viewers, var.deployer == "" ? [] : [var.deployer])

  service_account_id = google_service_account.viewer.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value
}

# The build: reads its source, writes the image and its log.
resource "google_storage_bucket_iam_member" "builder_reads_source" {
  bucket = google_storage_bucket.builds.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.builder.member
}

resource "google_artifact_registry_repository_iam_member" "builder_writes_images" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builder.member
}

resource "google_project_iam_member" "builder_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.builder.member
}
