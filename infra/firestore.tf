resource "google_firestore_database" "counters" {
  name        = var.firestore_database
  location_id = coalesce(var.firestore_location, var.region)
  type        = "FIRESTORE_NATIVE"

  delete_protection_state = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy         = "DELETE" # by default the provider does not delete the database

  depends_on = [google_project_service.this]
}

# The fields of a shard that do not have Firestore's default indexes and TTL. The code's
# list is firestorecounters.ShardFields; a test compares the two.
resource "google_firestore_field" "counters" {
  for_each = {
    batches   = { ttl = false } # an index would have an entry for each batch
    expire_at = { ttl = true }  # an index would be a hot spot: all new values are at its end
  }

  database   = google_firestore_database.counters.name
  collection = "counter_shards"
  field      = each.key

  # An empty block means no indexes. Without the block, Firestore creates two.
  index_config {}

  # Firestore deletes settled counters after expire_at, usually within a day.
  dynamic "ttl_config" {
    for_each = each.value.ttl ? [1] : []
    content {}
  }

  # make destroy deletes the database, and the field settings with it. To undo the
  # settings first would take many minutes.
  deletion_policy = "ABANDON"
}
