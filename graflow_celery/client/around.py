"""What is different for whoever submits a group inside a member."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from graflow.runtime import persistently
from graflow_celery.deployment import Deployment
from graflow_celery.worker.running import running_member

_T = TypeVar("_T")


def patiently(deployment: Deployment, call: Callable[[], _T]) -> _T:
    """What an idempotent call of the record gives; inside a member it is repeated while the record does not answer.

    A server that is away for a moment would otherwise be a failure of the member around the group.
    """
    if running_member.get() is None:
        return call()
    return persistently(deployment.runtime, call, patience=deployment.patience.member)


def run_around() -> str | None:
    """The group run whose member submits, if one does."""
    around = running_member.get()
    return None if around is None else around.run_id
