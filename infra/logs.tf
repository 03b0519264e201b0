# What is not kept of the log. Each entry that is kept is paid for, and Cloud Run writes
# one for each request by itself, which says of a good one nothing that is not in its
# metrics: those are not made from the log, and neither are ours from these entries.
resource "google_logging_project_exclusion" "good_requests" {
  count = var.keep_request_log ? 0 : 1

  name        = "${var.name}-good-requests"
  description = "Cloud Run's own entries of requests to ${var.name} that were answered below 400: a push is a request, and they would cost more than the service. Refused and failed ones are kept. keep_request_log = true keeps all."
  filter      = "${local.log_lines} AND log_id(\"run.googleapis.com/requests\") AND httpRequest.status<400"

  depends_on = [google_project_service.this]
}
