# Each part of the deployment has its own account. So a token says which part calls, and a
# grant says what this part may do. All grants are in iam.tf. No account has a key.

resource "google_service_account" "runtime" {
  account_id   = "${var.name}-runtime"
  display_name = "Tidemark: the running service"
  depends_on   = [google_project_service.this]
}

resource "google_service_account" "pusher" {
  account_id   = "${var.name}-pusher"
  display_name = "Tidemark: Pub/Sub, when it pushes"
  depends_on   = [google_project_service.this]
}

resource "google_service_account" "scheduler" {
  account_id   = "${var.name}-scheduler"
  display_name = "Tidemark: Cloud Scheduler, when it flushes"
  depends_on   = [google_project_service.this]
}

resource "google_service_account" "viewer" {
  account_id   = "${var.name}-viewer"
  display_name = "Tidemark: people and monitors that read audits and metrics"
  depends_on   = [google_project_service.this]
}

resource "google_service_account" "builder" {
  account_id   = "${var.name}-builder"
  display_name = "Tidemark: Cloud Build, when it builds an image"
  depends_on   = [google_project_service.this]
}
