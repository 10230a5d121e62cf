"""What the command line tells of runs, workers and queues, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from graflow.codec import to_jsonable
from graflow.exceptions import GraflowError, GroupNotFoundError, SignatureError
from graflow_celery.broker.messages import queues_of
from graflow_celery.client.outcomes import MemberOutcome
from graflow_celery.deployment import WORKER_TTL, Deployment
from graflow_celery.errors import SILENT, RecordVersionError
from graflow_celery.record import GroupHeader, WorkerInfo


def headers(deployment: Deployment) -> Iterator[GroupHeader]:
    """Where the groups that have not ended stand; those whose record cannot be read are left out."""
    return (found for found in _found(deployment, ended=False) if isinstance(found, GroupHeader))


def listed_runs(deployment: Deployment, *, ended: bool = False) -> list[dict[str, Any]]:
    """Groups as `run_facts`, the oldest first; then those whose record cannot be read, with the reason.

    Args:
        deployment: Whose.
        ended: Whether to list those that have ended as well, as long as their results are kept.
    """
    found = list(_found(deployment, ended=ended))
    sound = sorted((one for one in found if isinstance(one, GroupHeader)), key=lambda header: header.opened_at)
    return [*map(run_facts, sound), *(one for one in found if not isinstance(one, GroupHeader))]


def _found(deployment: Deployment, *, ended: bool) -> Iterator[GroupHeader | dict[str, Any]]:
    record = deployment.record
    for run_id in record.groups() if ended else record.open_groups():
        try:
            yield record.header(run_id)
        except GroupNotFoundError as error:
            if error.why:  # else it has expired since it was listed
                yield _unreadable(run_id, error)
        except SILENT:
            raise
        except GraflowError as error:
            yield _unreadable(run_id, error)


def _unreadable(run_id: str, error: GraflowError) -> dict[str, Any]:
    state = {SignatureError: "UNSIGNED", RecordVersionError: "OTHER VERSION"}.get(type(error), "DAMAGED")
    return {"run_id": run_id, "state": state, "reason": str(error)}


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


def log_facts(outcome: MemberOutcome) -> list[dict[str, str]]:
    """What a member printed and logged, line by line."""
    return [
        {"at": line.at.isoformat(timespec="milliseconds"), "level": line.level, "text": line.text}
        for line in outcome.logs
    ]


def workers(deployment: Deployment) -> list[WorkerInfo]:
    """The workers that live, by name."""
    return sorted(deployment.record.live_workers(WORKER_TTL), key=lambda worker: worker.worker_id)


def worker_facts(worker: WorkerInfo) -> dict[str, Any]:
    """A worker: its slots, queues, modules and ids of signing keys."""
    return {"worker": worker.worker_id, **worker.info, "last_beat": _iso(worker.seen_at)}


def queue_facts(deployment: Deployment) -> Iterator[dict[str, Any]]:
    """Every queue that members wait in or that a worker consumes: its messages, its workers and their slots.

    `oldest` is since when the oldest group is open whose members wait in it; `done` counts what the workers that live
    have ended of it.

    Raises:
        BrokerUnreachableError: When the broker does not answer.
    """
    alive = workers(deployment)
    wanted = {deployment.settings.queue_name, *(name for worker in alive for name in worker.info.get("queues", ()))}
    since: dict[str, float] = {}
    for header in headers(deployment):
        wanted.update(queues_of(header.spec))
        if header.status.pending > header.status.retrying:
            for name in queues_of(header.spec):
                since[name] = min(since.get(name, header.opened_at), header.opened_at)
    for name, messages in deployment.queue.lengths(sorted(wanted)).items():
        slots = [int(worker.info.get("slots", 1)) for worker in alive if name in worker.info.get("queues", ())]
        yield {
            "queue": name,
            "messages": messages,
            "workers": len(slots),
            "slots": sum(slots),
            "oldest": _iso(since.get(name)) if messages else None,
            "done": sum(done_of(worker).get(name, 0) for worker in alive),
        }


def done_of(worker: WorkerInfo) -> dict[str, int]:
    """How many members a worker has ended, by queue; of one that tells nothing of it, or no numbers, none."""
    told = worker.info.get("done")
    if not isinstance(told, dict):
        return {}
    return {name: number for name, number in told.items() if type(number) is int}


def with_other_code(alive: Sequence[WorkerInfo]) -> set[str]:
    """Entries of the workers whose code is not that of most that run the same modules; of all where none are most."""
    kinds: dict[tuple[str, ...], list[WorkerInfo]] = {}
    for worker in alive:
        kinds.setdefault(tuple(worker.info.get("modules", ())), []).append(worker)
    found: set[str] = set()
    for alike in kinds.values():
        codes = Counter(str(worker.info.get("code")) for worker in alike).most_common()
        is_tied = len(codes) > 1 and codes[0][1] == codes[1][1]
        found.update(w.entry for w in alike if is_tied or str(w.info.get("code")) != codes[0][0])
    return found


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
