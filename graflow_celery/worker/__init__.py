"""What runs members on a worker, and `TaskWorker`, which starts one from code."""

from __future__ import annotations

from graflow_celery.worker.process import TaskWorker

__all__ = ["TaskWorker"]
