# What the pipeline file says: names and columns of the tables, and settings. Terraform
# reads the file and does not check it; tidemark check does (README.md, "A pipeline file
# of your own"). A test compares the tables with those that the service creates.

locals {
  own_file = var.pipeline_file != ""

  # The built-in file has the lab's columns.
  pipeline = yamldecode(file(local.own_file ? var.pipeline_file : "${path.module}/../pipeline/lab.yaml"))

  # What the file decides. The built-in file leaves these values to the variables.
  decided = { for key in ["name", "window", "lateness"] : key => tostring(local.pipeline[key]) if local.own_file && can(local.pipeline[key]) }

  pipeline_name    = local.own_file ? local.pipeline.name : coalesce(var.pipeline, "minute-traffic")
  window_duration  = lookup(local.decided, "window", "${coalesce(var.window_duration, 60)}s")
  allowed_lateness = lookup(local.decided, "lateness", "${coalesce(var.allowed_lateness, 120)}s")

  # Seconds from a window's start until the window closes, from texts such as 60s, 1h30m
  # and 90.
  closes_after = ceil(sum([
    for part in regexall("([0-9.]+)(h|ms|m|s)?", "${local.window_duration} ${local.allowed_lateness}") :
    part[0] * { h = 3600, m = 60, s = 1, ms = 0.001 }[coalesce(part[1], "s")]
  ]))

  names = local.own_file ? {
    raw         = "${local.pipeline_name}_raw"
    events      = "${local.pipeline_name}_raw_events"
    windows     = local.pipeline_name
    dead_letter = "${local.pipeline_name}_dead_letter"
    } : {
    raw         = "raw"
    events      = "events"
    windows     = "windowed_traffic"
    dead_letter = "dead_letter"
  }

  count = local.pipeline.aggregate.columns[0].name

  # The columns of the raw table: those of the file, and Tidemark's own. Of Tidemark's, the
  # first is processing_timestamp, which stands at its name in the list of fields, or else
  # after the fields. The second is the rest; its name is empty if the file has no rest.
  tidemark_columns = jsondecode(templatefile("${path.module}/schema/raw.json", { rest = try(local.pipeline.event.rest, "") }))

  fields = local.pipeline.event.fields
  raw_columns = concat(
    [for field in concat(local.fields, contains(local.fields, "processing_timestamp") ? [] : ["processing_timestamp"]) :
      field == "processing_timestamp" ? local.tidemark_columns[0] : {
        name        = field.name
        type        = local.types[field.type]
        mode        = "NULLABLE" # the service checks what an event must have
        description = try(field.description, "")
      }
    ],
    [for column in slice(local.tidemark_columns, 1, length(local.tidemark_columns)) : column if column.name != ""],
  )

  # The types that a field may have, with the names that BigQuery returns.
  types = {
    STRING    = "STRING"
    INTEGER   = "INTEGER"
    INT64     = "INTEGER"
    FLOAT     = "FLOAT"
    FLOAT64   = "FLOAT"
    BOOLEAN   = "BOOLEAN"
    BOOL      = "BOOLEAN"
    TIMESTAMP = "TIMESTAMP"
  }
}
