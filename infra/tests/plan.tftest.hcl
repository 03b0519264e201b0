# Tests for terraform test: what Terraform would create, by the provider's own rules. The
# provider is a mock that makes no calls. But Terraform must download it, so these tests
# run with `make infra-test` and not with `make test`.

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = {
      name   = "projects/my-project-123/serviceAccounts/tidemark-some@my-project-123.iam.gserviceaccount.com"
      email  = "tidemark-some@my-project-123.iam.gserviceaccount.com"
      member = "serviceAccount:tidemark-some@my-project-123.iam.gserviceaccount.com"

      unique_id = "123456789012345678901"
    }
  }
}

variables {
  project = "my-project-123"
  region  = "us-central1"
  image   = "us-central1-docker.pkg.dev/my-project-123/tidemark/tidemark@sha256:0000000000000000000000000000000000000000000000000000000000000000"
}

run "defaults" {
  assert {
    condition     = google_pubsub_subscription.push.message_retention_duration == "604800s"
    error_message = "Messages are not kept for 7 days."
  }
  assert {
    condition     = length(google_pubsub_subscription.push.dead_letter_policy) == 0
    error_message = "The subscription has a dead-letter policy."
  }
  assert {
    condition     = google_pubsub_subscription.push.push_config[0].push_endpoint == "${google_cloud_run_v2_service.tidemark.uri}/push"
    error_message = "Messages are pushed elsewhere."
  }
  assert {
    condition     = { for e in google_cloud_run_v2_service.tidemark.template[0].containers[0].env : e.name => e.value }["COUNTER_RETENTION"] == "192h"
    error_message = "Counters are not kept for 8 days."
  }
  assert {
    condition     = length(google_firestore_field.counters["expire_at"].ttl_config) == 1 && length(google_firestore_field.counters["batches"].ttl_config) == 0
    error_message = "The TTL is on another field."
  }
  assert {
    condition     = length(google_monitoring_alert_policy.alerts) == 5 && length(google_monitoring_notification_channel.email) == 0
    error_message = "Not all alerts are made, or mail is sent to nobody."
  }
  assert {
    condition     = length(google_service_account_iam_member.people_view) == 0
    error_message = "Somebody may become the viewer."
  }
  assert {
    condition     = google_bigquery_table.raw.deletion_protection && google_firestore_database.counters.delete_protection_state == "DELETE_PROTECTION_ENABLED"
    error_message = "What holds data is not protected."
  }
}

run "bills" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_service.tidemark.template[0].containers[0].resources[0].cpu_idle
    error_message = "An idle instance is paid for."
  }
  assert {
    condition     = length(google_logging_project_exclusion.good_requests) == 1
    error_message = "Cloud Run's log of good requests is kept."
  }
  assert {
    condition     = !strcontains(google_monitoring_dashboard.tidemark.dashboard_json, "Pos\":0")
    error_message = "A position of 0 on the dashboard would be a change in each plan."
  }
}

run "bills_otherwise" {
  command = plan

  variables {
    billing          = "instance"
    keep_request_log = true
  }

  assert {
    condition     = !google_cloud_run_v2_service.tidemark.template[0].containers[0].resources[0].cpu_idle
    error_message = "An instance has no processor between requests."
  }
  assert {
    condition     = length(google_logging_project_exclusion.good_requests) == 0
    error_message = "Cloud Run's log of good requests is left out."
  }
}

run "what_is_there_already" {
  command = plan

  variables {
    create_topic   = false
    create_dataset = false
  }

  assert {
    condition     = length(google_pubsub_topic.events) + length(google_bigquery_dataset.logs) == 0
    error_message = "What is there already would be made, and destroyed later."
  }
  assert {
    condition     = google_pubsub_subscription.push.topic == "projects/my-project-123/topics/my_topic" && google_bigquery_table.raw.dataset_id == "logs"
    error_message = "What is there already is not used."
  }
}

run "people_and_mail" {
  command = plan

  variables {
    viewers     = ["group:data@example.com"]
    deployer    = "user:ann@example.com"
    alert_email = "ann@example.com"
    settings    = { EMIT = "early" }
  }

  assert {
    condition     = length(google_service_account_iam_member.people_view) == 2
    error_message = "Not everyone may become the viewer."
  }
  assert {
    condition     = length(google_monitoring_notification_channel.email) == 1
    error_message = "Nobody is mailed."
  }
  assert {
    condition     = { for e in google_cloud_run_v2_service.tidemark.template[0].containers[0].env : e.name => e.value }["EMIT"] == "early"
    error_message = "A setting does not arrive."
  }
}

run "a_pipeline_file" {
  command = plan

  variables {
    pipeline_file = "testdata/every_kind.yaml"
    settings      = { EVENT_TIME = "publish" }
  }

  assert {
    condition     = google_bigquery_table.raw.table_id == "every_kind_raw" && google_bigquery_table.windowed_traffic.table_id == "every_kind"
    error_message = "The tables have other names."
  }
  assert {
    condition     = jsondecode(google_bigquery_table.raw.schema)[1] == { name = "Whole", type = "INTEGER", mode = "NULLABLE", description = "" }
    error_message = "The columns are others."
  }
  assert {
    condition     = { for e in google_cloud_run_v2_service.tidemark.template[0].containers[0].env : e.name => e.value }["PIPELINE_FILE"] == "${file("testdata/every_kind.yaml")}\n"
    error_message = "The file does not arrive."
  }
}

run "a_pipeline_file_has_the_name" {
  command = plan

  variables {
    pipeline_file = "testdata/every_kind.yaml"
    pipeline      = "every_kind"
  }

  expect_failures = [var.pipeline]
}

run "no_image" {
  command = plan

  variables {
    image = ""
  }

  expect_failures = [google_cloud_run_v2_service.tidemark]
}

run "counters_forget_before_messages_do" {
  command = plan

  variables {
    message_retention_hours = 192
  }

  expect_failures = [var.counter_retention_hours]
}

run "unprotected" {
  variables {
    deletion_protection = false
  }

  assert {
    condition     = !google_bigquery_table.raw.deletion_protection && google_bigquery_dataset.logs[0].delete_contents_on_destroy && google_firestore_database.counters.delete_protection_state == "DELETE_PROTECTION_DISABLED"
    error_message = "Something is still protected, and would stay behind."
  }
}
