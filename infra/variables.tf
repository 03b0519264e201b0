variable "project" {
  description = "Id of the Google Cloud project that everything is made in."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "Want a project id, as my-project-123: not its name and not its number."
  }
}

variable "region" {
  description = "Region of the service, the scheduler job, the images and the counters."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Want a region, as us-central1: not a zone and not a multi-region."
  }
}

variable "image" {
  description = "Container image that the service is made with, by digest. make deploy builds and sets it; empty only while there is no service yet."
  type        = string
  default     = ""

  validation {
    condition     = var.image == "" || can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Want an image by digest, as HOST/PATH@sha256:...: a tag may be another image tomorrow."
  }
}

variable "name" {
  description = "Name of the service, and prefix of what belongs to it alone: accounts, subscription, job, repository, metrics."
  type        = string
  default     = "tidemark"

  validation {
    # An account's id has at most 30 characters, and ours end in -scheduler.
    condition     = can(regex("^[a-z][a-z0-9-]{2,18}[a-z0-9]$", var.name))
    error_message = "Want 4 to 20 lower-case letters, digits and hyphens, beginning with a letter and not ending in a hyphen."
  }
}

# What is counted.

variable "topic" {
  description = "Id of the topic with the events. One topic for each pipeline: message ids are unique in a topic only."
  type        = string
  default     = "my_topic"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", var.topic)) && !startswith(var.topic, "goog")
    error_message = "Want a topic's id, as my_topic: without projects/.../topics/ before it."
  }
}

variable "create_topic" {
  description = "Whether the topic is made, and destroyed, here. False for one that is there already."
  type        = bool
  default     = true
}

variable "pipeline" {
  description = "Name of the pipeline. Another name starts counting afresh."
  type        = string
  default     = "minute-traffic"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$", var.pipeline)) && !startswith(var.pipeline, "__")
    error_message = "Want 1 to 100 letters, digits, -, _ and ., not beginning with . or __."
  }
}

variable "window_duration" {
  description = "Length of a window in seconds; it divides a day. It cannot change for a pipeline that has counted."
  type        = number
  default     = 60

  validation {
    condition     = var.window_duration >= 1 && floor(var.window_duration) == var.window_duration && 86400 % var.window_duration == 0
    error_message = "Want whole seconds that divide a day, as 60, 300 or 3600."
  }
}

variable "allowed_lateness" {
  description = "Seconds after its window's end that an event may be published and still be counted. It may be raised freely."
  type        = number
  default     = 120

  validation {
    condition     = var.allowed_lateness >= 0 && floor(var.allowed_lateness) == var.allowed_lateness
    error_message = "Want whole seconds, zero or more."
  }
}

variable "settings" {
  description = "Other settings of the service, by the names of its environment variables, as { EVENT_TIME = \"publish\" }."
  type        = map(string)
  default     = {}

  validation {
    # Those that are not here are set in run.tf, or are not for Cloud Run.
    condition = length(setsubtract(keys(var.settings), [
      "MAX_CLOCK_SKEW", "EVENT_TIME", "EVENT_ID", "EMIT", "COMMIT_INTERVAL", "FLUSH_QUIET", "FLUSH_HOLD_MAX", "FLUSH_MAX_WINDOWS",
      "RAW_METHOD", "MAX_BODY", "QUEUE_LENGTH", "BATCH_ROWS", "BATCH_BYTES", "LOG_LEVEL",
    ])) == 0
    error_message = "A name is no setting of the service, or one that a variable of its own sets, or one that Terraform ties to something else."
  }
  validation {
    condition     = contains(["debug", "info"], lookup(var.settings, "LOG_LEVEL", "info"))
    error_message = "Alerts count log lines of level info, so LOG_LEVEL is info or debug."
  }
}

# Where it is kept.

variable "dataset" {
  description = "Id of the dataset of the tables."
  type        = string
  default     = "logs"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_]{0,199}$", var.dataset))
    error_message = "Want at most 200 letters, digits and underscores, beginning with a letter."
  }
}

variable "create_dataset" {
  description = "Whether the dataset is made, and destroyed, here. False for one that is there already. The tables in it always are."
  type        = bool
  default     = true
}

variable "bigquery_location" {
  description = "Location of the dataset. It cannot change later."
  type        = string
  default     = "US"

  validation {
    condition     = can(regex("^(US|EU|[a-z]+-[a-z]+[0-9]+)$", var.bigquery_location))
    error_message = "Want US, EU or a region."
  }
}

variable "firestore_database" {
  description = "Id of the Firestore database of the counters; (default) is one too. A database of its own lets IAM keep the service out of all others."
  type        = string
  default     = "tidemark"

  validation {
    condition     = var.firestore_database == "(default)" || can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.firestore_database))
    error_message = "Want (default), or 4 to 63 lower-case letters, digits and hyphens, beginning with a letter and not ending in a hyphen."
  }
}

variable "firestore_location" {
  description = "Location of the database; the region if null. It cannot change later."
  type        = string
  default     = null
}

variable "message_retention_hours" {
  description = "How long Pub/Sub keeps what is not acknowledged: the longest outage that loses nothing."
  type        = number
  default     = 168

  validation {
    condition     = var.message_retention_hours >= 1 && var.message_retention_hours <= 744
    error_message = "Want 1 to 744 hours (31 days)."
  }
}

variable "counter_retention_hours" {
  description = "How long settled counters are kept (COUNTER_RETENTION)."
  type        = number
  default     = 192

  validation {
    condition     = floor(var.counter_retention_hours) == var.counter_retention_hours && var.counter_retention_hours >= var.message_retention_hours + 24
    error_message = "Want at least a day more than message_retention_hours: a message may come again as long as Pub/Sub keeps it, and must find the counter that knows it."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the tables, the dataset and the database. make destroy turns it off, after it has asked."
  type        = bool
  default     = true
}

# What it may use.

variable "max_instances" {
  description = "The most instances at a time: the bound on the bill."
  type        = number
  default     = 10

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100 && floor(var.max_instances) == var.max_instances
    error_message = "Want 1 to 100 instances; more is more than any topic here was tried with."
  }
}

variable "concurrency" {
  description = "Requests at a time for each instance. They share their writes, so many are cheap: a push mostly waits for its batch."
  type        = number
  default     = 250

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 1000 && floor(var.concurrency) == var.concurrency
    error_message = "Want 1 to 1000."
  }
}

variable "billing" {
  description = "What Cloud Run is paid for: request (each request, and a processor while one is open) or instance (the instances as long as they live: one does day and night, since a flush comes each minute). docs/cost.md says from which rate on instance is the cheaper one."
  type        = string
  default     = "request"

  validation {
    condition     = contains(["request", "instance"], var.billing)
    error_message = "Want request or instance."
  }
}

variable "keep_request_log" {
  description = "Whether Cloud Run's own log entries of good requests are kept, one for each push. Nothing here needs them, and a busy service pays more for them than for anything else."
  type        = bool
  default     = false
}

# Who may look, and who is told.

variable "viewers" {
  description = "Who may read audits and metrics, by impersonating the viewer account: [\"user:ann@example.com\", \"group:data@example.com\"]."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for m in var.viewers : can(regex("^(user|group|serviceAccount):[^@: ]+@[^@: ]+$", m))])
    error_message = "Want user:, group: or serviceAccount: and an e-mail address; allUsers and whole domains are refused."
  }
}

variable "deployer" {
  description = "One more viewer: whoever ran make deploy. It sets this, so that make smoke can ask for an audit."
  type        = string
  default     = ""

  validation {
    condition     = var.deployer == "" || can(regex("^(user|serviceAccount):[^@: ]+@[^@: ]+$", var.deployer))
    error_message = "Want user: or serviceAccount: and an e-mail address."
  }
}

variable "alerts" {
  description = "Whether the alerts are made. Cloud Monitoring bills each by the month (README.md, \"What it costs\")."
  type        = bool
  default     = true
}

variable "alert_email" {
  description = "Where alerts are mailed. Empty: they are shown in the console and nobody is told."
  type        = string
  default     = ""

  validation {
    condition     = var.alert_email == "" || can(regex("^[^@ ]+@[^@ ]+$", var.alert_email))
    error_message = "Want an e-mail address."
  }
}

variable "dead_letters_tolerated" {
  description = "Dead letters within ten minutes that alarm nobody, for producers that are known to send some."
  type        = number
  default     = 0

  validation {
    condition     = var.dead_letters_tolerated >= 0
    error_message = "Want zero or more."
  }
}
