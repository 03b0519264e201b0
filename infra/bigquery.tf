# The tables and views. A service that may create tables creates the same ones, from the
# same definitions. go generate ./infra writes schema/ from the code: what does not depend on
# the pipeline file (pipeline.tf). A test compares this file with what the service asks
# BigQuery to create.

resource "google_bigquery_dataset" "logs" {
  count = var.create_dataset ? 1 : 0

  dataset_id  = var.dataset
  location    = var.bigquery_location
  description = "Events and ${local.own_file ? "counts" : "page views"} per window, written by Tidemark."

  delete_contents_on_destroy = !var.deletion_protection
  depends_on                 = [google_project_service.this]
}

locals {
  # The id comes from the resource, so that Terraform creates the dataset before what is
  # in it.
  dataset_id = var.create_dataset ? google_bigquery_dataset.logs[0].dataset_id : var.dataset
}

# ignore_auto_generated_schema keeps columns that are not here: columns that somebody
# added, that a pipeline file no longer has, or that remain as ..._old after a correction. Without this option
# an apply drops such columns with their values, in spite of deletion_protection.

resource "google_bigquery_table" "raw" {
  dataset_id  = local.dataset_id
  table_id    = local.names.raw
  description = "Every stored delivery of every event, late ones too. A redelivered event may be here more than once: the view ${local.names.events} has each once."
  schema      = jsonencode(local.raw_columns)

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
  table_id    = "${local.names.windows}_log"
  description = "Every count ever published for a window. The greatest is the window's value: the view ${local.names.windows} has one row per window."
  schema      = templatefile("${path.module}/schema/windowed_traffic_log.json", { count = local.count })

  clustering = ["timestamp"]

  ignore_auto_generated_schema = true
  deletion_protection          = var.deletion_protection
  depends_on                   = [google_project_service.this]
}

resource "google_bigquery_table" "dead_letter" {
  dataset_id  = local.dataset_id
  table_id    = local.names.dead_letter
  description = "Messages that can never become events, with their bytes and why. A redelivered one may be here more than once: the view ${local.names.dead_letter}s has each once."
  schema      = file("${path.module}/schema/dead_letter.json")

  time_partitioning {
    type  = "DAY"
    field = "received_at"
  }

  ignore_auto_generated_schema = true
  deletion_protection          = var.deletion_protection
  depends_on                   = [google_project_service.this]
}

# A view holds no data, so no view is protected.

resource "google_bigquery_table" "events" {
  dataset_id  = local.dataset_id
  table_id    = local.names.events
  description = "Each event once: a counted delivery before a late one, then the smallest message id, then the earliest published. (Revision 2.)"

  # Only the lab's columns have descriptions in the view. The fields of a pipeline file may
  # change, and the provider cannot drop a column of a view that has a schema here.
  schema = local.own_file ? null : jsonencode(local.raw_columns)

  view {
    query = chomp(templatefile("${path.module}/schema/events.sql", {
      columns = join(", ", [for column in local.raw_columns : "`${column.name}`"])
      source  = "${var.project}.${local.dataset_id}.${google_bigquery_table.raw.table_id}"
    }))
    use_legacy_sql = false
  }

  deletion_protection = false
}

resource "google_bigquery_table" "windowed_traffic" {
  dataset_id  = local.dataset_id
  table_id    = local.names.windows
  description = "Each window once, with the greatest count published for it; finalized_at is when it was first written as final, and updated_at when it first reached this count. (Revision 2.)"
  schema      = templatefile("${path.module}/schema/windowed_traffic.json", { count = local.count })

  view {
    query = chomp(templatefile("${path.module}/schema/windowed_traffic.sql", {
      count  = local.count
      source = "${var.project}.${local.dataset_id}.${google_bigquery_table.windowed_traffic_log.table_id}"
    }))
    use_legacy_sql = false
  }

  deletion_protection = false
}

resource "google_bigquery_table" "dead_letters" {
  dataset_id  = local.dataset_id
  table_id    = "${local.names.dead_letter}s"
  description = "Each message once (each part of it, if it is large): the earliest received. (Revision 2.)"
  schema      = file("${path.module}/schema/dead_letter.json")

  view {
    query = chomp(templatefile("${path.module}/schema/dead_letters.sql", {
      source = "${var.project}.${local.dataset_id}.${google_bigquery_table.dead_letter.table_id}"
    }))
    use_legacy_sql = false
  }

  deletion_protection = false
}
