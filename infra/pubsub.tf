resource "google_pubsub_topic" "events" {
  count = var.create_topic ? 1 : 0

  name       = var.topic
  depends_on = [google_project_service.this]
}

locals {
  # Known before an apply: with a topic that is not, the subscription would be made anew,
  # and lose what waits in it.
  topic_id = var.create_topic ? google_pubsub_topic.events[0].id : "projects/${var.project}/topics/${var.topic}"
}

resource "google_pubsub_subscription" "push" {
  name  = "${var.name}-push"
  topic = local.topic_id

  push_config {
    # Wrapped, so that no attribute of a message is taken for a header.
    push_endpoint = "${google_cloud_run_v2_service.tidemark.uri}/push"

    oidc_token {
      service_account_email = google_service_account.pusher.email
      audience              = local.audience
    }
  }

  # The time a push may take. The service answers within 25 s.
  ack_deadline_seconds = 60

  # What is not acknowledged comes again. No dead_letter_policy, ever: it would
  # forward, after a few minutes of an outage, good messages as new ones, with new
  # ids and times, to where nobody counts them. What can never be an event the service
  # stores by itself, in the table dead_letter.
  retry_policy {
    minimum_backoff = "1s"
    maximum_backoff = "60s"
  }

  # How long an outage may last. Less than COUNTER_RETENTION (variables.tf).
  message_retention_duration = "${var.message_retention_hours * 3600}s"

  # An idle subscription would otherwise be deleted after 31 days.
  expiration_policy {
    ttl = ""
  }

  # A push that comes before its caller may call is refused, and slows all others.
  depends_on = [
    google_cloud_run_v2_service_iam_member.invoker,
    google_service_account_iam_member.pubsub_signs_as_pusher,
  ]
}
