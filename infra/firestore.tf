resource "google_firestore_database" "counters" {
  name        = var.firestore_database
  location_id = coalesce(var.firestore_location, var.region)
  type        = "FIRESTORE_NATIVE"

  delete_protection_state = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy         = "DELETE" # the provider's default leaves the database behind

  depends_on = [google_project_service.this]
}

# The fields of a shard that differ from what Firestore does by itself; the code's
# list is firestoredocs.ShardFields, and a test compares the two.
resource "google_firestore_field" "counters" {
  for_each = {
    batches   = { ttl = false } # an index would have entries for each batch
    expire_at = { ttl = true }  # an index would be written at its end by everyone
  }

  database   = google_firestore_database.counters.name
  collection = "counter_shards"
  field      = each.key

  # No indexes at all: of a field left out, Firestore makes two by itself.
  index_config {}

  # Settled counters are deleted some time after expire_at, mostly within a day.
  dynamic "ttl_config" {
    for_each = each.value.ttl ? [1] : []
    content {}
  }

  # They go with the database: to undo them first would take many minutes.
  deletion_policy = "ABANDON"
}
