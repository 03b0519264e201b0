# The APIs that the deployment uses. They stay enabled after make destroy: other software
# in the project may use them by then, and an enabled API costs nothing.
resource "google_project_service" "this" {
  for_each = toset([
    "artifactregistry.googleapis.com",
    "bigquery.googleapis.com",
    "bigquerystorage.googleapis.com", # the Storage Write API, for appends
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com", # for grants on the project
    "cloudscheduler.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com", # for tokens of the viewer account
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "storage.googleapis.com",
  ])

  service            = each.value
  disable_on_destroy = false
}
