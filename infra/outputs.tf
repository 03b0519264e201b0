# What the scripts read, and people by `terraform -chdir=infra output`.

output "project" {
  description = "Project that this is deployed to."
  value       = var.project
}

output "region" {
  description = "Region that this is deployed to."
  value       = var.region
}

output "service" {
  description = "Name of the Cloud Run service."
  value       = google_cloud_run_v2_service.tidemark.name
}

output "url" {
  description = "Address of the service. Only its callers get an answer."
  value       = google_cloud_run_v2_service.tidemark.uri
}

output "audience" {
  description = "What a caller's identity token must be meant for."
  value       = local.audience
}

output "viewer" {
  description = "Account to impersonate for audits and metrics."
  value       = google_service_account.viewer.email
}

output "builder" {
  description = "Account that builds images."
  value       = google_service_account.builder.name
}

output "repository" {
  description = "Where images are kept."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "build_bucket" {
  description = "Where the source of a build is put."
  value       = google_storage_bucket.builds.url
}

output "topic" {
  description = "Topic to publish events to."
  value       = local.topic_id
}

output "dataset" {
  description = "Dataset of the tables."
  value       = "${var.project}.${local.dataset_id}"
}

output "closes_after" {
  description = "Seconds from a window's start until it is due: its length, the allowed lateness and ten seconds of quiet."
  value       = var.window_duration + var.allowed_lateness + 10
}

output "next" {
  description = "What to do next."
  value       = "make smoke   # publishes events and watches their window become final, in about ${ceil((var.window_duration + var.allowed_lateness + 130) / 60)} minutes"
}
