# The log entries that are not kept. Each kept entry costs money. Cloud Run itself writes
# an entry for each request. The entry of a good request says nothing that is not in
# Cloud Run's metrics. No metric needs these entries: Cloud Run's metrics do not come from
# the log, and Tidemark's (metrics.tf) come from the service's own lines.
resource "google_logging_project_exclusion" "good_requests" {
  count = var.keep_request_log ? 0 : 1

  name        = "${var.name}-good-requests"
  description = "Cloud Run's own entries of requests to ${var.name} with a status below 400. Each push is a request, and these entries would cost more than the service. Entries of refused and failed requests are kept. keep_request_log = true keeps all."
  filter      = "${local.log_lines} AND log_id(\"run.googleapis.com/requests\") AND httpRequest.status<400"

  depends_on = [google_project_service.this]
}
