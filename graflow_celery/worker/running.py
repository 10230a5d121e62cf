"""What runs in the current thread of a worker."""

from __future__ import annotations

from contextvars import ContextVar

from graflow.hearing.words import Words
from graflow_celery.deployment import Deployment


class RunningMember:
    """The member that the current thread runs on a worker.

    Attributes:
        words: What it has printed and logged; None while it has been silent, which nearly all are.
    """

    __slots__ = ("deployment", "index", "run_id", "words")

    def __init__(self, run_id: str, index: int, deployment: Deployment, words: Words | None = None) -> None:
        self.run_id = run_id
        self.index = index
        self.deployment = deployment
        self.words = words


holding_slot: ContextVar[bool] = ContextVar("graflow_holding_slot", default=False)
"""Whether a flow runs in this slot of a worker, which therefore runs members of its groups itself while it waits."""

running_member: ContextVar[RunningMember | None] = ContextVar("graflow_running_member", default=None)


def words_of_member() -> Words | None:
    """Those of the member that the current thread runs, if it runs one."""
    member = running_member.get()
    if member is None:
        return None
    if member.words is None:
        member.words = Words()
    return member.words
