# The job calls the flush each minute. The flush writes the due windows. A late, repeated
# or overlapping flush leads to the same counts, so retries are harmless.
resource "google_cloud_scheduler_job" "flush" {
  name        = "${var.name}-flush"
  region      = var.region
  description = "Writes the windows that are due to ${var.dataset}.${local.names.windows}."
  schedule    = "* * * * *"
  time_zone   = "Etc/UTC"

  # A flush ends within FLUSH_TIMEOUT, 50 s. A test compares all time limits.
  attempt_deadline = "60s"

  retry_config {
    retry_count          = 3
    min_backoff_duration = "5s"
    max_backoff_duration = "20s"
  }

  http_target {
    http_method = "POST"
    uri         = "${google_cloud_run_v2_service.tidemark.uri}/flush"

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = local.audience
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.invoker]
}
