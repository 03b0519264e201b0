# All grants. A test compares this file with a list of who may do what. Nothing is granted
# to allUsers. A grant is on the project only if no smaller resource is possible.

# Who may call the service. Cloud Run checks this grant. The service then checks which
# routes the account may call (PUSH_CALLERS, FLUSH_CALLERS and VIEW_CALLERS in run.tf).
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

# The running service appends to its three tables and queries them. The service may not
# create, change or delete a table: if a table or view is missing, run Terraform. These
# are the permissions that tidemark check looks for; a test compares them.
resource "google_project_iam_custom_role" "runtime" {
  # Google keeps the id of a deleted role for 37 days. The id contains the account's unique
  # id, so that make deploy also works soon after make destroy.
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

# The service compares the tables' schemas with its own (tidemark check).
resource "google_bigquery_dataset_iam_member" "runtime" {
  dataset_id = local.dataset_id
  role       = "roles/bigquery.metadataViewer"
  member     = google_service_account.runtime.member
}

# The service runs queries. This role gives no access to data, and can be granted only on
# a project.
resource "google_project_iam_member" "runtime_queries" {
  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = google_service_account.runtime.member
}

# The service reads and writes its counters. Firestore's roles can be granted only on a
# project; the condition limits this grant to the database.
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

# Pub/Sub signs the tokens of its pushes as the pusher. (For the scheduler no grant is
# needed: the role of Cloud Scheduler's own account allows the same.) In a new project,
# Pub/Sub's account exists only after the first topic.
resource "google_service_account_iam_member" "pubsub_signs_as_pusher" {
  service_account_id = google_service_account.pusher.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  depends_on         = [google_pubsub_topic.events]

  # A project's number never changes. But a plan that enables an API does not know the
  # number yet, and would replace this grant: for a moment there would be none.
  lifecycle {
    ignore_changes = [member]
  }
}

# People impersonate the viewer, which may call the service and nothing else. (They need
# identity tokens only. But gcloud first gets an access token, so the narrower role
# serviceAccountOpenIdTokenCreator is not enough.)
resource "google_service_account_iam_member" "people_view" {
  for_each = setunion(var.viewers, var.deployer == "" ? [] : [var.deployer])

  service_account_id = google_service_account.viewer.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value
}

# The build reads its source, and writes the image and the log.
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
