"""What `celery -A graflow_celery …` reads when it is started in this directory.

Lower-case names are Celery's own settings; `graflow_<name>` are the settings of docs/distributed.md, here with their
defaults. What the environment (`GRAFLOW_<NAME>`) or a `backend_config` says wins over this file. Where Redis is, and
the signing key, are no matter for a repository: they come from `GRAFLOW_REDIS_URL` and `GRAFLOW_SIGNING_KEY`.
"""

# Modules whose tasks workers may run, beside those named with --graflow-import.
imports = ("examples.tasks",)

# Namespace of keys and queues: two deployments on one Redis do not meet.
graflow_key_prefix = "graflow"

# Seconds without a heartbeat after which a worker counts as lost, and executions of a member whose worker was lost.
graflow_lease = 30.0
graflow_max_attempts = 4

# Seconds between looks for lost members, and seconds that outcomes are kept after the end of a group.
graflow_sweep_interval = 1.0
graflow_result_ttl = 86400.0
