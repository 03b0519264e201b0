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

output "closes_after" {
  description = "Seconds from a window's start until the window is due: the window's length, the allowed lateness and FLUSH_QUIET (10)."
  value       = var.window_duration + var.allowed_lateness + 10
}

output "next" {
  description = "Next command to run."
  value       = "make smoke   # publishes events and watches their window become final, in about ${ceil((var.window_duration + var.allowed_lateness + 130) / 60)} minutes"
}
