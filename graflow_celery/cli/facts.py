"""What the command line tells of runs, workers and queues, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from graflow.codec import to_jsonable
from graflow.exceptions import GroupNotFoundError
from graflow_celery.broker.messages import queues_of
from graflow_celery.client.outcomes import MemberOutcome
from graflow_celery.deployment import WORKER_TTL, Deployment
from graflow_celery.record import GroupHeader, WorkerInfo


def headers(deployment: Deployment, *, ended: bool = False) -> list[GroupHeader]:
    """Where groups stand, the oldest first.

    Args:
        deployment: Whose.
        ended: Whether to list those that have ended as well, as long as their results are kept.
    """
    record = deployment.record
    found = (_header(deployment, run_id) for run_id in (record.groups() if ended else record.open_groups()))
    return sorted((header for header in found if header is not None), key=lambda header: header.opened_at)


def _header(deployment: Deployment, run_id: str) -> GroupHeader | None:
    try:
        return deployment.record.header(run_id)
    except GroupNotFoundError:  # it has expired since it was listed
        return None


def run_facts(header: GroupHeader) -> dict[str, Any]:
    """A group: its members counted by where they are, and why it was ended when the group itself was."""
    status = header.status
    return {
        "run_id": header.spec.run_id,
        "group_id": header.spec.group_id,
        **{name: getattr(status, name) for name in status.__dataclass_fields__},
        "reason": header.reason,
        "queue": header.spec.queue,
        "opened_at": _iso(header.opened_at or None),
        "finished_at": _iso(header.finished_at),
    }


def member_facts(outcome: MemberOutcome) -> dict[str, Any]:
    """How a member ended: with its value, or with its error."""
    shown: dict[str, Any] = {
        "index": outcome.index,
        "task_id": outcome.task_id,
        "state": str(outcome.state),
        "attempts": outcome.attempts,
        "losses": outcome.losses,
        "worker": outcome.worker,
        **{
            name: None if at is None else at.isoformat(timespec="milliseconds")
            for name, at in (("started_at", outcome.started_at), ("finished_at", outcome.finished_at))
        },
    }
    if outcome.error is None:
        shown["value"] = to_jsonable(outcome.value)
    else:
        error = outcome.error
        shown["error"] = {"type": error.type, "message": error.message, "traceback": error.traceback}
    return shown


def workers(deployment: Deployment) -> list[WorkerInfo]:
    """The workers that live, by name."""
    return sorted(deployment.record.live_workers(WORKER_TTL), key=lambda worker: worker.worker_id)


def worker_facts(worker: WorkerInfo) -> dict[str, Any]:
    """A worker: its slots, queues, modules and ids of signing keys."""
    return {"worker": worker.worker_id, **worker.info, "last_beat": _iso(worker.seen_at)}


def queue_facts(deployment: Deployment) -> Iterator[dict[str, Any]]:
    """Every queue that members wait in or that a worker consumes: its messages, its workers and their slots.

    Raises:
        BrokerUnreachableError: When the broker does not answer.
    """
    alive = workers(deployment)
    wanted = {deployment.settings.queue_name, *(name for worker in alive for name in worker.info.get("queues", ()))}
    wanted.update(name for header in headers(deployment) for name in queues_of(header.spec))
    for name, messages in deployment.queue.lengths(sorted(wanted)).items():
        slots = [int(worker.info.get("slots", 1)) for worker in alive if name in worker.info.get("queues", ())]
        yield {"queue": name, "messages": messages, "workers": len(slots), "slots": sum(slots)}


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
