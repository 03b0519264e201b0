# The scripts read these values. `terraform -chdir=infra output` prints them.

output "project" {
  description = "Project of the deployment."
  value       = var.project
}

output "region" {
  description = "Region of the deployment."
  value       = var.region
}

output "service" {
  description = "Name of the Cloud Run service."
  value       = google_cloud_run_v2_service.tidemark.name
}

output "url" {
  description = "URL of the service. Only callers with a grant get an answer."
  value       = google_cloud_run_v2_service.tidemark.uri
}

output "audience" {
  description = "Audience that a caller's identity token must have."
  value       = local.audience
}

output "viewer" {
  description = "Account to impersonate when you read audits and metrics."
  value       = google_service_account.viewer.email
}

output "builder" {
  description = "Account that builds images."
  value       = google_service_account.builder.name
}

output "repository" {
  description = "Repository of the images."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "build_bucket" {
  description = "Bucket for the source of a build."
  value       = google_storage_bucket.builds.url
}

output "topic" {
  description = "Topic to publish events to."
  value       = local.topic_id
}

output "dataset" {
  description = "Dataset that has the tables."
  value       = "${var.project}.${local.dataset_id}"
}

output "pipeline_file" {
  description = "Path of the pipeline file; empty for the lab's."
  value       = var.pipeline_file
}

output "raw" {
  description = "Table of the raw rows."
  value       = "${var.project}.${local.dataset_id}.${local.names.raw}"
}

output "raw_columns" {
  description = "Columns of that table, as in BigQuery's JSON schemas."
  value       = local.raw_columns
}

output "events" {
  description = "View with one row for each event."
  value       = "${var.project}.${local.dataset_id}.${local.names.events}"
}

output "windows" {
  description = "View with one row for each window."
  value       = "${var.project}.${local.dataset_id}.${local.names.windows}"
}

output "count_column" {
  description = "Column of that view with a window's number of events."
  value       = local.count
}

output "dead_letter" {
  description = "Table of the dead letters."
  value       = "${var.project}.${local.dataset_id}.${local.names.dead_letter}"
}

output "closes_after" {
  description = "Seconds from a window's start until the window is due: the window's length, the allowed lateness and FLUSH_QUIET (10)."
  value       = local.closes_after + 10
}

output "next" {
  description = "Next command to run."
  value       = "make smoke${local.own_file ? " EVENT='...'" : ""}   # publishes events and watches their window become final, in about ${ceil((local.closes_after + 130) / 60)} minutes"
}
