"""Groups of a workflow on Celery workers. Importing this package connects to nothing."""

from __future__ import annotations

from graflow.exceptions import (
    ConfigError,
    GroupConflictError,
    GroupLostError,
    GroupNotFoundError,
    GroupTimeoutError,
    NoWorkerError,
    ParallelGroupError,
    PayloadError,
    RemoteTaskError,
    TaskResolutionError,
)
from graflow_celery.celery_app import app
from graflow_celery.coordinator import RedisCoordinator
from graflow_celery.deployment import RecordUnreachableError
from graflow_celery.handle import GroupHandle
from graflow_celery.local import LocalCluster
from graflow_celery.outcomes import MemberOutcome
from graflow_celery.progress import MemberProgress
from graflow_celery.publishing import BrokerUnreachableError
from graflow_celery.queue import RedisTaskQueue
from graflow_celery.record import GroupState, GroupStatus, MemberState, RecordFullError
from graflow_celery.submitting import attach, submit
from graflow_celery.worker import TaskWorker

__all__ = [
    "BrokerUnreachableError",
    "ConfigError",
    "GroupConflictError",
    "GroupHandle",
    "GroupLostError",
    "GroupNotFoundError",
    "GroupState",
    "GroupStatus",
    "GroupTimeoutError",
    "LocalCluster",
    "MemberOutcome",
    "MemberProgress",
    "MemberState",
    "NoWorkerError",
    "ParallelGroupError",
    "PayloadError",
    "RecordFullError",
    "RecordUnreachableError",
    "RedisCoordinator",
    "RedisTaskQueue",
    "RemoteTaskError",
    "TaskResolutionError",
    "TaskWorker",
    "app",
    "attach",
    "submit",
]
