"""Groups of a workflow on Celery workers. Importing this package connects to nothing."""

from __future__ import annotations

from graflow.core.bulk.garbage import no_collections

with no_collections():  # of what importing makes, nothing is garbage, and a sixth of its time went into looking
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
    from graflow_celery.broker.app import app
    from graflow_celery.broker.task_queue import RedisTaskQueue
    from graflow_celery.client.api import attach, submit
    from graflow_celery.client.coordinator import RedisCoordinator
    from graflow_celery.client.handle import GroupHandle
    from graflow_celery.client.outcomes import MemberOutcome
    from graflow_celery.client.progress import MemberProgress
    from graflow_celery.errors import BrokerUnreachableError, RecordFullError, RecordUnreachableError, RetryRefusedError
    from graflow_celery.local import LocalCluster
    from graflow_celery.record import GroupState, GroupStatus, MemberState
    from graflow_celery.worker.task_worker import TaskWorker

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
    "RetryRefusedError",
    "TaskResolutionError",
    "TaskWorker",
    "app",
    "attach",
    "submit",
]
