locals {
  # The audience that a caller's token must have. It is not the service's URL: the service
  # gets the audience as a setting, and its URL is known only after it is created.
  audience = "https://${var.name}.${var.region}.${var.project}.internal"

  environment = merge(var.settings, {
    BACKEND              = "gcp"
    GOOGLE_CLOUD_PROJECT = var.project
    BIGQUERY_LOCATION    = var.bigquery_location
    FIRESTORE_DATABASE   = google_firestore_database.counters.name
    PIPELINE             = local.pipeline_name
    DATASET              = local.dataset_id
    RAW_TABLE            = google_bigquery_table.raw.table_id
    AGG_TABLE            = google_bigquery_table.windowed_traffic.table_id
    DEAD_LETTER_TABLE    = google_bigquery_table.dead_letter.table_id
    WINDOW_DURATION      = local.window_duration
    ALLOWED_LATENESS     = local.allowed_lateness
    FLUSH_TIMEOUT        = "50s" # less than the job's attempt_deadline (scheduler.tf)
    COUNTER_RETENTION    = "${var.counter_retention_hours}h"
    AUTH                 = "iam" # Cloud Run checks the token; the service checks which account it names
    AUDIENCE             = local.audience
    PUSH_CALLERS         = google_service_account.pusher.email
    FLUSH_CALLERS        = google_service_account.scheduler.email
    VIEW_CALLERS         = google_service_account.viewer.email
    LOG_FORMAT           = "json"
    GOMEMLIMIT           = "900MiB" # of the 1 GiB below, so that Go collects garbage before the memory is full
    # The service takes a value with a line break for the text of a file.
  }, local.own_file ? { PIPELINE_FILE = "${file(var.pipeline_file)}\n" } : {})
}

resource "google_cloud_run_v2_service" "tidemark" {
  name        = var.name
  location    = var.region
  description = "Counts events per event-time window."

  # Pub/Sub and Cloud Scheduler call from outside the project's network. IAM (iam.tf)
  # decides who may call, not the network.
  ingress              = "INGRESS_TRAFFIC_ALL"
  invoker_iam_disabled = false
  custom_audiences     = [local.audience]

  # The service holds no data: the tables and the counters do.
  deletion_protection = false

  template {
    service_account                  = google_service_account.runtime.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2" # it sends SIGTERM before it stops an instance
    max_instance_request_concurrency = var.concurrency
    timeout                          = "120s" # for a flush on a cold start; Pub/Sub gives a push 60 s

    scaling {
      min_instance_count = 0
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      resources {
        # Request bodies and what is decoded from them take at most 224 MB. A flush of
        # 20 million ids takes 320 MB.
        limits = {
          cpu    = "1"
          memory = "1Gi"
        }
        cpu_idle          = var.billing == "request" # true: the instance has a processor, and costs money, only while a request is open
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

      # Probes are rare, because each probe of an idle instance is billed as 100 ms.
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
    # make deploy and cloudbuild.yaml roll out new images with gcloud, not with Terraform.
    # gcloud also sets the client's name and version, and a label on the revision.
    ignore_changes = [template[0].containers[0].image, template[0].labels, client, client_version]

    precondition {
      condition     = var.image != ""
      error_message = "There is no image: run make deploy, which builds an image, or set image to an image with its digest."
    }
  }

  # Before the first request, the tables and the counters must exist, and the service must
  # have its grants.
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
