terraform {
  # Version 1.9 allows validations that compare two variables.
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.45"
    }
  }

  # The state is a file in this directory. A team keeps the state in a bucket (README.md,
  # "State").
}

provider "google" {
  project = var.project
  region  = var.region

  default_labels = {
    app = var.name
  }
}

# The name of Pub/Sub's own account contains the project's number (iam.tf).
data "google_project" "this" {
  depends_on = [google_project_service.this]
}
