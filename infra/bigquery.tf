# The tables and views that the service would make itself, from the same definitions:
# schema/ is written from its code (go generate ./infra), and a test compares this
# file with what the service asks BigQuery for.

resource "google_bigquery_dataset" "logs" {
  count = var.create_dataset ? 1 : 0

  dataset_id  = var.dataset
  location    = var.bigquery_location
  description = "Events and page views per window, written by Tidemark."

  delete_contents_on_destroy = !var.deletion_protection
  depends_on                 = [google_project_service.this]
}

locals {
  # That of the resource, so that what is in the dataset is made after it.
  dataset_id = var.create_dataset ? google_bigquery_dataset.logs[0].dataset_id : var.dataset
}

# Columns that somebody has added, or that a mended one has left as ..._old, are left
# alone: ignore_auto_generated_schema. Without it an apply drops them with their values,
# and no deletion_protection stops it.

resource "google_bigquery_table" "raw" {
  dataset_id  = local.dataset_id
  table_id    = "raw"
  description = "Every stored delivery of every event, late ones too. A redelivered event may be here more than once: the view events has each once."
  schema      = file("${path.module}/schema/raw.json")

  time_partitioning {
    type  = "DAY"
    field = "processing_timestamp"
  }
  clustering = ["window_start"]

  ignore_auto_generated_schema = true
  deletion_protection          = var.deletion_protection
  depends_on                   = [google_project_service.this]
}

resource "google_bigquery_table" "windowed_traffic_log" {
  dataset_id  = local.dataset_id
  table_id    = "windowed_traffic_log"
  description = "Every count ever published for a window. The greatest is the window's value: the view windowed_traffic has one row per window."
  schema      = file("${path.module}/schema/windowed_traffic_log.json")

  clustering = ["timestamp"]

  ignore_auto_generated_schema = true
  deletion_protection          = var.deletion_protection
  depends_on                   = [google_project_service.this]
}

resource "google_bigquery_table" "dead_letter" {
  dataset_id  = local.dataset_id
  table_id    = "dead_letter"
  description = "Messages that can never become events, with their bytes and why. A redelivered one may be here more than once: the view dead_letters has each once."
  schema      = file("${path.module}/schema/dead_letter.json")

  time_partitioning {
    type  = "DAY"
    field = "received_at"
  }

  ignore_auto_generated_schema = true
  deletion_protection          = var.deletion_protection
  depends_on                   = [google_project_service.this]
}

# A view keeps nothing, so nothing protects it.

resource "google_bigquery_table" "events" {
  dataset_id  = local.dataset_id
  table_id    = "events"
  description = "Each event once: a counted delivery before a late one, then the earliest published."
  schema      = file("${path.module}/schema/events.json")

  view {
    query = chomp(templatefile("${path.module}/schema/events.sql", {
      source = "${var.project}.${local.dataset_id}.${google_bigquery_table.raw.table_id}"
    }))
    use_legacy_sql = false
  }

  deletion_protection = false
}

resource "google_bigquery_table" "windowed_traffic" {
  dataset_id  = local.dataset_id
  table_id    = "windowed_traffic"
  description = "Each window once, with the greatest count published for it; finalized_at is when it was first written as final, and updated_at when it first reached this count."
  schema      = file("${path.module}/schema/windowed_traffic.json")

  view {
    query = chomp(templatefile("${path.module}/schema/windowed_traffic.sql", {
      source = "${var.project}.${local.dataset_id}.${google_bigquery_table.windowed_traffic_log.table_id}"
    }))
    use_legacy_sql = false
  }

  deletion_protection = false
}

resource "google_bigquery_table" "dead_letters" {
  dataset_id  = local.dataset_id
  table_id    = "dead_letters"
  description = "Each message once (each part of it, if it is large): the earliest received."
  schema      = file("${path.module}/schema/dead_letters.json")

  view {
    query = chomp(templatefile("${path.module}/schema/dead_letters.sql", {
      source = "${var.project}.${local.dataset_id}.${google_bigquery_table.dead_letter.table_id}"
    }))
    use_legacy_sql = false
  }

  deletion_protection = false
}
