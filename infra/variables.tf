variable "project" {
  description = "Id of the Google Cloud project for everything here."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "Want a project id such as my-project-123, not the project's name or number."
  }
}

variable "region" {
  description = "Region of the service, the scheduler job, the images and the counters."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Want a region such as us-central1, not a zone or a multi-region."
  }
}

variable "image" {
  description = "Container image with its digest, used when the service is created. make deploy builds the image and sets this variable. The variable may be empty only before the service exists."
  type        = string
  default     = ""

  validation {
    condition     = var.image == "" || can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Want an image with its digest, HOST/PATH@sha256:... A tag can later point to another image."
  }
}

variable "name" {
  description = "Name of the service, and prefix of the names of its accounts, subscription, job, repository and metrics."
  type        = string
  default     = "tidemark"

  validation {
    # An account's id has at most 30 characters, and the longest one ends in -scheduler.
    condition     = can(regex("^[a-z][a-z0-9-]{2,18}[a-z0-9]$", var.name))
    error_message = "Want 4 to 20 lower-case letters, digits and hyphens. The first must be a letter, the last must not be a hyphen."
  }
}

# What Tidemark counts.

variable "topic" {
  description = "Id of the topic with the events. Each pipeline has one topic, because message ids are unique only within a topic."
  type        = string
  default     = "my_topic"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", var.topic)) && !startswith(var.topic, "goog")
    error_message = "Want a topic's id such as my_topic, without projects/.../topics/ before it."
  }
}

variable "create_topic" {
  description = "Whether Terraform creates and destroys the topic. Set false for a topic that exists already."
  type        = bool
  default     = true
}

variable "pipeline_file" {
  description = "Path of a pipeline file, from this directory: what an event is, and what is counted. If it is empty, the events are the lab's. It cannot change to another pipeline later. First run tidemark check with the file: Terraform does not check the file, and creates the tables that it says."
  type        = string
  default     = ""

  validation {
    condition     = var.pipeline_file == "" ? true : length(file(var.pipeline_file)) < 32768
    error_message = "Want a file of less than 32 KiB: the service gets the text in an environment variable, and Cloud Run allows no more in one."
  }
}

variable "pipeline" {
  description = "Name of the pipeline; null means the name in the pipeline file, or minute-traffic without a file. With another name, all counts start from zero."
  type        = string
  default     = null

  validation {
    condition     = var.pipeline == null ? true : can(regex("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$", var.pipeline)) && !startswith(var.pipeline, "__")
    error_message = "Want 1 to 100 letters, digits, -, _ and ., and neither . nor __ at the beginning."
  }
  validation {
    condition     = var.pipeline == null || var.pipeline_file == ""
    error_message = "The pipeline file says the name: leave pipeline out."
  }
}

variable "window_duration" {
  description = "Length of a window in seconds; null means what the pipeline file says, or 60. A day must be a multiple of it. It cannot change once the pipeline has counted an event."
  type        = number
  default     = null

  validation {
    condition     = var.window_duration == null ? true : var.window_duration >= 1 && floor(var.window_duration) == var.window_duration && 86400 % var.window_duration == 0
    error_message = "Want whole seconds that divide a day, such as 60, 300 or 3600."
  }
  validation {
    condition     = var.window_duration == null || !contains(keys(local.decided), "window")
    error_message = "The pipeline file says window: leave window_duration out."
  }
}

variable "allowed_lateness" {
  description = "How many seconds after the end of its window an event may be published and still count; null means what the pipeline file says, or 120. You may raise it at any time."
  type        = number
  default     = null

  validation {
    condition     = var.allowed_lateness == null ? true : var.allowed_lateness >= 0 && floor(var.allowed_lateness) == var.allowed_lateness
    error_message = "Want whole seconds, zero or more."
  }
  validation {
    condition     = var.allowed_lateness == null || !contains(keys(local.decided), "lateness")
    error_message = "The pipeline file says lateness: leave allowed_lateness out."
  }
}

variable "settings" {
  description = "Other settings of the service, by their environment variables, such as { EVENT_TIME = \"publish\" }."
  type        = map(string)
  default     = {}

  validation {
    # run.tf sets the other settings, or they do not apply to Cloud Run.
    condition = length(setsubtract(keys(var.settings), [
      "MAX_CLOCK_SKEW", "EVENT_TIME", "EVENT_ID", "EMIT", "COMMIT_INTERVAL", "FLUSH_QUIET", "FLUSH_HOLD_MAX", "FLUSH_MAX_WINDOWS",
      "RAW_METHOD", "MAX_BODY", "QUEUE_LENGTH", "BATCH_ROWS", "BATCH_BYTES", "LOG_LEVEL",
    ])) == 0
    error_message = "A name is not a setting of the service on Cloud Run, or it is a setting that run.tf sets, from its own variable or with a fixed value."
  }
  validation {
    condition     = contains(["debug", "info"], lookup(var.settings, "LOG_LEVEL", "info"))
    error_message = "LOG_LEVEL must be info or debug, because the alerts count log lines of level info."
  }
}

# Where the data is.

variable "dataset" {
  description = "Id of the dataset for the tables."
  type        = string
  default     = "logs"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_]{0,199}$", var.dataset))
    error_message = "Want at most 200 letters, digits and underscores. The first must be a letter."
  }
}

variable "create_dataset" {
  description = "Whether Terraform creates and destroys the dataset. Set false for a dataset that exists already. Terraform always creates and destroys the tables in it."
  type        = bool
  default     = true
}

variable "bigquery_location" {
  description = "Location of the dataset. The location cannot change later."
  type        = string
  default     = "US"

  validation {
    condition     = can(regex("^(US|EU|[a-z]+-[a-z]+[0-9]+)$", var.bigquery_location))
    error_message = "Want US, EU or a region."
  }
}

variable "firestore_database" {
  description = "Id of the Firestore database for the counters; (default) is possible too. If Tidemark has its own database, IAM can keep the service out of all other databases."
  type        = string
  default     = "tidemark"

  validation {
    condition     = var.firestore_database == "(default)" || can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.firestore_database))
    error_message = "Want (default), or 4 to 63 lower-case letters, digits and hyphens. The first must be a letter, the last must not be a hyphen."
  }
}

variable "firestore_location" {
  description = "Location of the database; null means the region. The location cannot change later."
  type        = string
  default     = null
}

variable "message_retention_hours" {
  description = "Hours that Pub/Sub keeps a message that is not acknowledged. A longer outage loses messages."
  type        = number
  default     = 168

  validation {
    condition     = var.message_retention_hours >= 1 && var.message_retention_hours <= 744
    error_message = "Want 1 to 744 hours (31 days)."
  }
}

variable "counter_retention_hours" {
  description = "Hours that settled counters are kept (COUNTER_RETENTION)."
  type        = number
  default     = 192

  validation {
    condition     = floor(var.counter_retention_hours) == var.counter_retention_hours && var.counter_retention_hours >= var.message_retention_hours + 24
    error_message = "Want whole hours, at least 24 more than message_retention_hours: Pub/Sub may deliver a message again as long as it keeps the message, and the counter that has its id must still exist then."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the tables, the dataset and the database. make destroy asks you, and then turns this protection off."
  type        = bool
  default     = true
}

# What the service may use.

variable "max_instances" {
  description = "Most instances at a time. This limits the cost."
  type        = number
  default     = 10

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100 && floor(var.max_instances) == var.max_instances
    error_message = "Want 1 to 100 instances. More than 100 were never tested."
  }
}

variable "concurrency" {
  description = "Most requests at a time for each instance. Many are cheap: requests share their writes, and a push mostly waits for its batch."
  type        = number
  default     = 250

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 1000 && floor(var.concurrency) == var.concurrency
    error_message = "Want 1 to 1000."
  }
}

variable "billing" {
  description = "What Cloud Run bills: request (each request, and a processor while a request is open) or instance (each instance for as long as it runs; at least one always runs, because a flush comes each minute). docs/cost.md says from which rate of events instance is cheaper."
  type        = string
  default     = "request"

  validation {
    condition     = contains(["request", "instance"], var.billing)
    error_message = "Want request or instance."
  }
}

variable "keep_request_log" {
  description = "Whether to keep Cloud Run's own log entries of good requests, one for each push. Nothing here needs them, and for a busy service they cost more than anything else."
  type        = bool
  default     = false
}

# Who may read audits and metrics, and who gets the alerts.

variable "viewers" {
  description = "Who may impersonate the viewer account to read audits and metrics: [\"user:ann@example.com\", \"group:data@example.com\"]."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for m in var.viewers : can(regex("^(user|group|serviceAccount):[^@: ]+@[^@: ]+$", m))])
    error_message = "Want user:, group: or serviceAccount: and an e-mail address. allUsers and whole domains are not allowed."
  }
}

variable "deployer" {
  description = "One more viewer: the account that ran make deploy. make deploy sets this variable, so that make smoke can ask for an audit."
  type        = string
  default     = ""

  validation {
    condition     = var.deployer == "" || can(regex("^(user|serviceAccount):[^@: ]+@[^@: ]+$", var.deployer))
    error_message = "Want user: or serviceAccount: and an e-mail address."
  }
}

variable "alerts" {
  description = "Whether to create the alerts. Cloud Monitoring bills each alert monthly (README.md, \"What it costs\")."
  type        = bool
  default     = true
}

variable "alert_email" {
  description = "E-mail address for alerts. If it is empty, alerts are only shown in the console."
  type        = string
  default     = ""

  validation {
    condition     = var.alert_email == "" || can(regex("^[^@ ]+@[^@ ]+$", var.alert_email))
    error_message = "Want an e-mail address."
  }
}

variable "dead_letters_tolerated" {
  description = "How many dead letters within ten minutes raise no alert, for producers that are known to send some."
  type        = number
  default     = 0

  validation {
    condition     = var.dead_letters_tolerated >= 0
    error_message = "Want zero or more."
  }
}
