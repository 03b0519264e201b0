# One dashboard answers four questions about the service: does it count, is it behind,
# does it refuse messages, and what does it use?

locals {
  charts = [
    { title = "Messages waiting", unit = "1", query = "sum(${local.series.undelivered})" },
    { title = "Oldest message waiting, seconds", unit = "s", query = "max(${local.series.oldest_unacked})" },
    { title = "Answers per second, by class", unit = "1/s", query = "sum by (response_code_class) (rate(${local.series.requests}[1m]))" },
    { title = "Latency of answers, milliseconds, 99th percentile", unit = "ms", query = "histogram_quantile(0.99, sum by (le) (rate(${local.series.latencies}[5m])))" },
    { title = "Successful flushes in 5 minutes", unit = "1", query = "sum(sum_over_time(${local.series.flushes}[5m])) or vector(0)" },
    { title = "Dead letters in 10 minutes", unit = "1", query = "sum(sum_over_time(${local.series.dead_letters}[10m])) or vector(0)" },
    { title = "Pushes refused by a table in 5 minutes", unit = "1", query = "sum(sum_over_time(${local.series.refused_rows}[5m])) or vector(0)" },
    { title = "Instances, by state", unit = "1", query = "sum by (state) (${local.series.instances})" },
  ]
}

resource "google_monitoring_dashboard" "tidemark" {
  dashboard_json = jsonencode({
    displayName = "Tidemark (${var.name})"
    mosaicLayout = {
      columns = 48
      # The API leaves out a position of 0, so this file does too: otherwise each plan would
      # show a change.
      tiles = [for i, chart in local.charts : merge({ for side, at in { xPos = i % 2 * 24, yPos = floor(i / 2) * 16 } : side => at if at > 0 }, {
        width  = 24
        height = 16
        widget = {
          title = chart.title
          xyChart = {
            dataSets = [{
              plotType   = "LINE"
              targetAxis = "Y1"
              timeSeriesQuery = {
                prometheusQuery = chart.query
                unitOverride    = chart.unit
              }
            }]
          }
        }
      })]
    }
  })

  depends_on = [google_project_service.this]
}
