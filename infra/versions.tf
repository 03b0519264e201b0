terraform {
  # 1.9 for validations that look at two variables.
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.45"
    }
  }

  # The state is a file in this directory. A team keeps it in a bucket: README.md, "State".
}

provider "google" {
  project = var.project
  region  = var.region

  default_labels = {
    app = var.name
  }
}

# For its number, which is in the name of Pub/Sub's own account (iam.tf).
data "google_project" "this" {
  depends_on = [google_project_service.this]
}
