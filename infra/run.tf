locals {
  # What a caller's token must be meant for. A fixed string rather than the service's
  # URL, which is not known before the service is, and which the service must be told.
  audience = "https://${var.name}.${var.region}.${var.project}.internal"

  environment = merge(var.settings, {
    BACKEND              = "gcp"
    GOOGLE_CLOUD_PROJECT = var.project
    BIGQUERY_LOCATION    = var.bigquery_location
    FIRESTORE_DATABASE   = google_firestore_database.counters.name
    PIPELINE             = var.pipeline
    DATASET              = local.dataset_id
    RAW_TABLE            = google_bigquery_table.raw.table_id
    AGG_TABLE            = google_bigquery_table.windowed_traffic.table_id
    DEAD_LETTER_TABLE    = google_bigquery_table.dead_letter.table_id
    WINDOW_DURATION      = "${var.window_duration}s"
    ALLOWED_LATENESS     = "${var.allowed_lateness}s"
    FLUSH_TIMEOUT        = "50s" # within the job's attempt_deadline (scheduler.tf)
    COUNTER_RETENTION    = "${var.counter_retention_hours}h"
    AUTH                 = "iam" # Cloud Run has checked the token; the service checks who it is
    AUDIENCE             = local.audience
    PUSH_CALLERS         = google_service_account.pusher.email
    FLUSH_CALLERS        = google_service_account.scheduler.email
    VIEW_CALLERS         = google_service_account.viewer.email
    LOG_FORMAT           = "json"
    GOMEMLIMIT           = "900MiB" # of the 1 GiB below: garbage is collected before it fills the instance
  })
}

resource "google_cloud_run_v2_service" "tidemark" {
  name        = var.name
  location    = var.region
  description = "Counts events per event-time window."

  # Pub/Sub and Cloud Scheduler call from outside the project's network. Who may
  # call is a matter of IAM (iam.tf), not of the network.
  ingress              = "INGRESS_TRAFFIC_ALL"
  invoker_iam_disabled = false
  custom_audiences     = [local.audience]

  # It keeps nothing: what must not be lost is in the tables and the counters.
  deletion_protection = false

  template {
    service_account                  = google_service_account.runtime.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2" # SIGTERM comes before the end
    max_instance_request_concurrency = var.concurrency
    timeout                          = "120s" # a flush on a cold start; a push has 60 s of its own

    scaling {
      min_instance_count = 0
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      resources {
        # Bodies in flight and what is decoded from them are bound to 224 MB, and a flush
        # of 20 million ids takes 320 MB.
        limits = {
          cpu    = "1"
          memory = "1Gi"
        }
        cpu_idle          = var.billing == "request" # true: a processor only while a request is open, and paid for as long
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 30
        http_get {
          path = "/health"
        }
      }

      # Each probe of an idle instance is paid for as 100 ms, so not often.
      liveness_probe {
        period_seconds    = 60
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/health"
        }
      }
    }
  }

  lifecycle {
    # New images are rolled out by digest without Terraform (make deploy, cloudbuild.yaml),
    # by gcloud, which leaves its name, and a label on the revision.
    ignore_changes = [template[0].containers[0].image, template[0].labels, client, client_version]

    precondition {
      condition     = var.image != ""
      error_message = "No image: run make deploy, which builds one, or set image to one by digest."
    }
  }

  # The first request must find what it writes to, and be allowed to.
  depends_on = [
    google_project_service.this,
    google_bigquery_table.windowed_traffic_log,
    google_bigquery_table_iam_member.runtime,
    google_bigquery_dataset_iam_member.runtime,
    google_project_iam_member.runtime_queries,
    google_project_iam_member.runtime_counters,
    google_firestore_field.counters,
  ]
}
