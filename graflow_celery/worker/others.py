"""Members that a worker cannot run, and who else can: after a deployment, workers with other code live side by side."""

from __future__ import annotations

from typing import Final

from graflow.exceptions import TaskResolutionError, UnknownTaskError
from graflow.spells import is_news
from graflow.text.shown import get_logger
from graflow_celery.broker.messages import queues_of
from graflow_celery.deployment import Deployment
from graflow_celery.errors import TRY_AGAIN
from graflow_celery.record import GroupSpec, WorkerInfo

_log = get_logger(__name__)

_DELAY: Final = 1.0  # seconds until a member is offered again
_KNOWN_FOR: Final = 0.5  # seconds for which an answer stands
_SHOWN: Final = 5  # workers that an error names
WORKER_WAIT: Final = 10.0
"""Seconds in which a worker has to come that knows a task, unless the group says otherwise in `meta`."""


def name_in_table(reference: str, resolver_id: str) -> str:
    """What a worker tells of a task that it knows: the same reference may stand in the table of one resolver alone."""
    return reference if resolver_id == "default" else f"{resolver_id}={reference}"


class OtherWorkers:
    """Tells, for the members of one run, whether some other live worker knows a task that is unknown here.

    Args:
        deployment: Where the workers are.
        spec: The group.
        worker: The name of this one.
    """

    def __init__(self, deployment: Deployment, spec: GroupSpec, worker: str) -> None:
        self._deployment = deployment
        self._spec = spec
        self._worker = worker
        self._asked: dict[str, float] = {}

    def wait_for(self, error: UnknownTaskError) -> float:
        """Seconds after which a member that is unknown here is to be offered again.

        Raises:
            TaskResolutionError: When no live worker has known it for as long as the group waits for workers.
        """
        now, reference = self._deployment.runtime.monotonic(), error.reference
        if now - self._asked.get(reference, now - _KNOWN_FOR) < _KNOWN_FOR:
            return _DELAY
        try:
            alive = self._alive()
            knowing = [worker.worker_id for worker in self._knowing(alive, reference)]
            lacking = self._deployment.record.lacking(self._spec.run_id, reference, is_known=bool(knowing))
        except TRY_AGAIN:
            return _DELAY
        if not knowing and lacking >= float(self._spec.meta.get("worker_wait", WORKER_WAIT)):
            seen = ", ".join(sorted({worker.worker_id for worker in alive})[:_SHOWN]) or "none"
            raise TaskResolutionError(f"{error}; no live worker knows '{reference}' (seen: {seen})") from error
        self._asked[reference] = now
        if is_news(("unknown task", self._spec.run_id, reference)):
            who = f"{', '.join(knowing[:_SHOWN])} can run them" if knowing else "no live worker can run them yet"
            _log.warning(
                "Run %s: members are given back, since '%s' is not known here; %s", self._spec.run_id, reference, who
            )
        return _DELAY

    def _alive(self) -> list[WorkerInfo]:
        """The workers of the queues that members of the group may wait in."""
        found = {worker.entry: worker for queue in queues_of(self._spec) for worker in self._deployment.workers(queue)}
        return list(found.values())

    def _knowing(self, alive: list[WorkerInfo], reference: str) -> list[WorkerInfo]:
        tasks = self._deployment.record.workers.tasks([worker.entry for worker in alive])
        return [worker for worker, known in zip(alive, tasks, strict=True) if reference in known]
