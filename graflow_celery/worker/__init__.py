"""What runs members on a worker, and `TaskWorker`, which starts one from code."""

from __future__ import annotations

from graflow_celery.worker.task_worker import TaskWorker

__all__ = ["TaskWorker"]
