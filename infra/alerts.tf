# The alerts. Each alert says what it means, and links to the page that says what to do.
# The queries are PromQL, because a PromQL query can find that no log line came even if
# none ever came. Counts of log lines are summed: increase() would miss the first line of
# a new series.

locals {
  playbooks = "https://github.com/tidemark-dev/tidemark/blob/main/docs/playbooks"

  alerts = {
    flush-missing = {
      title    = "no successful flush for 5 minutes"
      severity = "CRITICAL"
      meaning  = "Windows do not become final: the scheduler job does not run or is refused, or every flush fails. Nothing is lost. The next flush that succeeds writes all of these windows."
      query    = "(sum(sum_over_time(${local.series.flushes}[5m])) or vector(0)) < 1"
      duration = "120s" # a metric shows a log line after a minute or two
    }
    oldest-unacked = {
      title    = "oldest unacknowledged message is over 15 minutes old"
      severity = "CRITICAL"
      meaning  = "Pushes are refused or slow, or Pub/Sub does not push. Messages wait in Pub/Sub for ${var.message_retention_hours} hours; after that they are lost. When they come, they are counted in their windows, however late they are."
      query    = "max(${local.series.oldest_unacked}) > 900"
      duration = "300s" # the metric jumps for short times even if all is well
    }
    dead-letters = {
      title    = "dead letters"
      severity = "WARNING"
      meaning  = "A producer sends messages that are not valid events, more than ${var.dead_letters_tolerated} in ten minutes. Each message is kept in ${var.dataset}.${local.names.dead_letter} with its bytes and the reason. It can be corrected and sent again."
      query    = "sum(sum_over_time(${local.series.dead_letters}[10m])) > ${var.dead_letters_tolerated}"
      duration = "0s"
    }
    refused-rows = {
      title    = "rows refused by a table"
      severity = "CRITICAL"
      meaning  = "A table does not fit the schema: a column is missing, has another type, or is too short. The events that do not fit wait in Pub/Sub until the table is corrected."
      query    = "sum(sum_over_time(${local.series.refused_rows}[5m])) > 0"
      duration = "0s"
    }
    server-errors = {
      title    = "over 5 % of the answers are 5xx"
      severity = "ERROR"
      meaning  = "Storage fails or is slow, there are too few instances, or there is a bug. Pub/Sub delivers refused messages again, and meanwhile slows the whole subscription."
      query    = "sum(rate(${local.series.server_errors}[5m])) / sum(rate(${local.series.requests}[5m])) > 0.05"
      duration = "300s"
    }
  }
}

resource "google_monitoring_alert_policy" "alerts" {
  for_each = var.alerts ? local.alerts : {}

  display_name          = "Tidemark (${var.name}): ${each.value.title}"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = google_monitoring_notification_channel.email[*].name

  conditions {
    display_name = each.value.title

    condition_prometheus_query_language {
      query               = each.value.query
      duration            = each.value.duration
      evaluation_interval = "60s"

      # A metric of log lines appears only some minutes after it is created.
      disable_metric_validation = true
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = each.value.meaning

    links {
      display_name = "What to do"
      url          = "${local.playbooks}/${each.key}.md"
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }

  # The alerts come after the first flush can run, so that a deployment raises no alert.
  depends_on = [google_cloud_scheduler_job.flush]
}

resource "google_monitoring_notification_channel" "email" {
  count = var.alert_email == "" ? 0 : 1

  display_name = "Tidemark (${var.name})"
  type         = "email"

  labels = {
    email_address = var.alert_email
  }

  depends_on = [google_project_service.this]
}
