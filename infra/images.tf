# The repository of the images, and the bucket for the source of a build.

resource "google_artifact_registry_repository" "images" {
  repository_id = var.name
  location      = var.region
  format        = "DOCKER"
  description   = "Images of Tidemark."

  # Old images cost storage. A rollback needs the image of the earlier revision, so the
  # latest five images are kept.
  cleanup_policies {
    id     = "keep-latest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }
  cleanup_policies {
    id     = "delete-others"
    action = "DELETE"
    condition {
      older_than = "30d"
    }
  }

  depends_on = [google_project_service.this]
}

# The source that a build reads. Cloud Build would create its own bucket, which make
# destroy could not delete.
resource "google_storage_bucket" "builds" {
  name     = "${var.project}-${var.name}-builds"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  lifecycle_rule {
    condition {
      age = 1
    }
    action {
      type = "Delete"
    }
  }

  # A deleted source is not needed again, and its storage would cost money.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  depends_on = [google_project_service.this]
}
