resource "google_pubsub_topic" "events" {
  count = var.create_topic ? 1 : 0

  name       = var.topic
  depends_on = [google_project_service.this]
}

locals {
  # A plan must know this id. If it does not, Terraform replaces the subscription, and the
  # messages that wait in the subscription are lost.
  topic_id = var.create_topic ? google_pubsub_topic.events[0].id : "projects/${var.project}/topics/${var.topic}"
}

resource "google_pubsub_subscription" "push" {
  name  = "${var.name}-push"
  topic = local.topic_id

  push_config {
    # The push is wrapped. Unwrapped, a message's attributes would become HTTP headers.
    push_endpoint = "${google_cloud_run_v2_service.tidemark.uri}/push"

    oidc_token {
      service_account_email = google_service_account.pusher.email
      audience              = local.audience
    }
  }

  # How long a push may take. The service answers within 25 s.
  ack_deadline_seconds = 60

  # Pub/Sub delivers a message again until it is acknowledged. Never add a
  # dead_letter_policy: after a few minutes of an outage it would move good messages to
  # another topic, as new messages with new ids and times, and nothing would count them.
  # The service itself stores messages that can never be events, in the table of dead letters.
  retry_policy {
    minimum_backoff = "1s"
    maximum_backoff = "60s"
  }

  # The longest outage that loses nothing. It must be shorter than COUNTER_RETENTION
  # (variables.tf).
  message_retention_duration = "${var.message_retention_hours * 3600}s"

  # The subscription never expires. By default, Pub/Sub deletes one that is idle for 31 days.
  expiration_policy {
    ttl = ""
  }

  # The grants come first: without them the first pushes are refused, and Pub/Sub then
  # slows the whole subscription.
  depends_on = [
    google_cloud_run_v2_service_iam_member.invoker,
    google_service_account_iam_member.pubsub_signs_as_pusher,
  ]
}
