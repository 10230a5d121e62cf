"""Workers, queues and groups as programs look at them over HTTP: what is behind `graflow.cluster_views`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from graflow.exceptions import ConfigError, GroupNotFoundError, GroupTimeoutError
from graflow.redis.named import NAMES_OF_SERVERS
from graflow_celery.cli.facts import done_of, listed_runs, queue_facts, with_other_code, workers
from graflow_celery.client.coordinator import tries_of
from graflow_celery.client.handle import GroupHandle
from graflow_celery.client.outcomes import MemberOutcome
from graflow_celery.client.progress import latest_progress
from graflow_celery.deployment import Deployment, connected
from graflow_celery.record import GroupHeader, GroupState, MemberState
from graflow_celery.settings import GroupOptions

_STATES: Final[Mapping[str, str]] = {
    GroupState.OPENING: "pending",
    GroupState.RUNNING: "running",
    GroupState.DONE: "completed",
    GroupState.FAILED: "failed",
    GroupState.CANCELLED: "cancelled",
}
_ENDS: Final[Mapping[MemberState, str]] = {
    MemberState.SUCCEEDED: "completed",
    MemberState.FAILED: "failed",
    MemberState.TIMED_OUT: "failed",
    MemberState.CANCELLED: "cancelled",
    MemberState.LOST: "lost",
}
_TRIED_AGAIN: Final = frozenset({GroupState.FAILED, GroupState.CANCELLED})
_LOOKED_INTO: Final = 100  # open groups whose running members are told of workers

Facts = dict[str, Any]


class ClusterViews:
    """What one deployment has, as plain data; times are seconds since the epoch.

    Args:
        deployment: The deployment.
        options: What its settings say of groups.
    """

    def __init__(self, deployment: Deployment, options: GroupOptions) -> None:
        self._deployment = deployment
        self._options = options

    def workers(self) -> list[Facts]:
        """The workers that live, by name, with the members that they run."""
        with self._connected() as here:
            running, alive = self._running(here), workers(here)
            others = with_other_code(alive)
            return [
                {
                    "name": worker.worker_id,
                    "status": "running" if worker.worker_id in running else "ready",
                    "queues": list(worker.info.get("queues", ())),
                    "slots": worker.info.get("slots"),
                    "busy": len(running.get(worker.worker_id, ())),
                    "now": running.get(worker.worker_id, [])[:3],
                    "beat": worker.seen_at,
                    "version": worker.info.get("version"),
                    "done": sum(done_of(worker).values()),
                    "lost": worker.info.get("lost"),
                    "is_same_code": worker.entry not in others,
                }
                for worker in alive
            ]

    def queues(self) -> list[Facts]:
        """Queues with their messages, and how many workers listen."""
        with self._connected() as here:
            return [{"name": facts.pop("queue"), **facts} for facts in queue_facts(here)]

    def groups(self) -> list[Facts]:
        """All groups whose record is kept, the newest first; those that cannot be read with the reason."""
        with self._connected() as here:
            return [_listed(facts) for facts in reversed(listed_runs(here, ended=True))]

    def group(self, run_id: str) -> Facts:
        """One group.

        Raises:
            GroupNotFoundError: There is no such run.
        """
        with self._connected() as here:
            return _group(here.record.header(run_id))

    def members(self, run_id: str) -> list[Facts]:
        """What is known of members that run or have ended, by index; the others wait.

        Raises:
            GroupNotFoundError: There is no such run.
        """
        with self._connected() as here:
            header = here.record.header(run_id)
            handle = GroupHandle(here, header.spec, self._options, epoch=header.epoch)
            found = _running(here, run_id, with_progress=True)
            with suppress(GroupTimeoutError):
                for outcome in handle.as_completed(0):
                    found[outcome.index] = _member(outcome)
            return [found[index] for index in sorted(found)]

    def running(self, run_key: str, *, with_progress: bool = False) -> list[Facts]:
        """The members of a group of a flow that somebody runs now, by index; none when it is not on workers."""
        with self._connected() as here, suppress(GroupNotFoundError):
            for run_id in tries_of(run_key):
                if here.record.status(run_id).state not in _TRIED_AGAIN:
                    return list(_running(here, run_id, with_progress=with_progress).values())
        return []

    @contextmanager
    def _connected(self) -> Iterator[Deployment]:
        with self._deployment.errors():
            yield self._deployment

    def _running(self, here: Deployment) -> dict[str, list[Facts]]:
        """By worker, the members that it runs, of as many groups as are looked into."""
        found: dict[str, list[Facts]] = {}
        for facts in listed_runs(here)[:_LOOKED_INTO]:
            if not facts.get("running"):
                continue
            for claim in here.record.claimed(facts["run_id"]):
                now = {"run_id": facts["run_id"], "name": facts["group_id"], "index": claim.index}
                found.setdefault(claim.owner.rpartition(":")[0], []).append(now)
        return found


def cluster_views(config: Mapping[str, Any] | None) -> ClusterViews:
    """The views of a deployment.

    Args:
        config: A `backend_config`; what is said nowhere else is looked for in the environment and the configuration.

    Raises:
        ConfigError: When nobody says which Redis is meant.
    """
    found, options = connected(config, strict=False)
    if not found.settings.connection.keys() & set(NAMES_OF_SERVERS):
        raise ConfigError("No Redis of workers is named: set GRAFLOW_REDIS_URL to see workers, queues and groups")
    return ClusterViews(found, options)


def _running(here: Deployment, run_id: str, *, with_progress: bool) -> dict[int, Facts]:
    """The members of a group that somebody runs, by index."""
    found: dict[int, Facts] = {
        claim.index: {
            "index": claim.index,
            "status": "running",
            "attempts": claim.attempt,
            "worker": claim.owner.rpartition(":")[0] or None,
            "queued_at": claim.queued_at,
            "started_at": claim.claimed_at,
        }
        for claim in here.record.claimed(run_id)
    }
    for index, told in latest_progress(here.record, run_id).items() if found and with_progress else ():
        if index in found and found[index]["attempts"] == told.attempt:
            found[index]["progress"] = {"done": told.done, "total": told.total, "message": told.message}
    return found


def _listed(facts: Facts) -> Facts:
    if "group_id" not in facts:
        return {"run_id": facts["run_id"], "name": None, "status": "lost", "reason": facts["reason"], "counts": {}}
    return {
        "run_id": facts["run_id"],
        "name": facts["group_id"],
        "status": _STATES.get(facts["state"], str(facts["state"]).lower()),
        "size": facts["total"],
        "counts": _counts(facts),
        "started_at": facts["opened_at"],
        "completed_at": facts["finished_at"],
        "queue": facts["queue"],
        "reason": facts["reason"] or None,
    }


def _group(header: GroupHeader) -> Facts:
    status = header.status
    counted = {name: getattr(status, name) for name in status.__dataclass_fields__}
    return {
        "run_id": header.spec.run_id,
        "name": header.spec.group_id,
        "status": _STATES.get(header.state, str(header.state).lower()),
        "size": status.total,
        "counts": _counts(counted),
        "started_at": header.opened_at or None,
        "completed_at": header.finished_at,
        "queue": header.spec.queue,
        "reason": header.reason or None,
        "parent_run": header.spec.parent_run,
        "executions": status.executions,
        "losses": status.losses,
        "retries": status.retries,
    }


def _counts(facts: Mapping[str, Any]) -> dict[str, int]:
    retrying = int(facts["retrying"])
    counts = {
        "completed": facts["succeeded"],
        "running": facts["running"],
        "retrying": retrying,
        "failed": facts["failed"],
        "lost": facts["lost"],
        "cancelled": facts["cancelled"],
        "pending": facts["pending"] - retrying,
    }
    return {state: int(number) for state, number in counts.items() if number}


def _member(outcome: MemberOutcome) -> Facts:
    error = outcome.error
    return {
        "index": outcome.index,
        "task_id": outcome.task_id,
        "status": _ENDS[outcome.state],
        "attempts": outcome.attempts,
        "losses": outcome.losses,
        "worker": outcome.worker,
        "queued_at": None if outcome.queued_at is None else outcome.queued_at.timestamp(),
        "started_at": None if outcome.started_at is None else outcome.started_at.timestamp(),
        "completed_at": None if outcome.finished_at is None else outcome.finished_at.timestamp(),
        "error": None if error is None else f"{error.type}: {error.message}",
        "error_data": None if error is None else error.to_dict(),
    }
