# The APIs that are used. They stay enabled when this is destroyed: others in the
# project may have come to use them, and an enabled API costs nothing.
resource "google_project_service" "this" {
  for_each = toset([
    "artifactregistry.googleapis.com",
    "bigquery.googleapis.com",
    "bigquerystorage.googleapis.com", # appends, by the Storage Write API
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com", # grants on the project
    "cloudscheduler.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com", # tokens of the viewer account
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "storage.googleapis.com",
  ])

  service            = each.value
  disable_on_destroy = false
}
