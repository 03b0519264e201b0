# Counts of log lines, for the dashboard and the alerts. A test runs the service, and
# checks that each filter finds the lines that it should count.

locals {
  log_lines = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.name}\""

  log_metrics = {
    flushes = {
      description = "Flushes that wrote all due windows, or found none due."
      filter      = "jsonPayload.message=\"flush\" AND jsonPayload.status=\"ok\""
    }
    dead_letters = {
      description = "Messages that were stored as dead letters and acknowledged."
      filter      = "jsonPayload.message=\"request\" AND jsonPayload.verdict=\"dead_letter\" AND jsonPayload.dry_run=false"
    }
    refused_rows = {
      description = "Pushes that were refused because a table does not accept the rows: a column is missing, has another type, or is too short."
      filter      = "jsonPayload.message=\"request\" AND jsonPayload.table:*"
    }
  }
}

resource "google_logging_metric" "lines" {
  for_each = local.log_metrics

  name        = replace("${var.name}_${each.key}", "-", "_") # PromQL allows no hyphen
  description = each.value.description
  filter      = "${local.log_lines} AND ${each.value.filter}"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }

  depends_on = [google_project_service.this]
}

locals {
  # PromQL selectors of these metrics and of Google's own.
  series = merge(
    { for key, metric in google_logging_metric.lines : key => "logging_googleapis_com:user_${metric.name}{monitored_resource=\"cloud_run_revision\"}" },
    {
      requests       = "run_googleapis_com:request_count{monitored_resource=\"cloud_run_revision\",service_name=\"${var.name}\"}"
      server_errors  = "run_googleapis_com:request_count{monitored_resource=\"cloud_run_revision\",service_name=\"${var.name}\",response_code_class=\"5xx\"}"
      instances      = "run_googleapis_com:container_instance_count{monitored_resource=\"cloud_run_revision\",service_name=\"${var.name}\"}"
      latencies      = "run_googleapis_com:request_latencies_bucket{monitored_resource=\"cloud_run_revision\",service_name=\"${var.name}\"}"
      oldest_unacked = "pubsub_googleapis_com:subscription_oldest_unacked_message_age{monitored_resource=\"pubsub_subscription\",subscription_id=\"${google_pubsub_subscription.push.name}\"}"
      undelivered    = "pubsub_googleapis_com:subscription_num_undelivered_messages{monitored_resource=\"pubsub_subscription\",subscription_id=\"${google_pubsub_subscription.push.name}\"}"
    }
  )
}
