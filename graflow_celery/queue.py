"""The queue of tasks on their own, under the path that programs import it from."""

from __future__ import annotations

from graflow_celery.broker.task_queue import RedisTaskQueue

__all__ = ["RedisTaskQueue"]
