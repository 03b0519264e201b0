# Counts of log lines, for the dashboard and the alerts. A test writes these lines with
# the service's own code, and has the filters find them.

locals {
  log_lines = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.name}\""

  log_metrics = {
    flushes = {
      description = "Flushes that wrote every window that was due, or found none."
      filter      = "jsonPayload.message=\"flush\" AND jsonPayload.status=\"ok\""
    }
    dead_letters = {
      description = "Messages stored as dead letters, and acknowledged."
      filter      = "jsonPayload.message=\"request\" AND jsonPayload.verdict=\"dead_letter\" AND jsonPayload.dry_run=false"
    }
    refused_rows = {
      description = "Pushes refused because a table does not take the rows: a column is missing or of another type."
      filter      = "jsonPayload.message=\"request\" AND jsonPayload.table:*"
    }
  }
}

resource "google_logging_metric" "lines" {
  for_each = local.log_metrics

  name        = replace("${var.name}_${each.key}", "-", "_") # as PromQL spells it
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
  # The same and Google's own metrics, as series of PromQL.
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
